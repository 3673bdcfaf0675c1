# SPDX-License-Identifier: Apache-2.0
"""Flips a second over the board's server: stock PYNQ client, batch calls, a plain memory, the RTL.

    python benchmarks/board_server.py runs/digits/build/hardened --json runs/board_server.json

A flip is a read, a change and a write of the row that a bit lies in. The server runs in a process of its own on
loopback; nothing here is hardware. The stock client is pynq 4.0's own MMIO, a call to read and a call to write; the
batch path is the extension's `flip`. Before the RTL each access goes through the simulated AXI-Lite port. Trials are of
one fault and 16 images each, with restore, read-back and canary image, on the virtual board.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from bitward_runtime.backend import AddressError
from bitward_runtime.bitfile import firmware_of
from bitward_runtime.extension_client import ExtensionClient, Rows
from bitward_runtime.scrub import has_redundancy, scrub_pass
from bitward_runtime.upsets import Upsets
from bitward_virtual.emulate import emulate, overlay_of

from bitward.datasets import load_dataset
from bitward.faults import single_bit_stratified
from bitward.manifest import Manifest, apply_edge
from bitward.targets._handoff import read_handoff
from bitward.targets.board import BoardTarget
from bitward.tools import atomic_write, board_python, output_directory, popen, run

RAM_WORDS = 1 << 10  # 4 KiB: the smallest window that an overlay has
IMAGES = 16
STOCK = """
import sys, time
from pynq.pl_server.device import Device
from pynq.pl_server.remote_device import RemoteDevice
import pynq, numpy as np
host, port, base, words, flips = sys.argv[1], *map(int, sys.argv[2:])
device = Device.active_device = RemoteDevice(0, host, port)
mmio = pynq.MMIO(base, 4 * words, device=device)
places = np.random.default_rng(1).integers(0, words, flips).tolist()
started = time.perf_counter()
for place in places:
    mmio.write(4 * place, mmio.read(4 * place) ^ 1)
print("seconds", time.perf_counter() - started)
"""


class PlainMemory:
    """An accelerator that is nothing but words."""

    def __init__(self) -> None:
        self.words = [0] * RAM_WORDS

    def axil_read(self, addr: int) -> int:
        return self.words[self._at(addr)]

    def axil_write(self, addr: int, data: int) -> None:
        self.words[self._at(addr)] = data

    def _at(self, addr: int) -> int:
        if addr % 4 or not 0 <= addr < 4 * RAM_WORDS:
            raise AddressError(f"an address must be in the {4 * RAM_WORDS} bytes of memory, got {addr:#x}; mask it")
        return addr >> 2

    def stream(self, beats_in: bytes, out_bytes: int) -> bytes:
        return beats_in[:out_bytes]

    def reset(self) -> None:
        """It has nothing to reset."""

    def close(self) -> None:
        """It holds nothing."""


@contextmanager
def served(*command: str | Path) -> Iterator[tuple[str, int]]:
    """Host and port of the server that the command starts and says to be ready in its first line."""
    process = popen([sys.executable, *command])
    try:
        line = process.stdout.readline().decode() if process.stdout else ""
        found = re.search(r"on (\S+):(\d+), ctrl-C", line)
        if found is None:
            raise SystemExit(f"the server must say where it is, got {line!r}; see its message above")
        yield found[1], int(found[2])
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def held(host: str, port: int, bit: Path) -> Iterator[ExtensionClient]:
    """A client that holds the board, with the overlay loaded."""
    client = ExtensionClient.connect(host, port)
    with client.holding("benchmark"):
        client.program("benchmark.bin", firmware_of(bit.read_bytes()))
        yield client
    client.close()


def per_second(count: int, call: Callable[[], object], least_s: float) -> dict[str, float]:
    """How many a second, `count` a call: the median of as many calls as `least_s` seconds take, at least three."""
    rates: list[float] = []
    began = time.perf_counter()
    while len(rates) < 3 or time.perf_counter() - began < least_s:
        started = time.perf_counter()
        call()
        rates.append(count / (time.perf_counter() - started))
    return {"per_second": round(float(np.median(rates)), 1), "calls": len(rates), "a_call": count}


def stock(host: str, port: int, base: int, words: int, flips: int) -> dict[str, float] | None:
    """The stock client; None, not measured, where .venv-board is not there."""
    python = board_python()
    if python is None:
        return None
    said = run([python, "-W", "ignore", "-c", STOCK, host, port, base, words, flips]).stdout
    return {"per_second": round(flips / float(said.split()[-1]), 1), "calls": 2 * flips, "a_call": 0.5}


def batches(client: ExtensionClient, rows: Callable[[int], Rows], sizes: tuple[int, ...], least_s: float) -> Any:
    """Flips a second by the number of flips a call."""
    found = {}
    for size in sizes:
        group = rows(size)
        masks = np.zeros((size, group.segments), np.uint32)
        masks[:, 0] = 1
        flips = masks.reshape(-1)
        found[str(size)] = per_second(size, lambda group=group, flips=flips: client.flip([group], flips), least_s)
    return found


def plain(build: Path, least_s: float, stock_flips: int) -> dict[str, Any]:
    """Before a plain memory."""
    random = np.random.default_rng(1)
    bit = overlay_of(build).resolve()
    base = read_handoff(bit.with_suffix(".hwh")).accelerator
    with served(__file__, "--serve", build) as (host, port):
        with held(host, port, bit) as client:
            found = batches(
                client, lambda size: Rows(base, 4, 1, random.integers(0, RAM_WORDS, size)), (1, 1000, 65536), least_s
            )
        return {"batch": found, "stock": stock(host, port, base, RAM_WORDS, stock_flips)}


def rtl(build: Path, least_s: float, stock_flips: int) -> dict[str, Any]:
    """Before the RTL: the narrowest and the widest memory."""
    random = np.random.default_rng(1)
    bit = overlay_of(build).resolve()
    base = read_handoff(bit.with_suffix(".hwh")).accelerator
    memories = sorted(Manifest.load(build / "manifest.json").memories, key=lambda memory: (memory.width, -memory.depth))
    found: dict[str, Any] = {}
    with served("-m", "bitward_virtual", build, "--port", "0") as (host, port):
        with held(host, port, bit) as client:
            for memory in (memories[0], memories[-1]):
                place = memory.hardware
                if place is not None:
                    rows = Rows(base + place.base, place.word_stride, place.segments, np.zeros(0, int))
                    found[f"{memory.name}, {memory.width} bits"] = batches(
                        client,
                        lambda size, rows=rows, depth=memory.depth: Rows(
                            rows.base, rows.stride, rows.segments, random.integers(0, depth, size)
                        ),
                        (1, 1000),
                        least_s,
                    )
        place = memories[0].hardware
        offset = place.base if place is not None else 0
        return {"batch": found, "stock": stock(host, port, base + offset, memories[0].depth, stock_flips)}


def trials(build: Path, count: int, dataset: str) -> dict[str, Any]:
    """Trials a second of a campaign's kind, outputs compared with nothing: the engine's agreement is a test."""
    with BoardTarget(build) as target:
        io = target.manifest.io
        if io is None:
            raise SystemExit(f"{build} must have streams, got a software-only build; build it for a board")
        images = apply_edge(io.pre, load_dataset(dataset).test_images[:IMAGES]).astype(np.int64)
        faults = single_bit_stratified(target.manifest, -(-count // len(target.manifest.strata)), 1)[:count]
        started = time.perf_counter()
        done = sum(1 for _ in target.outcomes(images, [(fault,) for fault in faults]))
        return {"trials": done, "images": IMAGES, "per_second": round(done / (time.perf_counter() - started), 2)}


class FromHere:
    """A target whose passes are made from here: rows read in a call, voted here, written in a call."""

    def __init__(self, target: BoardTarget) -> None:
        self.manifest = target.manifest
        self.read, self.write = target.read, target.write
        self.read_rows, self.write_rows = target.read_rows, target.write_rows


def passes(build: Path, count: int, upsets: int = 20) -> dict[str, Any]:
    """Seconds of a scrub pass over fresh upsets (median): on the server's side by its clock, and made from here."""
    found: dict[str, list[float]] = {"there": [], "from_here": []}
    rows = 0
    with BoardTarget(build) as target:
        memories = [memory for memory in target.manifest.memories if has_redundancy(memory)]
        if not memories:
            return {}
        for seed in range(count):
            for way, stores in (("there", target), ("from_here", FromHere(target))):
                made = Upsets(target, memories, seed)
                made.strike(upsets)
                done = scrub_pass(stores)
                rows = done.total.rows
                found[way].append(done.seconds)
                made.restore()
    return {
        "rows": rows,
        "passes": count,
        **{f"{way}_s": round(float(np.median(took)), 5) for way, took in found.items()},
    }


