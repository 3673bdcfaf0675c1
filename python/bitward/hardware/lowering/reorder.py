# SPDX-License-Identifier: Apache-2.0
"""Quantizers before what only moves values: pooling, up-sampling and concatenation then carry few bits, not sums."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import helper

from bitward.hardware.lowering.segment import QUANTIZERS
from bitward.hardware.lowering.values import unused

MOVERS = ("MaxPool", "Resize", "Upsample", "Concat")
ELEMENTWISE = frozenset(
    ("Relu", "Sigmoid", "HardSigmoid", "Tanh", "Clip", "Elu", "Selu", "Softplus", "Softsign", "LeakyRelu", "PRelu",
     "Mul", "Div", "Add", "Sub", "Min", "Max", "BatchNormalization", "Identity", "Dropout", *QUANTIZERS)
)  # fmt: skip


def quantize_first(model: Any) -> list[str]:
    """What follows a mover, up to its quantizer, stands before it; names of the movers. Same function, `model` changed.

    Only where sums would be moved: a mover of quantized integers stays. None of these operators falls as its input
    rises (the walk refuses those that would), so the greatest of a window stays the greatest.
    """
    moved = []
    for node in list(model.graph.node):
        if node.op_type not in MOVERS:
            continue
        chain = _chain(model, node.output[0])
        inputs = list(node.input) if node.op_type == "Concat" else [node.input[0]]
        are_known = all(model.get_tensor_shape(name) for name in inputs)
        if chain and are_known and not all(_is_quantized(model, name) for name in inputs):
            for position, name in enumerate(inputs):
                node.input[position] = _branch(model, node, chain, position, name)
            for part in chain:
                model.graph.node.remove(part)
            node.output[0] = chain[-1].output[0]
            moved.append(node.name)
    return moved


def _chain(model: Any, tensor: str) -> list[Any]:
    """The element-wise nodes that alone read one another's results, up to the first quantizer; [] without one."""
    chain: list[Any] = []
    while not chain or chain[-1].op_type not in QUANTIZERS:
        readers = [node for node in model.graph.node if tensor in node.input]
        is_output = tensor in [output.name for output in model.graph.output]
        if len(readers) != 1 or is_output or not _is_elementwise(model, readers[0], tensor):
            return []
        chain.append(readers[0])
        tensor = readers[0].output[0]
    return chain


def _is_elementwise(model: Any, node: Any, data: str) -> bool:
    others = [name for name in node.input if name and name != data]
    return node.op_type in ELEMENTWISE and all(model.get_initializer(name) is not None for name in others)


def _is_quantized(model: Any, tensor: str) -> bool:
    producer = model.find_producer(tensor)
    return producer is None or producer.op_type in QUANTIZERS


def _branch(model: Any, mover: Any, chain: list[Any], position: int, tensor: str) -> str:
    """A copy of the chain on one input of the mover; the tensor that it ends in."""
    shape = model.get_tensor_shape(tensor)
    at = list(model.graph.node).index(mover)
    data = mover.output[0]
    for index, part in enumerate(chain):
        copy = helper.make_node(part.op_type, list(part.input), [f"{mover.name}_in{position}_{index}"])
        copy.CopyFrom(part)
        copy.name = f"{part.name}_{position}" if mover.op_type == "Concat" else part.name
        copy.output[0] = f"{mover.name}_in{position}_{index}"
        for place, name in enumerate(part.input):
            copy.input[place] = tensor if name == data else _slice(model, mover, position, part, name)
        model.graph.node.insert(at + index, copy)
        model.set_tensor_shape(copy.output[0], shape)
        data, tensor = part.output[0], copy.output[0]
    return tensor


def _slice(model: Any, mover: Any, position: int, part: Any, name: str) -> str:
    """The constant's name; for one number a channel before a concatenation, that of the input's own channels."""
    constant = model.get_initializer(name) if name else None
    if mover.op_type != "Concat" or constant is None or constant.size == 1:
        return name
    shapes = [model.get_tensor_shape(source) for source in mover.input]
    joined = helper.get_node_attr_value(mover, "axis") % len(shapes[0])
    axis = joined - 1 if part.op_type == "BatchNormalization" else joined + constant.ndim - len(shapes[0])
    sizes = [shape[joined] for shape in shapes]
    if not 0 <= axis < constant.ndim or constant.shape[axis] != sum(sizes):
        return name  # broadcast along channels, or refused by the walk
    first = sum(sizes[:position])
    piece = np.take(constant, range(first, first + sizes[position]), axis=axis)
    free = unused(f"{name}_{position}", {tensor for node in model.graph.node for tensor in node.input})
    model.set_initializer(free, piece)
    return free


def join_slices(model: Any) -> list[str]:
    """Slices that take every channel of a tensor once are one Split; names of the slices. `model` is changed."""
    joined = []
    for tensor in {node.input[0]: None for node in model.graph.node if node.op_type == "Slice"}:
        slices = [node for node in model.graph.node if node.op_type == "Slice" and node.input[0] == tensor]
        shape = model.get_tensor_shape(tensor) or []
        ranges = [_channel_range(model, node, shape) for node in slices]
        if None in ranges:
            continue
        ordered = sorted(zip(ranges, slices, strict=True), key=lambda pair: pair[0] or (0, 0))
        edges = [0, *(stop for (_, stop), _ in ordered)]  # type: ignore[misc]
        if [start for (start, _), _ in ordered] != edges[:-1] or edges[-1] != shape[1]:  # type: ignore[misc]
            continue
        outputs = [node.output[0] for _, node in ordered]
        split = helper.make_node("Split", [tensor], outputs, name=f"{slices[0].name}_split", axis=1)
        model.graph.node.insert(list(model.graph.node).index(slices[0]), split)
        for node in slices:
            model.graph.node.remove(node)
            joined.append(node.name)
    return joined


def _channel_range(model: Any, node: Any, shape: Sequence[int]) -> tuple[int, int] | None:
    """(first, last + 1) of the channels that a Slice takes; None when it does anything else, or nothing is known."""
    numbers = [model.get_initializer(name) for name in node.input[1:]]
    if not shape or len(numbers) < 3 or any(number is None or number.size != 1 for number in numbers):
        return None
    start, stop, axis = (int(number.flat[0]) for number in numbers[:3])
    step = int(numbers[3].flat[0]) if len(numbers) > 3 else 1
    if axis % len(shape) != 1 or step != 1:
        return None
    first, last, _ = slice(start, stop).indices(shape[1])
    return first, last
