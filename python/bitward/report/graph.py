# SPDX-License-Identifier: Apache-2.0
"""The hardware graph as a list of layers, in topological order, with where protection sits.

Queues, width converters, padding and windows are left out, and a fork belongs to the layer before it. Threshold units
stand with the layer that feeds them and no other. Beside each layer are lanes, as version control draws branches: a
skip connection is a lane of its own from the layer it leaves to the one it enters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from markupsafe import Markup

from bitward.hardware.finn_attributes import finn_name, kind_of
from bitward.manifest import Manifest, Memory
from bitward.report.load import Missing, RunData, read_object

if TYPE_CHECKING:
    from onnx import NodeProto

State = Literal["protected", "partly", "open", "none"]
STATES: dict[State, str] = {
    "protected": "protected: no single flip is read",
    "partly": "partly protected: single flips of some bits are never read",
    "open": "not protected",
    "none": "no parameters",
}
PLUMBING = ("StreamingFIFO", "StreamingDataWidthConverter", "FMPadding", "FMPadding_Pixel", "ConvolutionInputGenerator")
FORK = "DuplicateStreams"
KINDS = {
    "MVAU": "matrix unit", "VVAU": "depthwise unit", "Thresholding": "thresholds", "Pool": "pooling", "Bias": "biases",
    "ElementwiseAdd": "addition", "ElementwiseMul": "multiplication", "StreamingConcat": "concatenation",
    "StreamingSplit": "split", "GlobalAccPool": "global average pooling", "LabelSelect": "top-1",
    "UpsampleNearestNeighbour": "up-sampling",
}  # fmt: skip
CYCLES_FILE = Path("report") / "estimate_layer_cycles.json"
STEP, MIDDLE, BEND = 16, 17, 13  # pixels: between lanes, down to a row's mark, from there to the bend


@dataclass(frozen=True)
class Held:
    """A memory of a layer: its live bits, how many of them no computation reads amiss when one flips."""

    memory: Memory

    @property
    def bits(self) -> int:
        """Live bits."""
        return self.memory.population

    @property
    def masked(self) -> int:
        """Live bits whose single flip is never read."""
        masked = set(self.memory.scheme.masked_bits)
        return sum(stratum.size for stratum in self.memory.strata if stratum.stored_bit in masked)

    @property
    def state(self) -> State:
        """Whether all, some or none of its bits are."""
        return "protected" if self.masked == self.bits else "partly" if self.masked else "open"

    @property
    def scheme(self) -> str:
        """How words are stored."""
        scheme = self.memory.scheme
        top = "top bit" if scheme.voted == 1 else f"top {scheme.voted} bits"
        voted = f", {'every bit' if scheme.voted == scheme.bits else top} three times" if scheme.voted else ""
        checks = f", {scheme.check_bits} check bits a row" if scheme.check_bits else ""
        return f"{scheme.bits}-bit words{voted}{checks}"


@dataclass
class Layer:
    """A row of the graph: `sources` are the rows that feed it. `cycles` are an image's by FINN's estimate."""

    name: str
    kinds: list[str]
    sources: tuple[int, ...]
    memories: list[Held] = field(default_factory=list)
    folding: list[str] = field(default_factory=list)
    cycles: int | None = None

    @property
    def state(self) -> State:
        """The state of all its memories together."""
        states = {held.state for held in self.memories}
        return "none" if not states else states.pop() if len(states) == 1 else "partly"


@dataclass(frozen=True)
class Drawn:
    """A layer with its place: its lanes as SVG, what it reads in words where that is not the row above."""

    layer: Layer
    lanes: Markup
    reads: str
    width: int  # of the lanes of all rows, pixels


def graph_of(run: RunData) -> tuple[Drawn, ...] | Missing:
    """The hardened build's layers (the plain one's where it is not there yet); Missing without a hardware graph."""
    for side in ("hardened", "plain"):
        folder = run.folder / "build" / side
        if side in run.manifests and (folder / "hardware.onnx").is_file():
            return draw(layers_of(folder, run.manifests[side]))
    return Missing("no build left a hardware.onnx: the run stopped before it")


def layers_of(build: Path, manifest: Manifest) -> list[Layer]:
    """The layers of a build's hardware graph, what streams in first, what streams out last."""
    import onnx

    graph = onnx.load(str(build / "hardware.onnx"), load_external_data=False).graph
    path = build / CYCLES_FILE
    return _Reader(manifest, read_object(path) if path.is_file() else {}).read(graph)