def table(result: dict[str, Any]) -> None:
    """The figures as Markdown."""
    print("| flips a second | stock MMIO | " + " | ".join(("1 a call", "1,000 a call", "65,536 a call")) + " |")
    print("|---|---|---|---|---|")
    lines = {"plain memory": (result["plain"]["batch"], result["plain"]["stock"])}
    for name, found in result["rtl"]["batch"].items():
        lines[f"RTL, {name}"] = (found, result["rtl"]["stock"] if name == next(iter(result["rtl"]["batch"])) else None)
    for name, (batch, by_stock) in lines.items():
        cells = [f"{batch[size]['per_second']:,.0f}" if size in batch else "" for size in ("1", "1000", "65536")]
        first = f"{by_stock['per_second']:,.0f}" if by_stock else "not measured"
        print(f"| {name} | {first} | {' | '.join(cells)} |")
    scrubbed = result.get("scrub")
    if scrubbed:
        print(
            f"\nA scrub pass over {scrubbed['rows']} rows before the RTL: {scrubbed['there_s']:.4g} s on the server's "
            f"side, {scrubbed['from_here_s']:.4g} s from here (medians of {scrubbed['passes']})."
        )
    done = result["trials"]
    print(
        f"\n{done['per_second']:g} trials a second, of one fault and {done['images']} images ({done['trials']} trials)."
    )


def main() -> int:
    """Measure, write JSON, print the table; or be the server of a plain memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=Path, help="a folder that bitward build --board virtual left")
    parser.add_argument("--serve", action="store_true", help="serve a plain memory, do not measure")
    parser.add_argument("--seconds", type=float, default=3.0, help="at least, for each figure of the batch path")
    parser.add_argument("--stock-flips", type=int, default=2000)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--passes", type=int, default=5, help="of scrubbing, each way")
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--json", type=Path, default=Path("runs/board_server.json"))
    arguments = parser.parse_args()
    if arguments.serve:
        emulate(arguments.build, port=0, accelerator=lambda _: PlainMemory())
        return 0
    result = {
        "design": Manifest.load(arguments.build / "manifest.json").design,
        "plain": plain(arguments.build, arguments.seconds, arguments.stock_flips),
        "rtl": rtl(arguments.build, arguments.seconds, arguments.stock_flips),
        "scrub": passes(arguments.build, arguments.passes),
        "trials": trials(arguments.build, arguments.trials, arguments.dataset),
    }
    output_directory(arguments.json.parent)
    atomic_write(arguments.json, json.dumps(result, indent=1) + "\n")
    table(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
