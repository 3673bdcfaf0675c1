# SPDX-License-Identifier: Apache-2.0
"""FORTUNE's tables and figures beside its own values, and what reading protected weights costs.

    python benchmarks/fortune.py --case run vgg11 resnet18 --data CIFAR10     the flows of these networks, one by one
    python benchmarks/fortune.py --case tables --out runs/fortune             tables and figures of what has run
    python benchmarks/fortune.py --case run vgg11 --bers 1e-3 3e-3            rates beyond the paper's, over bits alone
    python benchmarks/fortune.py --case tables --bers 1e-3 3e-3               whether its order holds there
    python benchmarks/fortune.py --case decode --json runs/fortune/decode.json

"run" does what `bitward run flows/fortune/NETWORK-ROW.yaml` does for every row, and goes on where it was cut off.
"tables" prints Table I (accuracy), Table II (memory, vulnerability, P_drop) and whether the paper's order holds, for
whatever summaries lie in --runs, and leaves fig5.png to fig7.png and tables.json in --out. A cell over several seeds
has the interval between seeds, one of a single seed that over its fault sets. Networks are of the width that their flow
says, so memory is compared as a share of that of 8-bit words.

"decode" reads 11 million (--weights) protected weights of 3, 4 and 5 bits: by bitward's schemes; by plain numpy, with
no checks of its input; by numpy on single bits; and weight by weight in Python, on --loop weights, from which the time
of all is extrapolated: once over the elements of a tensor, as the paper's released code goes about it, and once over a
list of integers, which is as quick as such a loop can be. On the GPU: "not measured" where torch has none.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fortune_paper import ACCURACY, BERS, TABLE_II
from fortune_tables import Cell, Found, cells_of, figures, ordering, table_1, table_2
from rich.console import Console

from bitward.datasets import Dataset, load_dataset
from bitward.errors import BitwardError
from bitward.flow.software import run_software
from bitward.flow.software_spec import SoftwareFlow, load_software_flow
from bitward.schemes import Tmr
from bitward.tools import atomic_write, output_directory, resource

ROWS = ("8bit", "5bit", "4bit", "3bit", "p5", "p4", "p3")
WIDTHS = (3, 4, 5)


def at_rates(flow: SoftwareFlow, bers: Sequence[float] | None) -> SoftwareFlow:
    """The flow as it is, or, with rates of one's own, at these over bits alone, in a folder of its own."""
    if bers is None:
        return flow
    inject = flow.inject.model_copy(update={"bers": tuple(bers), "spread": ("bits",)})
    return flow.model_copy(update={"name": flow.name + suffix(bers), "inject": inject})


def suffix(bers: Sequence[float] | None) -> str:
    """What the folders of runs at other rates than the paper's end in."""
    return "" if bers is None else "-at-" + "-".join(f"{ber:g}" for ber in bers)


def run_flows(given: argparse.Namespace) -> int:
    """Every row of the networks named."""
    console, read = Console(), dict[str, Dataset]()
    for network in given.networks:
        for row in given.rows:
            flow = at_rates(load_software_flow(resource(f"flows/fortune/{network}-{row}.yaml")), given.bers)
            if flow.dataset not in read:
                read[flow.dataset] = load_dataset(flow.dataset, given.data)
            console.print(f"[b]{flow.name}")
            run_software(flow, given.runs, console, data=given.data, images=read[flow.dataset])
    return 0


def read_runs(runs: Path, bers: Sequence[float] | None = None) -> Found:
    """The summaries of every row that has run, by (network, row)."""
    found: Found = {}
    for network in ACCURACY:
        for row in ROWS:
            path = runs / f"{network}-{row}{suffix(bers)}" / "summary.json"
            if path.is_file():
                found[network, row] = json.loads(path.read_text())
    return found


