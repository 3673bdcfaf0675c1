# SPDX-License-Identifier: Apache-2.0
"""The hardware graph of a build, from its ONNX file: operators joined by streams. Initializers are never looked at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitward.engine.datatypes import IntegerType
from bitward.engine.ops import OPS, Attributes, Ends, Op, StoredOp
from bitward.errors import ManifestError, ModelError, nearest
from bitward.manifest import Io, Manifest, Memory

if TYPE_CHECKING:
    import onnx

MEMORY_KEY = "bitward.memory"  # the metadata entry of a node that names its memory


def load_graph(path: str | Path) -> onnx.ModelProto:
    """The ONNX model in the file `path`, without weights kept beside it. ModelError if it is none."""
    import google.protobuf.message
    import onnx

    try:
        return onnx.load(str(path), load_external_data=False)
    except (OSError, google.protobuf.message.DecodeError) as error:
        raise ModelError(f"{path} must be an ONNX model, got {error}; name a folder that build wrote") from error


@dataclass(frozen=True)
class Step:
    """An operator with the streams, by name, that it takes and gives."""

    op: Op
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Graph:
    """The operators of a hardware graph, each behind those whose streams it takes.

    Every stream has one producer and one consumer; `source` is the one that the host sends, `sink` what it receives.
    """

    steps: tuple[Step, ...]
    source: str
    sink: str

    @property
    def source_ends(self) -> Ends:
        """What the host sends."""
        return next(
            ends
            for step in self.steps
            for name, ends in zip(step.inputs, step.op.sources, strict=True)
            if name == self.source
        )

    @property
    def sink_ends(self) -> Ends:
        """What the host receives."""
        return next(
            ends
            for step in self.steps
            for name, ends in zip(step.outputs, step.op.results, strict=True)
            if name == self.sink
        )

    @property
    def bytes_per_image(self) -> int:
        """Size of all streams of an image."""
        ends = [self.source_ends, *(ends for step in self.steps for ends in step.op.results)]
        return sum(each.count * each.type.dtype.itemsize for each in ends)


def read_graph(model: onnx.ModelProto, manifest: Manifest) -> Graph:
    """The operators of a hardware graph; nodes that only pass a stream on are left out.

    ModelError, naming node and op, for what the engine does not model; ManifestError for a manifest of another graph.
    """
    source = model.graph.input[0].name if model.graph.input else ""
    streams = {source: source}  # by tensor that no node took yet: the stream that it is, where nodes only pass it on
    steps: list[Step] = []
    for node in _in_order(model, source):
        steps += _step(node, streams, manifest)
    if not steps:
        raise ModelError("a hardware graph must have at least one operator, got none; build again")
    sinks = [output.name for output in model.graph.output]
    if list(streams) != sinks:
        raise ModelError(f"a hardware graph must give one stream, {sinks}, got {list(streams)}; build again")
    graph = Graph(tuple(steps), source, streams[sinks[0]])
    _check_streams(graph, manifest)
    _check_memories(graph, manifest)
    return graph


def _in_order(model: onnx.ModelProto, source: str) -> list[Any]:
    """The nodes, each behind the producers of what it takes; ModelError where a ring of nodes has no first one."""
    made = {name for node in model.graph.node for name in node.output}
    known, waiting = {source}, list(model.graph.node)
    ordered: list[Any] = []
    while waiting:
        ready: list[Any] = []
        later: list[Any] = []
        for node in waiting:
            is_ready = all(name in known or name not in made for name in node.input)
            (ready if is_ready else later).append(node)
            known.update(node.output if is_ready else ())
        if not ready:
            raise ModelError(
                f"{_attributes(waiting[0]).where} must take streams of nodes before it, got {list(waiting[0].input)} "
                "in a ring of nodes; build again"
            )
        ordered += ready
        waiting = later
    return ordered


def _step(node: Any, streams: dict[str, str], manifest: Manifest) -> list[Step]:
    """The node as a step, none if it passes its stream on; its outputs are in `streams` afterwards."""
    attributes = _attributes(node)
    if attributes.op not in OPS:
        raise ModelError(
            f"{attributes.where} must be an operator that the engine models, got {attributes.op}; "
            f"{nearest(attributes.op, OPS)}"
        )
    op = OPS[attributes.op](attributes, _memory(node, manifest))
    takes, gives = (1, 1) if op is None else (len(op.sources), len(op.results))
    offered = list(streams)
    inputs = [streams.pop(name, None) for name in node.input[:takes]]  # parameters stand behind the streams
    if len(inputs) != takes or None in inputs or len(node.output) != gives:
        raise ModelError(
            f"{attributes.where} must take {takes} of the streams that are left, {', '.join(offered)}, and give "
            f"{gives}, got {list(node.input)} and {list(node.output)}; build again"
        )
    if op is None:
        streams[node.output[0]] = str(inputs[0])
        return []
    streams.update({name: name for name in node.output})
    return [Step(op, tuple(str(name) for name in inputs), tuple(node.output))]


def _attributes(node: Any) -> Attributes:
    import onnx

    def plain(value: Any) -> Any:
        if isinstance(value, bytes):
            return value.decode()
        return tuple(value) if isinstance(value, (list, tuple)) else value

    values = {a.name: plain(onnx.helper.get_attribute_value(a)) for a in node.attribute}
    return Attributes(node.name, node.op_type, values)


def _memory(node: Any, manifest: Manifest) -> Memory | None:
    name = next((entry.value for entry in node.metadata_props if entry.key == MEMORY_KEY), None)
    return None if name is None else manifest.memory(name)


def _check_streams(graph: Graph, manifest: Manifest) -> None:
    """Each operator takes what others give, and both ends are as the manifest says."""
    source, sink = _ends(stream_ends(manifest))
    given = {graph.source: (source, "the host")}
    for step in graph.steps:
        for name, wanted in zip(step.inputs, step.op.sources, strict=True):
            ends, producer = given[name]
            if ends != wanted:
                raise ModelError(
                    f"node {step.op.node} must take {ends.count} elements of {ends.type} as {producer} gives them, got "
                    f"{wanted.count} of {wanted.type}; build again"
                )
        results = zip(step.outputs, step.op.results, strict=True)
        given.update({name: (ends, f"node {step.op.node}") for name, ends in results})
    ends, producer = given[graph.sink]
    if ends != sink:
        tensor = stream_ends(manifest).output
        raise ManifestError(
            f"io.output must be {ends.count} elements of {ends.type} as {producer} gives them, got "
            f"{tensor.shape} of {tensor.datatype}; take manifest and graph of one build"
        )


def stream_ends(manifest: Manifest) -> Io:
    """The manifest's streams; ManifestError where it is software-only and has none."""
    if manifest.io is None:
        raise ManifestError(f"io must be in the manifest of design {manifest.design}, got none; build it for hardware")
    return manifest.io


def _ends(io: Io) -> list[Ends]:
    """Both ends."""
    ends = (io.input, io.output)
    return [Ends(tensor.beats * tensor.beat_elements, IntegerType(tensor.bits, tensor.signed)) for tensor in ends]


def _check_memories(graph: Graph, manifest: Manifest) -> None:
    """Each memory is read by one operator."""
    read = [step.op.memory.name for step in graph.steps if isinstance(step.op, StoredOp)]
    for memory in manifest.memories:
        if read.count(memory.name) != 1:
            raise ManifestError(
                f"memory {memory.name} must be read by one node, got {read.count(memory.name)}; take manifest and "
                "graph of one build"
            )
