# SPDX-License-Identifier: Apache-2.0
"""A stored module on the bench: one stream through it, while its memory is read and written over AXI-Lite."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rtl_bench import Bench

from bitward.hardware.addresses import row_stride
from bitward.hardware.ops._stored import write_hex
from bitward.hardware.rtllib import library_root
from bitward.layout import BeatLayout
from bitward.words import beat_of, segments_of

RTL = Path(__file__).resolve().parents[2] / "hls" / "rtl"
AXILITE = library_root() / "axi/hdl/axilite.sv"


@dataclass
class Outcome:
    """What came out, at which cycle each beat did, and in how many cycles corrected_o stood."""

    beats: list[int] = field(default_factory=list)
    at: list[int] = field(default_factory=list)
    corrected: int = 0
    detected: int = 0


class StoredBench:
    """A bench of a module whose memory holds rows of `layout`."""

    def __init__(self, model: Bench, layout: BeatLayout) -> None:
        self.model, self.layout, self.stride = model, layout, row_stride(layout.width)
        model["out0_V_TREADY"] = model["in0_V_TVALID"] = 0

    def write(self, row: int, beat: int) -> None:
        """The row holds the beat; the stream stands still."""
        for offset, segment in enumerate(segments_of(beat, self.layout.segments)):
            self._access("w", row * self.stride + 4 * offset, int(segment))

    def read(self, row: int) -> int:
        """The row as it is stored; the stream stands still."""
        at = row * self.stride
        return beat_of([self._access("r", at + 4 * offset) for offset in range(self.layout.segments)])

    def _access(self, kind: str, address: int, data: int = 0) -> int:
        port = _Port(self.model, kind, address, data)
        for _ in range(200):
            port.before()
            self.model.settle()
            port.after()
            self.model.tick()
            if port.done:
                port.before()
                return port.answer
        raise AssertionError("the bus must answer within 200 cycles")

    def stream(
        self,
        beats: Sequence[int],
        stall: float = 0.0,
        rows: Sequence[int] = (),
        seed: int = 7,
        count: int | None = None,
    ) -> Outcome:
        """`beats` go through with random pauses on both sides; meanwhile segment 0 of `rows` is read, one by one.

        As many come out, or `count`.
        """
        count = len(beats) if count is None else count
        draw, model, outcome = random.Random(seed), self.model, Outcome()
        ports = [_Port(model, "r", row * self.stride) for row in rows]
        sent, offered, held = 0, False, None
        for cycle in range(100 * (len(beats) + 20) + 100 * len(ports)):
            offered = sent < len(beats) and (offered or draw.random() >= stall)
            model["in0_V_TVALID"] = int(offered)
            if offered:
                model["in0_V_TDATA"] = beats[sent]
            model["out0_V_TREADY"] = int(draw.random() >= stall)
            if ports:
                ports[0].before()
            model.settle()
            held = self._take(outcome, cycle, held)
            accepted = offered and model["in0_V_TREADY"]
            outcome.corrected += model["corrected_o"]
            outcome.detected += model["detected_o"]
            if ports:
                ports[0].after()
            model.tick()
            sent, offered = sent + bool(accepted), offered and not accepted
            if ports and ports[0].done:
                ports.pop(0).before()
            if len(outcome.beats) == count and sent == len(beats) and not ports:
                return outcome
        raise AssertionError(f"{len(outcome.beats)} of {count} beats came out, {sent} went in")

    def _take(self, outcome: Outcome, cycle: int, held: int | None) -> int | None:
        """A beat given is noted; the beat that waits, which must stay."""
        model = self.model
        if not model["out0_V_TVALID"]:
            assert held is None, "valid must hold until the beat is taken"
            return None
        beat = model["out0_V_TDATA"]
        assert held in (None, beat), "a beat must hold until it is taken"
        if not model["out0_V_TREADY"]:
            return beat
        outcome.beats.append(beat)
        outcome.at.append(cycle)
        return None


class _Port:
    """One access on AXI-Lite, cycle by cycle."""

    def __init__(self, model: Bench, kind: str, address: int, data: int = 0) -> None:
        self.model, self.kind, self.done, self.answer = model, kind, False, 0
        self.left = {"AW": kind == "w", "W": kind == "w", "AR": kind == "r"}
        self.address, self.data = address, data

    def before(self) -> None:
        """Before the edge: what is offered (nothing, once it is done)."""
        model = self.model
        for channel, left in self.left.items():
            model[f"s_axilite_{channel}VALID"] = int(left)
        model["s_axilite_AWADDR"] = model["s_axilite_ARADDR"] = self.address
        model["s_axilite_WDATA"] = self.data
        model["s_axilite_BREADY"] = model["s_axilite_RREADY"] = int(not self.done)

    def after(self) -> None:
        """With outputs settled: what is taken at the edge."""
        model = self.model
        for channel in self.left:
            if model[f"s_axilite_{channel}VALID"] and model[f"s_axilite_{channel}READY"]:
                self.left[channel] = False
        answer = "B" if self.kind == "w" else "R"
        if model[f"s_axilite_{answer}VALID"] and model[f"s_axilite_{answer}READY"]:
            assert model[f"s_axilite_{answer}RESP"] == 0
            self.done, self.answer = True, model["s_axilite_RDATA"]


def init_file(folder: Path, image: np.ndarray, width: int) -> str:
    """The image as a file that the RTL reads at its start; a Verilog string."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "memory.dat"
    write_hex(image, width, path)
    return f'"{path}"'


def packed(lanes: np.ndarray, bits: int) -> int:
    """A beat of lanes, the first lowest."""
    return sum((int(lane) % 2**bits) << p * bits for p, lane in enumerate(lanes))


def unpacked(beat: int, lanes: int, bits: int, signed: bool) -> list[int]:
    """The lanes of a beat."""
    words = [beat >> p * bits & (1 << bits) - 1 for p in range(lanes)]
    return [word - (1 << bits) if signed and word >> bits - 1 else word for word in words]