def tables(given: argparse.Namespace) -> int:
    """Tables and figures are printed and written; 1 where nothing has run yet."""
    found = read_runs(given.runs, given.bers)
    if not found:
        print(f"no summary in {given.runs}: run --case run first", file=sys.stderr)
        return 1
    cells: dict[tuple[str, str], list[Cell]] = {key: cells_of(summary) for key, summary in found.items()}
    if given.bers is not None:
        print(ordering(cells, given.bers))
        return 0
    parts = [table_1(found, ACCURACY), table_2(found, cells, TABLE_II, BERS), ordering(cells, BERS)]
    out = output_directory(given.out)
    atomic_write(out / "tables.md", "\n\n".join(parts) + "\n")
    record = {f"{network}-{row}": [vars(cell) for cell in each] for (network, row), each in cells.items()}
    atomic_write(out / "tables.json", json.dumps(record, indent=1) + "\n")
    figures(found, cells, out)
    print("\n\n".join(parts))
    return 0


# -- what reading costs ------------------------------------------------------------------------------------------------


def seconds(work: Callable[[], Any], repeats: int) -> float:
    """Processor seconds of the quickest of so many runs."""
    times = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times)


def by_list(stored: Sequence[int], bits: int) -> list[int]:
    """Weight by weight, from a list: three copies of the top bit, compared; as FORTUNE's figure 4."""
    read = []
    for word in stored:
        one, two, three = word >> (bits - 1) & 1, word >> bits & 1, word >> (bits + 1) & 1
        majority = one if one == two else three
        read.append(word & (1 << bits - 1) - 1 | majority << (bits - 1))
    return read


def by_element(stored: torch.Tensor, bits: int) -> torch.Tensor:
    """Weight by weight, each element of the tensor read, voted and written."""
    read = stored.clone()
    for place in range(len(stored)):
        word = int(stored[place])
        one, two, three = word >> (bits - 1) & 1, word >> bits & 1, word >> (bits + 1) & 1
        majority = one if one == two else three
        read[place] = word & (1 << bits - 1) - 1 | majority << (bits - 1)
    return read


def by_numpy(stored: np.ndarray, bits: int) -> np.ndarray:
    """Shifts and masks on whole arrays, nothing checked."""
    one, two, three = (stored >> (bits - 1) & 1, stored >> bits & 1, stored >> (bits + 1) & 1)
    majority = one & two | one & three | two & three
    return stored & (1 << bits - 1) - 1 | majority << (bits - 1)


def by_bits(stored: np.ndarray, bits: int) -> np.ndarray:
    """Every bit unpacked, the three copies added up, packed again."""
    unpacked = np.unpackbits(stored[:, None], axis=1, bitorder="little")
    majority = unpacked[:, bits - 1 : bits + 2].sum(axis=1) >= 2
    unpacked[:, bits - 1] = majority
    unpacked[:, bits:] = 0
    return np.packbits(unpacked, axis=1, bitorder="little")[:, 0]


