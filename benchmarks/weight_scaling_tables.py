# SPDX-License-Identifier: Apache-2.0
"""The weight-scaling paper's Tables I and II, its values beside those of whatever flows of flows/weight_scaling ran.

    python benchmarks/weight_scaling_tables.py run cifar10-resnet18 --data CIFAR10
    python benchmarks/weight_scaling_tables.py tables

"run" does what `bitward run flows/weight_scaling/NETWORK-ROW.yaml` does for every row, and goes on where it was cut
off; networks of ImageNet take a checkpoint beside their flows, and a folder of pictures as --data. "tables" prints both
tables from the summaries in --runs: Top-1 in per cent, mean and standard deviation over fault sets, whose rates are the
paper's (1e-3, of Q2.5 1e-4), and what scaling gains. Software-only; rows that did not run say so.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from weight_scaling_paper import FORMATS, GAIN, NETWORKS, TABLE_I, TABLE_II

from bitward.campaign import TrialStore
from bitward.datasets import Dataset, load_dataset
from bitward.errors import BitwardError, ConfigError, nearest
from bitward.flow.software import run_software
from bitward.flow.software_spec import load_software_flow
from bitward.tools import resource

OWN = {"cifar10-resnet18": "ResNet-18 x 0.25, CIFAR-10", "cifar10-vgg11": "VGG-11-BN x 0.25, CIFAR-10"}
ROWS = ("", "-t1", "-best", "-channel")  # as it is, t = 1, the best t, and by output channel, which is not the paper's
OTHERS = {
    ("fp16", "-best"): "t = 1.9999, exponents safe, as the paper supposes",
    ("fp16", "-open"): "t = 1.999, every bit hit",
    ("fp16", "-voted"): "t = 1.999, every bit hit, the top two voted",
    ("fp16", "-short"): "t = 1.999, 15 bits: the top bit is not stored",
    ("q25", "-best"): "t = 1.97",
    ("q25", "-apart"): "t = 2.5, outliers apart in triplicate",
}
SHORT = "not run"


@dataclass(frozen=True)
class Row:
    """What a flow found: Top-1 without faults, and under each fault set, all in per cent; its stored words at risk."""

    golden: float
    top1: tuple[float, ...]
    images: int
    flips: float
    at_risk: int
    stored_bits: int

    @property
    def mean(self) -> float:
        """Over fault sets."""
        return float(np.mean(self.top1))

    def __str__(self) -> str:
        return f"{self.mean:.2f} ± {np.std(self.top1, ddof=1):.2f}"


def read_row(folder: Path) -> Row | None:
    """The run in a folder; None where it did not come to its faults."""
    path = folder / "summary.json"
    if not path.is_file():
        return None
    summary: dict[str, Any] = json.loads(path.read_text())
    if not summary.get("vulnerability"):
        return None
    found = summary["vulnerability"][0]
    seed = found["seed"]
    table = TrialStore.load(folder / "campaigns" / f"seed{seed}" / found["folder"]).read()
    right = [0 if each is None else each for each in table["top1_correct"].to_pylist()]
    top1 = tuple(100 * each / found["images"] for each in right)
    golden = 100 * summary["accuracy"][str(seed)]
    bits = summary["memory"]["stored_bits"]
    return Row(golden, top1, found["images"], found["flips"][0], summary["exponents_at_risk"], bits)


def read_rows(runs: Path) -> dict[tuple[str, str, str], Row]:
    """Every row that ran, by (network, format, row)."""
    rows = dict.fromkeys((*ROWS, *(row for _, row in OTHERS)))
    keys = ((network, form, row) for network in (*NETWORKS, *OWN) for form in FORMATS for row in rows)
    found = {key: read_row(runs / f"{key[0]}-{key[1]}{key[2]}") for key in keys}
    return {key: row for key, row in found.items() if row is not None}


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    return "\n".join([f"| {' | '.join(head)} |", "|---" * len(head) + "|", *(f"| {' | '.join(row)} |" for row in rows)])


def table_1(found: dict[tuple[str, str, str], Row]) -> str:
    """Top-1 without faults, weights as they are, and how that is with the best t and by channel."""
    rows = []
    for network in (*NETWORKS, *OWN):
        for form, name in FORMATS.items():
            paper = f"{TABLE_I[network, form]:.2f}" if network in NETWORKS else ""
            ours = [f"{found[key].golden:.2f}" if (key := (network, form, row)) in found else SHORT for row in ROWS]
            rows.append((NETWORKS.get(network) or OWN[network], name, paper, ours[0], ours[2], ours[3]))
    return table(("Network", "Format", "paper", "ours", "ours, scaled by layer", "ours, scaled by channel"), rows)


def table_2(found: dict[tuple[str, str, str], Row]) -> str:
    """Top-1 under faults, at t = 1 and at the best t, and what is gained."""
    head = ("Network", "Format", "paper: t = 1", "best t", "gain", "ours: as it is", "t = 1", "best t", "gain",
            "over as it is", "by channel", "flips")  # fmt: skip
    rows = []
    for network in (*NETWORKS, *OWN):
        for form, name in FORMATS.items():
            paper = ["", "", ""]
            if network in NETWORKS:
                (low, spread), (high, other) = TABLE_II[network, form]
                paper = [f"{low:.2f} ± {spread:.2f}", f"{high:.2f} ± {other:.2f}", f"{high - low:+.2f}"]
            each = [found.get((network, form, row)) for row in ROWS]
            cells = [SHORT if row is None else str(row) for row in each]
            gains = ["" if row is None or each[2] is None else f"{each[2].mean - row.mean:+.2f}" for row in each[:2]]
            flips = next((f"{row.flips:,.0f}" for row in each if row is not None), "")
            own = NETWORKS.get(network) or OWN[network]
            rows.append((own, name, *paper, *cells[:3], *gains[::-1], cells[3], flips))
    return table(head, rows)


def table_of_others(found: dict[tuple[str, str, str], Row]) -> str:
    """Where the exponent's top bit is hit as well, where voting keeps it, and where outliers lie apart."""
    rows = []
    for network, title in OWN.items():
        for (form, row), said in OTHERS.items():
            each = found.get((network, form, row))
            cells = [SHORT, "", "", ""]
            if each is not None:
                cells = [str(each), f"{each.golden:.2f}", f"{each.flips:,.0f}", f"{each.stored_bits:,}"]
            rows.append((f"{title}, {FORMATS[form]}, {said}", *cells))
    return table(("Stored", "Top-1 under faults", "without", "flips", "stored bits"), rows)


