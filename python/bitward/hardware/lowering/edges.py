# SPDX-License-Identifier: Apache-2.0
"""The host's work at both edges of the hardware: shapes before it, scales and shapes behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitward.engine.datatypes import IntegerType
from bitward.errors import ModelError
from bitward.hardware.lowering.graph import SOURCE
from bitward.hardware.lowering.values import Deferred, Value
from bitward.hardware.lowering.walk import where
from bitward.streams import EdgeOp

_TO_HARDWARE = [0, 2, 3, 1]  # NCHW to NHWC


def enter(model: Any) -> tuple[str, Value, list[EdgeOp]]:
    """The tensor at which hardware begins, its value, and what the host does to an image before.

    Shape operators right behind the graph's input are the host's. ModelError where the input has no integer type.
    """
    tensor = model.graph.input[0].name
    datatype = model.get_tensor_datatype(tensor)
    if not datatype.is_integer():
        raise ModelError(
            f"input {tensor} must have an integer FINN datatype, got {datatype.name}: annotate it "
            "(UINT8 for raw pixels) when exporting, or with bitward import --input UINT8."
        )
    kind = IntegerType.parse(datatype.name, f"input {tensor}")
    ops: list[EdgeOp] = []
    while (node := _shape_operator(model, tensor)) is not None:
        tensor = node.output[0]
        ops.append(_edge_op(model, node))
    shape = tuple(int(size) for size in model.get_tensor_shape(tensor) or ())
    if len(shape) not in (2, 4) or shape[0] != 1 or 0 in shape:
        sizes = ", ".join(str(size or "any") for size in shape)
        raise ModelError(
            f"input {tensor} must have shape (1, channels, height, width) or (1, features), got [{sizes}]: export the "
            "model for batches of one, and images of one size."
        )
    if len(shape) == 4:
        ops.append({"op": "Transpose", "perm": _TO_HARDWARE})
        shape = tuple(shape[axis] for axis in _TO_HARDWARE)
    value = Value(SOURCE, kind, kind.low, kind.high, shape, "NCHW" if len(shape) == 4 else "NC")
    return tensor, value, _joined(ops)


def _shape_operator(model: Any, tensor: str) -> Any:
    """The one node that reads the tensor, if it only changes shape or order and keeps images along the first axis."""
    readers = [node for node in model.graph.node if tensor in node.input]
    if len(readers) != 1 or readers[0].op_type not in ("Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose"):
        return None
    shape = model.get_tensor_shape(readers[0].output[0])
    return readers[0] if shape is not None and len(shape) > 1 and shape[0] == 1 else None


def _edge_op(model: Any, node: Any) -> EdgeOp:
    if node.op_type == "Transpose":
        perm = [int(axis) for attribute in node.attribute if attribute.name == "perm" for axis in attribute.ints]
        return {"op": "Transpose", "perm": perm}
    return {"op": "Reshape", "shape": [int(size) for size in model.get_tensor_shape(node.output[0])][1:]}


def _joined(ops: list[EdgeOp]) -> list[EdgeOp]:
    """Neighbouring transposes are one, and none where nothing moves."""
    joined: list[EdgeOp] = []
    for op in ops:
        if joined and op["op"] == joined[-1]["op"] == "Transpose":
            before = joined.pop()["perm"]
            op = {"op": "Transpose", "perm": [before[axis] for axis in op["perm"]]}
        if op["op"] != "Transpose" or op["perm"] != sorted(op["perm"]):
            joined.append(op)
    return joined


def leave(value: Value, shape: Sequence[int] | None = None) -> list[EdgeOp]:
    """What the host makes of the hardware's integers: shape and order, then scale and what is pending.

    `shape` is the output's in the QONNX graph, where axes of size 1 may be gone. ModelError for anything pending that
    is no multiplication or addition.
    """
    ops: list[EdgeOp] = []
    if len(value.shape) == 4:
        ops += _joined([{"op": "Transpose", "perm": ["NHWC".index(axis) for axis in value.axes]}])
        if value.is_flat:
            ops.append({"op": "Reshape", "shape": [int(np.prod(value.shape[1:]))]})
    if np.any(value.scale != 1):
        ops.append({"op": "Mul", "value": _aligned(value, value.scale)})
    for deferred in value.pending:
        ops += _arithmetic(value, deferred)
    if shape is not None and tuple(shape) != value.float_shape:
        ops.append({"op": "Reshape", "shape": [int(size) for size in shape[1:]]})
    return ops


def _arithmetic(value: Value, deferred: Deferred) -> list[EdgeOp]:
    """One pending operation as multiplications and additions."""
    node, kind = deferred.node, deferred.node.op_type
    if kind == "BatchNormalization":
        gamma, beta, mean, variance = (deferred.constant(position).astype(np.float64) for position in range(1, 5))
        epsilon = next((attribute.f for attribute in node.attribute if attribute.name == "epsilon"), 1e-5)
        factor = gamma / np.sqrt(variance + epsilon)
        return [
            {"op": "Mul", "value": _aligned(value, factor)},
            {"op": "Add", "value": _aligned(value, beta - mean * factor)},
        ]
    if kind not in ("Mul", "Div", "Add", "Sub"):
        raise ModelError(
            f"{where(node)} must stand before a quantizer to become thresholds, got it at the graph's output: quantize "
            "behind it, or leave it to the host."
        )
    constant = deferred.constant(1 - deferred.data).astype(np.float64)
    operand = {"Mul": constant, "Add": constant, "Div": 1 / constant, "Sub": -constant}[kind]
    return [{"op": "Mul" if kind in ("Mul", "Div") else "Add", "value": _aligned(value, operand)}]


def _aligned(value: Value, operand: NDArray[np.float64]) -> NDArray[np.float32]:
    """The constant, shape () or (channels,), as it broadcasts over one image of the graph's output."""
    single = np.asarray(operand, np.float32)
    if single.ndim == 0:
        return single
    if value.is_flat:
        sizes = dict(zip("HWC", value.shape[1:], strict=True))
        shape = [sizes[axis] if axis == "C" else 1 for axis in value.axes[1:]]
        full = np.broadcast_to(single.reshape(shape), [sizes[axis] for axis in value.axes[1:]])
        return np.ascontiguousarray(full).reshape(-1)
    return single.reshape([-1 if axis == "C" else 1 for axis in value.axes[1:]])
