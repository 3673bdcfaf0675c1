# SPDX-License-Identifier: Apache-2.0
"""Queues between nodes of the hardware graph: put in, listed, and set to their depths (hardware.sizing finds those)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from bitward.errors import ConfigError, nearest

QUEUE = "StreamingFIFO_rtl"
LEAST = 2  # beats: one in the output register, one behind it, so that a beat can enter and leave in every cycle


@dataclass(frozen=True)
class Queue:
    """A queue of the hardware graph: payload bits a beat, beats an image, and the nodes that it stands between."""

    name: str
    bits: int
    beats: int
    depth: int
    producer: str  # "" is the source of images
    consumer: str  # "" is their sink

    def __str__(self) -> str:
        return f"{self.name} (from {self.producer or 'the source'} to {self.consumer or 'the sink'})"


class _Port(NamedTuple):
    """One stream of a node."""

    node: Any
    number: int
    is_input: bool


def insert_fifos(model: Any, depths: Mapping[str, int] | None = None) -> Any:
    """A queue stands on every stream of the hardware graph, its input and output included.

    Queues are named StreamingFIFO_rtl_N in the graph's order, and are LEAST deep where `depths` does not name them.
    """
    from qonnx.transformation.general import SortGraph

    model = model.transform(SortGraph())
    outputs = {tensor.name for tensor in model.graph.output}
    made: list[Any] = []

    def queue(port: _Port, source: str, target: str) -> None:
        number = sum(node.op_type == QUEUE for node in made)
        made.append(_queue_node(model, f"{QUEUE}_{number}", port, source, target))

    for node in list(model.graph.node):
        for index, tensor in enumerate(node.input):
            if tensor in {entry.name for entry in model.graph.input} and model.get_initializer(tensor) is None:
                node.input[index] = f"{tensor}_queued"
                queue(_Port(node, index, True), tensor, node.input[index])
        made.append(node)
        for index, tensor in enumerate(list(node.output)):
            if tensor in outputs:
                node.output[index] = f"{tensor}_unqueued"
                queue(_Port(node, index, False), node.output[index], tensor)
            else:
                _replace_input(model.find_consumer(tensor), tensor, f"{tensor}_queued")
                queue(_Port(node, index, False), tensor, f"{tensor}_queued")
    del model.graph.node[:]
    model.graph.node.extend(made)
    set_depths(model, depths or {})
    return model


def _replace_input(node: Any, old: str, new: str) -> None:
    for index, tensor in enumerate(node.input):
        if tensor == old:
            node.input[index] = new


def _queue_node(model: Any, name: str, port: _Port, source: str, target: str) -> Any:
    from onnx import TensorProto, helper
    from qonnx.custom_op.registry import getCustomOp

    op = getCustomOp(port.node)
    if port.is_input:
        normal, folded = op.get_normal_input_shape(port.number), op.get_folded_input_shape(port.number)
        kind = op.get_input_datatype(port.number)
    else:
        normal, folded = op.get_normal_output_shape(port.number), op.get_folded_output_shape(port.number)
        kind = op.get_output_datatype(port.number)
    shape = [int(size) for size in normal]
    for tensor in (source, target):
        if model.get_tensor_shape(tensor) is None:
            model.set_tensor_shape(tensor, shape, TensorProto.FLOAT)
        model.set_tensor_datatype(tensor, kind)
    return helper.make_node(
        QUEUE, [source], [target], domain="finn.custom_op.fpgadataflow.rtl", backend="fpgadataflow", name=name,
        depth=LEAST, folded_shape=[int(size) for size in folded], normal_shape=shape, dataType=kind.name,
        ram_style="auto",
    )  # fmt: skip


def queues(model: Any) -> list[Queue]:
    """The queues of a hardware graph, in its order."""
    from qonnx.custom_op.registry import getCustomOp

    result = []
    for node in model.graph.node:
        if node.op_type == QUEUE:
            op = getCustomOp(node)
            producer, consumer = model.find_producer(node.input[0]), model.find_consumer(node.output[0])
            result.append(
                Queue(
                    name=node.name,
                    bits=op.get_instream_width(),
                    beats=math.prod(op.get_folded_output_shape()[:-1]),
                    depth=op.get_nodeattr("depth"),
                    producer=producer.name if producer is not None else "",
                    consumer=consumer.name if consumer is not None else "",
                )
            )
    return result


def set_depths(model: Any, depths: Mapping[str, int]) -> Any:
    """The queues named are so deep. Raises ConfigError for a name that is no queue's, and a depth below LEAST."""
    from qonnx.custom_op.registry import getCustomOp

    nodes = {node.name: node for node in model.graph.node if node.op_type == QUEUE}
    for name, depth in depths.items():
        if name not in nodes:
            raise ConfigError(f"folding must name a queue of the design, got {name!r}; {nearest(name, nodes)}")
        if depth < LEAST:
            raise ConfigError(
                f"folding of {name}: depth must be at least {LEAST}, got {depth}: leave it out to have it found."
            )
        getCustomOp(nodes[name]).set_nodeattr("depth", int(depth))
    return model


def safe_depths(model: Any) -> dict[str, int]:
    """Depths that never make a design stop, found without measuring: dear, and slower than measured ones may be.

    A matrix unit takes a row of inputs at once; padding gives a row before it takes one; and where branches meet, each
    may have to hold an image until the others have caught up.
    """
    from qonnx.custom_op.registry import getCustomOp

    nodes = {node.name: node for node in model.graph.node}
    inputs: dict[str, int] = {}
    for queue in queues(model):
        inputs[queue.consumer] = inputs.get(queue.consumer, 0) + 1
    result = {}
    for queue in queues(model):
        result[queue.name] = LEAST
        if queue.consumer and inputs[queue.consumer] > 1:
            result[queue.name] = queue.beats + LEAST
        elif queue.consumer:
            node = nodes[queue.consumer]
            op = getCustomOp(node)
            if "MVAU" in node.op_type:
                result[queue.name] = op.get_nodeattr("MW") // op.get_nodeattr("SIMD") + LEAST
            elif node.op_type.startswith("FMPadding"):
                result[queue.name] = 2 * math.prod(op.get_folded_input_shape()[-3:-1]) + LEAST
    return result