def notes(found: dict[tuple[str, str, str], Row]) -> str:
    """The paper's mean gains, and the words of ours that an upset can make huge though the top bit is safe."""
    means = ", ".join(f"{gain:.2f} {FORMATS[form]}" for form, gain in GAIN.items())
    at_risk = [
        f"{OWN.get(network, network)} {FORMATS[form]}{row or ' as it is'}: {each.at_risk:,}"
        for (network, form, row), each in found.items()
        if each.at_risk
    ]
    lines = [f"The paper's mean gain over its networks, in points: {means}."]
    if at_risk:
        lines.append(f"Stored words of 2 or more, whose exponents' top bit is 1: {'; '.join(at_risk)}.")
    sets = sorted({(len(row.top1), row.images) for row in found.values()})
    lines += [f"Fault sets x images: {', '.join(f'{trials} x {images:,}' for trials, images in sets)}."] if sets else []
    return "\n".join(lines)


def run(given: argparse.Namespace) -> None:
    """Every row of the networks named, one by one."""
    console, read = Console(), dict[str, Dataset]()
    for network in given.networks:
        if network not in NETWORKS and network not in OWN:
            known = [*NETWORKS, *OWN]
            one_of = ", ".join(known)
            raise ConfigError(f"a network must be one of {one_of}, got {network!r}; {nearest(network, known)}")
        for path in sorted(resource("flows/weight_scaling").glob(f"{network}-*.yaml")):
            flow = load_software_flow(path)
            if flow.dataset not in read:
                read[flow.dataset] = load_dataset(flow.dataset, given.data)
            console.print(f"[b]{flow.name}")
            run_software(flow, given.runs, console, data=given.data, images=read[flow.dataset])


def main(arguments: Sequence[str] | None = None) -> int:
    """1 where a flow fails; what is wrong is told in a sentence."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=("run", "tables"))
    parser.add_argument("networks", nargs="*", help=f"run: of {', '.join((*NETWORKS, *OWN))}")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--data", type=Path, help="where images lie, as for bitward run")
    given = parser.parse_args(arguments)
    if given.case == "run":
        try:
            run(given)
        except BitwardError as error:
            print(error, file=sys.stderr)
            return 1
        return 0
    found = read_rows(given.runs)
    print("\n\n".join((table_1(found), table_2(found), table_of_others(found), notes(found))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
