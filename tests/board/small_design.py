# SPDX-License-Identifier: Apache-2.0
"""A design of two memories, 12 and 48 bits wide, behind finn's AXI-Lite rules, that adds them up in each output.

A row of the wide memory changes when its last word is written, and is read as it was when its first word was.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from bitward_runtime.backend import AddressError

from bitward.errors import BoardError
from bitward.formats import Int
from bitward.hardware.overlay import build_overlay
from bitward.manifest import Axis, Hardware, Io, Manifest, Memory, StreamTensor
from bitward.schemes import Plain, Tmr
from bitward.targets._axi import MAGIC
from bitward.words import beat_of, segments_of

DEPTH, LANES, ELEMENTS = 6, 4, 4
STREAM = StreamTensor((ELEMENTS,), "UINT8", 32, ELEMENTS, 1)


def _memory(name: str, scheme: Plain | Tmr, width: int, base: int, stride: int, ram_style: str) -> Memory:
    hardware = Hardware(
        depth=DEPTH, width=width, lanes=LANES, ram_style=ram_style, base=base, word_stride=stride,
        word_axes=(Axis(DEPTH, 1, LANES),), lane_axes=(Axis(LANES, 1, 1),), flush_images=1,
    )  # fmt: skip
    return Memory(name, "fc", f"{name}.weight", "weight", (DEPTH, LANES), Int(scheme.bits), scheme, hardware)


def manifest_of(ram_style: str = "block") -> Manifest:
    return Manifest(
        design="small",
        design_id=0xB17A0002,
        board="virtual",
        clk_mhz=200.0,
        memories=(
            _memory("narrow", Plain(3), 12, 0x1000, 4, "block"),
            _memory("wide", Tmr(8, 2), 48, 0x2000, 8, ram_style),
        ),
        io=Io(STREAM, STREAM),
        registers={"magic": 0, "design_id": 4, "images_per_transfer": 12},
        axilite_bytes=0x4000,
    )


def make_small_build(folder: Path, ram_style: str = "block") -> Path:
    """A build folder as far as a board target looks into it."""
    from bitward.hardware.boards import load_board  # the design itself also runs where board.yaml cannot be read

    manifest = manifest_of(ram_style)
    random = np.random.default_rng(5)
    images = {
        m.name: m.image(random.integers(0, 1 << m.scheme.bits, m.shape, dtype=np.uint8)) for m in manifest.memories
    }
    (folder / "rtl").mkdir(parents=True)
    (folder / "rtl" / "top.sv").write_text("module small; endmodule")
    manifest.save(folder / "manifest.json")
    np.savez(folder / "memories.npz", **images)
    build_overlay(folder, manifest, load_board("virtual"))
    return folder


class SmallDesign:
    """The design; `broken` says what its next streams do, and where a bit sticks."""

    def __init__(self, build: Path, broken: Broken) -> None:
        self._broken = broken
        self._manifest = Manifest.load(build / "manifest.json")
        with np.load(build / "memories.npz") as images:
            self.rows = {name: [beat_of(row) for row in images[name]] for name in images.files}
        self._registers = {0: MAGIC, 4: self._manifest.design_id, 12: 1}
        self._staged: dict[int, int] = {}  # words of a row that is being written
        self._latched: list[int] = []  # the words of the row that is being read
        if broken.zero_at_load:
            self.rows[broken.zero_at_load] = [0] * DEPTH

    def axil_read(self, addr: int) -> int:
        if addr in self._registers:
            return self._registers[addr]
        memory, row, segment = self._place(addr)
        if segment == 0:
            self._latched = segments_of(self.rows[memory.name][row], memory.segments).tolist()
        return self._latched[segment]

    def axil_write(self, addr: int, data: int) -> None:
        if addr in self._registers:
            self._registers[addr] = data
            return
        memory, row, segment = self._place(addr)
        self._staged[segment] = data
        if segment == memory.segments - 1:
            words = [self._staged.pop(at) for at in range(memory.segments)]  # KeyError: a row was not written whole
            value = beat_of(words) & (1 << memory.width) - 1
            stuck = self._broken.stuck.get((memory.name, row), 0)
            self.rows[memory.name][row] = value & ~stuck | self.rows[memory.name][row] & stuck

    def stream(self, beats_in: bytes, out_bytes: int) -> bytes:
        if self._broken.streams:
            self._broken.streams.pop(0)()
        if self._registers[12] * STREAM.image_bytes != len(beats_in):
            raise BoardError("a transfer must be as long as images_per_transfer says, got another; write it first")
        add = sum(sum(rows) for rows in self.rows.values()) + self._broken.drift
        return bytes((byte + add) % 256 for byte in beats_in)

    def reset(self) -> None: ...

    def close(self) -> None: ...

    def _place(self, addr: int) -> tuple[Memory, int, int]:
        for memory in self._manifest.memories:
            place = memory.hardware
            if place.base <= addr < place.end and (addr - place.base) % place.word_stride < 4 * place.segments:
                row, within = divmod(addr - place.base, place.word_stride)
                return memory, row, within // 4
        raise AddressError(f"an address must be in the design's map, got {addr:#x}; see the manifest")


class Broken:
    """What goes wrong on a board, and how often it was loaded."""

    def __init__(self) -> None:
        self.streams: list = []  # called before the next streams
        self.stuck: dict[tuple[str, int], int] = {}  # bits that keep what they hold
        self.zero_at_load = ""  # a memory that a load leaves zero
        self.drift = 0  # outputs are wrong by so much
        self.loads = 0
