# SPDX-License-Identifier: Apache-2.0
"""Hardware nodes on the bench: what a back end says of its module (parameters, folded shapes) drives the RTL.

The nodes of a test file stand side by side in one top, so that Verilator and the C++ compiler run once.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import helper
from rtl_bench import Bench
from stored_bench import StoredBench

from bitward.engine.ops import OPS
from bitward.engine.ops._op import Attributes

RTL = Path(__file__).resolve().parents[2] / "hls" / "rtl"
PART = "xck26-sfvc784-2LV-c"
DOMAIN = "finn.custom_op.fpgadataflow.rtl"


def hardware_op(op_type: str, inputs: int = 1, outputs: int = 1, stored: str | None = None, **attributes: Any) -> Any:
    """The back end of a node `dut` with so many streams in and out, these attributes, and its parameters' name."""
    from qonnx.custom_op.registry import getCustomOp

    import bitward.hardware.ops  # noqa: F401 - registers our back ends

    names = [f"in{i}" for i in range(inputs)] + ([stored] if stored else []), [f"out{i}" for i in range(outputs)]
    node = helper.make_node(op_type, *names, name="dut", domain=DOMAIN, backend="fpgadataflow", **attributes)
    return getCustomOp(node)


def engine_op(op: Any, memory: Any = None) -> Any:
    """The engine's operator of the same node."""
    from bitward.engine.graph import _attributes

    attributes = _attributes(op.onnx_node)
    assert isinstance(attributes, Attributes)
    return OPS[attributes.op](attributes, memory)


def pack(lanes: Sequence[int], bits: int) -> int:
    """One beat: lane 0 lowest."""
    return sum((int(lane) % (1 << bits)) << at * bits for at, lane in enumerate(lanes))


def unpack(beat: int, lanes: int, bits: int, signed: bool) -> list[int]:
    """The lanes of a beat; what stands above them must be 0."""
    assert beat >> lanes * bits == 0, "the padding of a beat must be 0"
    words = [beat >> at * bits & (1 << bits) - 1 for at in range(lanes)]
    return [word - (1 << bits) if signed and word >> bits - 1 else word for word in words]


def beats(stream: np.ndarray, folded: Sequence[int], bits: int) -> list[int]:
    """The elements, shape (images, elements an image), as beats of folded[-1] lanes."""
    assert stream.shape[1] == math.prod(folded)
    return [pack(lanes, bits) for lanes in np.asarray(stream).reshape(-1, folded[-1])]