class _Reader:
    """Walks a graph once; `where` says which row a tensor comes from."""

    def __init__(self, manifest: Manifest, cycles: Mapping[str, Any]) -> None:
        self._memories = {memory.name: memory for memory in manifest.memories}
        self._cycles = cycles
        self._rows: list[Layer] = []
        self._where: dict[str, int] = {}
        self._forked: set[int] = set()

    def read(self, graph: Any) -> list[Layer]:
        """The rows of the graph, whose nodes are in topological order."""
        self._add(Layer("images", [], ()), [graph.input[0].name])
        for node in graph.node:
            sources = tuple(dict.fromkeys(self._where[name] for name in node.input if name in self._where))
            kind = kind_of(node.op_type)
            if kind in PLUMBING or kind == FORK:
                self._forked |= set(sources) if kind == FORK else set()
                self._where |= dict.fromkeys(node.output, sources[0])
            else:
                self._node(node, kind, sources)
        ends = tuple(dict.fromkeys(self._where[output.name] for output in graph.output))
        self._add(Layer("answers", [], ends), [])
        return self._rows

    def _add(self, layer: Layer, outputs: Iterable[str]) -> None:
        self._rows.append(layer)
        self._where |= dict.fromkeys(outputs, len(self._rows) - 1)

    def _node(self, node: NodeProto, kind: str, sources: tuple[int, ...]) -> None:
        held = [Held(self._memories[name]) for name in node.input if name in self._memories]
        before = self._rows[sources[0]]
        names = {each.memory.layer for each in (*held, *before.memories)}
        if held and before.memories and len(sources) == 1 and len(names) == 1 and sources[0] not in self._forked:
            self._where |= dict.fromkeys(node.output, sources[0])
        else:
            before = Layer(_name(node.name, kind, held), [], sources)
            self._add(before, node.output)
        before.kinds += [KINDS.get(kind, kind)] if held else []
        before.memories += held
        before.folding += _folding(node)
        found = self._cycles.get(finn_name(node.name))
        before.cycles = max(before.cycles or 0, int(found)) if found is not None else before.cycles


def _name(node: str, kind: str, held: Sequence[Held]) -> str:
    """The layer's name; of thresholds alone their memory's, of what has none its kind and number, from 1 on."""
    if not held:
        return f"{KINDS.get(kind, kind)} {int(node.rpartition('_')[2]) + 1}"
    return held[0].memory.name if kind == "Thresholding" else held[0].memory.layer


def _folding(node: NodeProto) -> list[str]:
    found = {attribute.name: attribute.i for attribute in node.attribute if attribute.name in ("PE", "SIMD")}
    return [", ".join(f"{name} {found[name]}" for name in ("PE", "SIMD") if name in found)] if found else []


def draw(layers: Sequence[Layer]) -> tuple[Drawn, ...]:
    """Every layer with its lanes: the mark in the leftmost lane that enters, branches that go by to its right."""
    lines = lanes(layers)
    width = max(max((line.lane, *line.enter, *line.leave, *line.by)) for line in lines) + 1
    drawn = []
    for row, (layer, line) in enumerate(zip(layers, lines, strict=True)):
        is_plain = not layer.sources or layer.sources == (row - 1,)
        reads = "" if is_plain else " and ".join(layers[source].name for source in layer.sources)
        drawn.append(Drawn(layer, _svg(line, layer.state), reads, STEP * width))
    return tuple(drawn)


@dataclass(frozen=True)
class Lanes:
    """A row's lanes: its own, those that come in from above, those that go out below, those that go by."""

    lane: int
    enter: tuple[int, ...]
    leave: tuple[int, ...]
    by: tuple[int, ...]


def lanes(layers: Sequence[Layer]) -> list[Lanes]:
    """Where each row's mark and branches are; a lane is one edge at a time, from the row it leaves to its end."""
    readers: dict[int, list[int]] = {row: [] for row in range(len(layers))}
    for row, layer in enumerate(layers):
        for source in layer.sources:
            readers[source].append(row)
    open_lanes: dict[int, int] = {}  # lane -> the row where its edge ends
    found = []
    for row in range(len(layers)):
        enter = tuple(sorted(lane for lane, end in open_lanes.items() if end == row))
        lane = enter[0] if enter else _free(open_lanes)
        for each in enter:
            del open_lanes[each]
        by = tuple(sorted(open_lanes))
        leave = []
        for end in sorted(readers[row]):
            own = lane if lane not in open_lanes else _free(open_lanes)
            open_lanes[own] = end
            leave.append(own)
        found.append(Lanes(lane, enter, tuple(leave), by))
    return found


def _free(taken: Mapping[int, int]) -> int:
    return next(lane for lane in range(len(taken) + 1) if lane not in taken)


def _svg(line: Lanes, state: State) -> Markup:
    """Lines stretch with the row; bends and the mark keep their size."""
    mid, parts = _at(line.lane), []
    for lane in line.by:
        parts.append(_line(_at(lane), "0", _at(lane), "100%"))
    for lane in line.enter:
        parts += [_line(_at(lane), "0", _at(lane), MIDDLE - BEND), _line(_at(lane), MIDDLE - BEND, mid, MIDDLE)]
    for lane in line.leave:
        parts += [_line(mid, MIDDLE, _at(lane), MIDDLE + BEND), _line(_at(lane), MIDDLE + BEND, _at(lane), "100%")]
    return Markup('<svg class="lanes" aria-hidden="true">{}{}</svg>').format(
        Markup("").join(parts), mark(state, mid, MIDDLE)
    )


def _at(lane: int) -> int:
    return STEP * lane + STEP // 2


def _line(x1: int, y1: int | str, x2: int, y2: int | str) -> Markup:
    return Markup('<line x1="{}" y1="{}" x2="{}" y2="{}"/>').format(x1, y1, x2, y2)


def mark(state: State, x: int, y: int) -> Markup:
    """The sign of a state: a full square, a half square, an empty circle, a dot."""
    if state == "none":
        return Markup('<circle class="none" cx="{}" cy="{}" r="3.5"/>').format(x, y)
    if state == "open":
        return Markup('<circle class="open" cx="{}" cy="{}" r="6"/>').format(x, y)
    box = Markup('<rect class="{}" x="{}" y="{}" width="{}" height="12"/>')
    if state == "protected":
        return box.format("full", x - 6, y - 6, 12)
    return Markup("").join([box.format("half", x - 6, y - 6, 12), box.format("full", x - 6, y - 6, 6)])
