# SPDX-License-Identifier: Apache-2.0
"""The hardware graph of a build, from its ONNX file: a chain of operators. Initializers are never looked at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitward.engine.datatypes import IntegerType
from bitward.engine.ops import OPS, Attributes, Op, StoredOp
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


def chain(model: onnx.ModelProto, manifest: Manifest) -> tuple[Op, ...]:
    """The operators of a hardware graph in the order of the stream; nodes that only pass it on are left out.

    ModelError, naming node and op, for what the engine does not model; ManifestError for a manifest of another graph.
    """
    ops: list[Op] = []
    stream = model.graph.input[0].name if model.graph.input else ""
    for node in model.graph.node:
        attributes = _attributes(node)
        if attributes.op not in OPS:
            raise ModelError(
                f"{attributes.where} must be an operator that the engine models, got {attributes.op}; "
                f"{nearest(attributes.op, OPS)}"
            )
        if not node.input or node.input[0] != stream or len(node.output) != 1:
            raise ModelError(
                f"{attributes.where} must take stream {stream!r} of the node before it and give one, got "
                f"{list(node.input)} and {list(node.output)}; the engine runs chains"
            )
        stream = node.output[0]
        op = OPS[attributes.op](attributes, _memory(node, manifest))
        if op is not None:
            ops.append(op)
    _check_neighbours(ops, manifest)
    _check_memories(ops, manifest)
    return tuple(ops)


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


def _check_neighbours(ops: list[Op], manifest: Manifest) -> None:
    """Each operator takes what the one before gives, the first and last what the manifest streams."""
    io = stream_ends(manifest)
    if not ops:
        raise ModelError("a hardware graph must have at least one operator, got none; build again")
    count, datatype = _ends(io)[0]
    for op in ops:
        if (op.inputs, op.source) != (count, datatype):
            raise ModelError(
                f"node {op.node} must take {count} elements of {datatype} as the stream before it has them, got "
                f"{op.inputs} of {op.source}; build again"
            )
        count, datatype = op.outputs, op.result
    if (count, datatype) != _ends(io)[1]:
        raise ManifestError(
            f"io.output must be {count} elements of {datatype} as node {ops[-1].node} gives them, got "
            f"{io.output.shape} of {io.output.datatype}; take manifest and graph of one build"
        )


def stream_ends(manifest: Manifest) -> Io:
    """The manifest's streams; ManifestError where it is software-only and has none."""
    if manifest.io is None:
        raise ManifestError(f"io must be in the manifest of design {manifest.design}, got none; build it for hardware")
    return manifest.io


def _ends(io: Io) -> list[tuple[int, IntegerType]]:
    """(elements, type) at both ends."""
    ends = (io.input, io.output)
    return [(tensor.beats * tensor.beat_elements, IntegerType(tensor.bits, tensor.signed)) for tensor in ends]


def _check_memories(ops: list[Op], manifest: Manifest) -> None:
    """Each memory is read by one operator."""
    read = [op.memory.name for op in ops if isinstance(op, StoredOp)]
    for memory in manifest.memories:
        if read.count(memory.name) != 1:
            raise ManifestError(
                f"memory {memory.name} must be read by one node, got {read.count(memory.name)}; take manifest and "
                "graph of one build"
            )