@dataclass
class Outcome:
    """What each output gave, shape (images, elements an image), and the cycle at which its beats were taken."""

    streams: list[np.ndarray]
    at: list[list[int]]

    def steady(self, images: int, output: int = 0) -> list[int]:
        """Cycles from the end of one image to the end of the next, for all but the first."""
        ends = self.at[output][len(self.at[output]) // images - 1 :: len(self.at[output]) // images]
        return np.diff(ends).tolist()


class NodeBench:
    """Modules of several nodes in one top, each with its ports under the node's label.

    `images` are the memories of stored nodes, as rows of segments; `below` are the sources that modules instantiate.
    """

    def __init__(
        self,
        folder: Path,
        runtime: Path,
        ops: Mapping[str, Any],
        images: Mapping[str, np.ndarray] | None = None,
        below: Sequence[Path] = (),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.ops, self.images = dict(ops), dict(images or {})
        ports, cells = [], []
        for label, op in self.ops.items():
            wires = [*_ports(op, "in"), *_ports(op, "out")]
            values = {name: _literal(value) for name, value in op.parameters(PART).items()}
            if label in self.images:
                wires += _memory_ports(op)
                (folder / label).mkdir(parents=True, exist_ok=True)
                op.write_contents(self.images[label], folder / label)
                values["InitFile"] = f'"{folder / label / op.memory_file()}"'
            ports += [f"{direction} logic [{width - 1}:0] {label}_{name}" for name, direction, width in wires]
            joined = ", ".join(f".{name}({label}_{name})" for name, _, _ in wires)
            given = ", ".join(f".{name}({value})" for name, value in values.items())
            cells.append(f"{op.module} #({given}) i_{label} (.ap_clk, .ap_rst_n, {joined});")
        text = f"module tops (input logic ap_clk, input logic ap_rst_n, {', '.join(ports)});\n"
        (folder / "tops.sv").write_text(text + "\n".join(cells) + "\nendmodule\n")
        sources = [*below, folder / "tops.sv", *sorted({RTL / f"{op.module}.sv" for op in self.ops.values()})]
        self.model = Bench(folder / "tops", runtime, sources, "tops")

    def stored(self, label: str) -> StoredBench:
        """One stored node by itself, with its memory."""
        return StoredBench(Labelled(self.model, label), self.ops[label].layout())

    def run(
        self, label: str, streams: Sequence[np.ndarray], stall: float = 0.0, seed: int = 7, pace: int = 1
    ) -> Outcome:
        """The streams, shape (images, elements an image), through one node, with random pauses at every port.

        Each input's neighbour makes a beat every `pace` cycles and stops while two of them wait, as the smallest FIFO
        of a build makes it: what it lost it cannot catch up.
        """
        op, images = self.ops[label], len(streams[0])
        shapes = [op.get_folded_input_shape(i) for i in range(len(streams))]
        bits = [op.get_input_datatype(i).bitwidth() for i in range(len(streams))]
        given = [beats(*each) for each in zip(streams, shapes, bits, strict=True)]
        outputs = range(len(op.onnx_node.output))
        counts = [images * math.prod(op.get_folded_output_shape(i)[:-1]) for i in outputs]
        sources = [_Source(self.model, f"{label}_in{i}_V_T", each, pace) for i, each in enumerate(given)]
        sinks = [_Sink(self.model, f"{label}_out{i}_V_T", count) for i, count in enumerate(counts)]
        limit = int(40 * pace * (sum(map(len, given)) + sum(counts) + 20) / (1 - stall) ** 2)
        self._drive(sources, sinks, limit, stall, random.Random(seed))
        return Outcome([_elements(op, i, sinks[i].taken, images) for i in outputs], [sink.at for sink in sinks])

    def _drive(self, sources: list[_Source], sinks: list[_Sink], limit: int, stall: float, draw: random.Random) -> None:
        for cycle in range(limit):
            for source in sources:
                source.offer(draw.random() >= stall)
            for sink in sinks:
                sink.refuse()
            self.model.settle()
            for sink in sinks:
                sink.accept(draw.random() >= stall)
            self.model.settle()
            for end in (*sources, *sinks):
                end.look(cycle)
            self.model.tick()
            if not any(end.open for end in (*sources, *sinks)):
                return
        raise AssertionError(f"beats must flow, got {[(len(s.taken), s.count) for s in sinks]} in {limit} cycles")


class Labelled:
    """The ports of one node of a bench, without their label."""

    def __init__(self, model: Bench, label: str) -> None:
        self.model, self.label, self.settle, self.tick = model, label, model.settle, model.tick

    def __contains__(self, port: str) -> bool:
        return f"{self.label}_{port}" in self.model

    def __getitem__(self, port: str) -> int:
        return self.model[f"{self.label}_{port}"]

    def __setitem__(self, port: str, value: int) -> None:
        self.model[f"{self.label}_{port}"] = value


class _Source:
    """Offers beats, of which one is made every `pace` cycles while fewer than two wait; an offer stands until taken."""

    def __init__(self, model: Bench, port: str, given: list[int], pace: int) -> None:
        self.model, self.port, self.given, self.pace = model, port, given, pace
        self.made, self.sent, self.offered, self.rested = 0, 0, False, pace

    @property
    def open(self) -> bool:
        return self.sent < len(self.given)

    def offer(self, wants: bool) -> None:
        self.rested += 1
        if self.rested >= self.pace and self.made - self.sent < 2:
            self.made, self.rested = self.made + 1, 0
        self.offered = self.open and (self.offered or (wants and self.made > self.sent))
        self.model[self.port + "VALID"] = int(self.offered)
        if self.offered:
            self.model[self.port + "DATA"] = self.given[self.sent]

    def look(self, cycle: int) -> None:
        if self.offered and self.model[self.port + "READY"]:
            self.sent, self.offered = self.sent + 1, False


class _Sink:
    """Takes beats; checks that they hold until taken, and that valid does not hang on ready."""

    def __init__(self, model: Bench, port: str, count: int) -> None:
        self.model, self.port, self.count = model, port, count
        self.taken: list[int] = []
        self.at: list[int] = []
        self.held: int | None = None

    @property
    def open(self) -> bool:
        return len(self.taken) < self.count

    def refuse(self) -> None:
        self.model[self.port + "READY"] = 0

    def accept(self, wants: bool) -> None:
        self.valid = self.model[self.port + "VALID"]
        self.ready = int(wants and self.open)
        self.model[self.port + "READY"] = self.ready

    def look(self, cycle: int) -> None:
        assert self.valid == self.model[self.port + "VALID"], "valid must not depend on ready"
        if not self.valid:
            assert self.held is None, "valid must hold until the beat is taken"
            return
        now = self.model[self.port + "DATA"]
        assert self.held in (None, now), "a beat must hold until it is taken"
        self.held = None if self.ready else now
        if self.ready:
            self.taken.append(now)
            self.at.append(cycle)


def _ports(op: Any, side: str) -> list[tuple[str, str, int]]:
    """(name, direction, width) of the stream ports on one side, as FINN's back end counts them."""
    names = [name for name in (*op.onnx_node.input, *op.onnx_node.output) if name.startswith(side)]
    width = op.get_instream_width_padded if side == "in" else op.get_outstream_width_padded
    forward, backward = ("input", "output") if side == "in" else ("output", "input")
    return [
        port
        for i in range(len(names))
        for port in (
            (f"{side}{i}_V_TVALID", forward, 1),
            (f"{side}{i}_V_TREADY", backward, 1),
            (f"{side}{i}_V_TDATA", forward, width(i)),
        )
    ]


def _memory_ports(op: Any) -> list[tuple[str, str, int]]:
    """(name, direction, width) of a stored module's AXI-Lite port and flags."""
    at = op.address_bits()
    widths = {"AWADDR": at, "ARADDR": at, "WDATA": 32, "RDATA": 32, "BRESP": 2, "RRESP": 2}
    taken = ("AWVALID", "AWADDR", "WVALID", "WDATA", "BREADY", "ARVALID", "ARADDR", "RREADY")
    given = ("AWREADY", "WREADY", "BVALID", "BRESP", "ARREADY", "RVALID", "RDATA", "RRESP")
    directions = [("input", name) for name in taken] + [("output", name) for name in given]
    bus = [(f"s_axilite_{name}", direction, widths.get(name, 1)) for direction, name in directions]
    return [*bus, ("corrected_o", "output", 1), ("detected_o", "output", 1)]


def _literal(value: int | str) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    return str(value) if value.bit_length() < 32 else f"{value.bit_length()}'h{value:x}"  # a plain literal has 32 bits


def _elements(op: Any, output: int, taken: list[int], images: int) -> np.ndarray:
    datatype, lanes = op.get_output_datatype(output), int(op.get_folded_output_shape(output)[-1])
    rows = [unpack(beat, lanes, datatype.bitwidth(), datatype.signed()) for beat in taken]
    return np.array(rows, np.int64).reshape(images, -1)


def draw(rng: np.random.Generator, op: Any, images: int) -> list[np.ndarray]:
    """Random streams for every dynamic input of the node, extremes included."""
    streams = []
    for i in range(sum(name.startswith("in") for name in op.onnx_node.input)):
        datatype = op.get_input_datatype(i)
        size = images, math.prod(op.get_folded_input_shape(i))
        stream = rng.integers(int(datatype.min()), int(datatype.max()) + 1, size)
        stream[0, 0], stream[-1, -1] = int(datatype.min()), int(datatype.max())
        streams.append(stream)
    return streams