def decode_row(bits: int, given: argparse.Namespace) -> dict[str, Any]:
    """One width: seconds by each way, which all read the same words (checked)."""
    random = np.random.default_rng(bits)
    words = random.integers(0, 1 << bits, given.weights).astype(np.uint8)
    scheme = Tmr(bits, 1)
    stored = scheme.encode(words)
    hit = random.integers(0, given.weights, given.weights // 100)
    stored[hit] ^= (1 << random.integers(0, bits + 2, len(hit))).astype(np.uint8)
    read = scheme.decode(stored)
    few, elements = stored[: given.loop].tolist(), torch.from_numpy(stored[: given.loop // 10].copy())
    if not all(np.array_equal(read, way(stored, bits)) for way in (by_numpy, by_bits)):
        raise SystemExit(f"all ways must read the same words of {bits} bits, got others")
    if by_list(few, bits) != read[: given.loop].tolist() or by_element(elements, bits).tolist() != (
        read[: len(elements)].tolist()
    ):
        raise SystemExit(f"the loops must read the same words of {bits} bits, got others")
    one, other = seconds(lambda: by_list(few, bits), 3), seconds(lambda: by_element(elements, bits), 3)
    loops = {"list": one / len(few) * given.weights, "element": other / len(elements) * given.weights}
    found = {
        "bits": bits, "weights": given.weights, "list_weights": len(few), "element_weights": len(elements),
        "bitward_s": seconds(lambda: scheme.decode(stored), given.repeats),
        "numpy_s": seconds(lambda: by_numpy(stored, bits), given.repeats),
        "numpy_bits_s": seconds(lambda: by_bits(stored, bits), given.repeats),
        **{f"{name}_s_extrapolated": value for name, value in loops.items()},
        "gpu_s": gpu_seconds(stored, bits, given.repeats),
    }  # fmt: skip
    return found | {f"times_{name}": value / found["bitward_s"] for name, value in loops.items()}


def gpu_seconds(stored: np.ndarray, bits: int, repeats: int) -> float | str:
    """Of the same shifts on a GPU, the words there already; "not measured" where torch has none."""
    if not torch.cuda.is_available():
        return "not measured"
    words = torch.from_numpy(stored).cuda()
    times = []
    for _ in range(repeats + 1):  # the first one compiles
        torch.cuda.synchronize()
        began = time.perf_counter()
        by_numpy(words, bits)  # type: ignore[arg-type]
        torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return min(times)


def decode(given: argparse.Namespace) -> int:
    """All widths; 1 where the loop over elements is not at least 500 times as slow."""
    rows = [decode_row(bits, given) for bits in WIDTHS]
    lines = [
        f"{given.weights:,} weights, 1 % of them hit in one bit; processor time of one thread, the quickest of "
        f"{given.repeats}; loops on {given.loop:,} weights of a list, {given.loop // 10:,} of a tensor, extrapolated",
        "",
        "| | bitward, ms | plain numpy, ms | numpy bit by bit, ms | loop over a tensor, s (times bitward) | loop over "
        "a list, s (times bitward) | GPU |",
        "|---" * 7 + "|",
    ]
    for row in rows:
        gpu = row["gpu_s"] if isinstance(row["gpu_s"], str) else f"{1000 * row['gpu_s']:.3g} ms"
        times = [f"{1000 * row[name]:.1f}" for name in ("bitward_s", "numpy_s", "numpy_bits_s")]
        loops = [f"{row[f'{way}_s_extrapolated']:.2f} ({row[f'times_{way}']:,.0f})" for way in ("element", "list")]
        lines.append(f"| P-{row['bits']}-bit | {' | '.join([*times, *loops, gpu])} |")
    print("\n".join(lines))
    if given.json:
        output_directory(given.json.parent)
        atomic_write(given.json, json.dumps(rows, indent=1) + "\n")
    return 0 if all(row["times_element"] >= 500 for row in rows) else 1


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=["run", "tables", "decode"], required=True)
    parser.add_argument("networks", nargs="*", help="run: " + ", ".join(ACCURACY))
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), help="run: of the tables")
    parser.add_argument("--bers", type=float, nargs="+", help="run, tables: rates over bits instead of the paper's")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--data", type=Path, help="run: images given by path, as for bitward run")
    parser.add_argument("--out", type=Path, default=Path("runs/fortune"), help="tables: folder")
    parser.add_argument("--weights", type=int, default=11_000_000, help="decode: how many")
    parser.add_argument("--loop", type=int, default=200_000, help="decode: how many the loop reads")
    parser.add_argument("--repeats", type=int, default=5, help="decode: runs of which the quickest counts")
    parser.add_argument("--json", type=Path, help="decode: the figures")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """One case; 1 where it fails."""
    given = parsed(arguments)
    if unknown := [name for name in given.networks if name not in ACCURACY]:
        print(f"networks must be among {', '.join(ACCURACY)}, got {unknown[0]}", file=sys.stderr)
        return 1
    try:
        return {"run": run_flows, "tables": tables, "decode": decode}[given.case](given)
    except BitwardError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
