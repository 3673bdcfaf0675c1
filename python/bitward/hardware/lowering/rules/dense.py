# SPDX-License-Identifier: Apache-2.0
"""Dense layers. Behind a flattened map, rows run as the hardware streams it (h, w, c): the parameter says so."""

from __future__ import annotations

from typing import Any

from bitward.errors import ModelError
from bitward.hardware.lowering.macs import finish, read
from bitward.hardware.lowering.rule import lowers
from bitward.hardware.lowering.values import Value
from bitward.hardware.lowering.walk import Walk, where
from bitward.hardware.parameters import Digits
from bitward.indexmap import radix


@lowers("MatMul", "Gemm")
def dense(walk: Walk, node: Any) -> str:
    """A matrix unit on one vector an image."""
    mac = read(walk, node)
    transposed = False
    if node.op_type == "Gemm":
        for name in ("alpha", "beta"):
            walk.require(node, name, 1.0, 1.0, "fold it into the weights")
        walk.require(node, "transA", 0, 0, "transpose before")
        transposed = walk.attribute(node, "transB", 0) == 1
    value = mac.input
    if len(value.float_shape) != 2:
        raise ModelError(
            f"{where(node)} must take one vector an image, got shape {list(value.float_shape)}: flatten before, or use "
            "a 1x1 convolution."
        )
    shape = mac.weights.integers.shape
    inputs, outputs = (shape[1], shape[0]) if transposed else (shape[0], shape[1])
    if transposed:
        columns = radix(shape, (0,))
        rows = _rows(value, inputs, 1)
    else:
        columns = radix(shape, (1,))
        rows = _rows(value, inputs, outputs)
    parameter = mac.parameter(rows, tuple(columns))
    tensors = [value.tensor, walk.store(parameter)]
    return finish(walk, mac, "MVAU", tensors, (1, outputs), inputs, "NC", MW=inputs, MH=outputs, numInputVectors=[1])


def _rows(value: Value, inputs: int, stride: int) -> Digits:
    """The digits of the weights' input axis, in the order in which the hardware streams the value."""
    if len(value.shape) == 2:
        return ((inputs, stride),)
    sizes = dict(zip("HWC", value.shape[1:], strict=True))
    order = value.axes[1:]  # of the floats, most significant first
    strides = {axis: stride * _product(sizes, order[index + 1 :]) for index, axis in enumerate(order)}
    return tuple((sizes[axis], strides[axis]) for axis in "HWC")


def _product(sizes: dict[str, int], axes: str) -> int:
    result = 1
    for axis in axes:
        result *= sizes[axis]
    return result
