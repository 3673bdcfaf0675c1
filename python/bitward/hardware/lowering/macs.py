# SPDX-License-Identifier: Apache-2.0
"""What all layers with weights share: their integers, the width of their accumulators, their biases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import helper

from bitward.engine.datatypes import IntegerType
from bitward.errors import ModelError
from bitward.hardware.lowering.biases import add_bias
from bitward.hardware.lowering.constants import settle
from bitward.hardware.lowering.values import Deferred, Value, smallest
from bitward.hardware.lowering.walk import INSTEAD, Walk, where
from bitward.hardware.parameters import Digits, Parameter
from bitward.rewrites.layers import Layer, QuantizedWeights, read_weights

MIN_BITS, MAX_BITS = 2, 8


@dataclass(frozen=True, eq=False)
class Mac:
    """A layer with weights: its node, name, integer weights, and the input as integers times one scale."""

    node: Any
    name: str
    weights: QuantizedWeights
    input: Value
    input_scale: float

    @property
    def type(self) -> IntegerType:
        """The type of a weight: every word of it can be written at run time."""
        return IntegerType(self.weights.bits, True)

    def range(self, rows: int) -> tuple[int, int]:
        """The least and greatest sum of `rows` products, whatever the weights are."""
        ends = [weight * x for weight in (self.type.low, self.type.high) for x in (self.input.low, self.input.high)]
        return rows * min(*ends, 0), rows * max(*ends, 0)

    def parameter(self, rows: Digits, columns: Digits) -> Parameter:
        """The weights as a parameter of the hardware."""
        return Parameter(
            name=f"{self.name}.weight",
            layer=self.name,
            tensor=self.weights.tensor,
            role="weight",
            values=self.weights.integers,
            bits=self.weights.bits,
            signed=True,
            scale=self.weights.scale,
            rows=rows,
            columns=columns,
        )

    def scale(self, channels: int) -> NDArray[np.float64]:
        """The scale of the sums: input's times weights', shape () or (channels,); ModelError for another axis."""
        scale = self.weights.scale.astype(np.float64)
        if scale.size not in (1, channels):
            raise ModelError(
                f"{where(self.node)} must have weights of one scale, or of one for each of {channels} outputs, got "
                f"scales of shape {list(scale.shape)}: quantize per tensor or per output channel."
            )
        return (scale.reshape(()) if scale.size == 1 else scale.ravel()) * self.input_scale


def weights_of(model: Any, layer: Layer) -> QuantizedWeights:
    """The layer's integer weights. ModelError where hardware cannot take them."""
    weights = read_weights(model, layer)
    if not weights.signed:
        raise ModelError(f"layer {layer.name} must have signed weights, got unsigned ones: quantize them as signed.")
    if not MIN_BITS <= weights.bits <= MAX_BITS:
        raise ModelError(
            f"layer {layer.name} must have weights of {MIN_BITS} to {MAX_BITS} bits, got {weights.bits}: quantize them "
            "so."
        )
    return weights


def _instead(walk: Walk, node: Any) -> str:
    """What to do about weights that no Quant makes."""
    producer = walk.model.find_producer(node.input[1])
    made = producer.op_type if producer is not None else ""
    if made == "BipolarQuant":
        return "BipolarQuant's two values have no stored word; quantize with Quant, to 2 bits or more"
    return INSTEAD.get(made, "no hardware has that")


def read(walk: Walk, node: Any) -> Mac:
    """The layer of that node. ModelError where hardware cannot take its weights or input."""
    layer = walk.layers.get(node.output[0])
    if layer is None:
        raise ModelError(
            f"{where(node)} must have constant quantized weights, got computed ones: {_instead(walk, node)}."
        )
    weights = weights_of(walk.model, layer)
    value = settle(walk, walk.value(node), where(node))
    return Mac(node, layer.name, weights, value, value.uniform_scale(where(node)))


def finish(
    walk: Walk, mac: Mac, op: str, inputs: list[str], shape: tuple[int, ...], rows: int, axes: str, **attributes: Any
) -> str:
    """The unit `op` and its bias are emitted, the node's output has its value; returns what was done."""
    _check_shape(walk, mac, shape, axes)
    low, high = mac.range(rows)
    kind = smallest(low, high, signed=True)
    tensor = walk.emit(
        op,
        inputs,
        shape,
        kind,
        inputDataType=str(mac.input.type),
        weightDataType=str(mac.type),
        outputDataType=str(kind),
        accDataType=str(kind),
        noActivation=1,
        mem_mode="internal_decoupled",
        runtime_writeable_weights=1,
        SIMD=1,
        PE=1,
        **attributes,
    )
    value = Value(tensor, kind, low, high, shape, axes, mac.scale(shape[-1]), origin=mac.name)
    done = f"weights of {mac.weights.bits} bits, sums of {rows} products in {kind}"
    value, bias = _biased(walk, mac, value)
    walk.set(mac.node.output[0], value)
    return done + bias


def _check_shape(walk: Walk, mac: Mac, shape: tuple[int, ...], axes: str) -> None:
    """What the unit gives is what QONNX says that the node gives: no attribute was overlooked."""
    expected = walk.model.get_tensor_shape(mac.node.output[0])
    count = shape[-1], int(np.prod(shape[:-1]))
    channel = axes.index("C") if "C" in axes else -1
    if expected and (expected[channel], int(np.prod(expected)) // expected[channel]) != count:
        raise ModelError(
            f"{where(mac.node)} must give {count[1]} positions of {count[0]} channels, got a result of shape "
            f"{list(expected)} in the graph: leave out attributes (output_shape, auto_pad) that say otherwise."
        )


def _biased(walk: Walk, mac: Mac, value: Value) -> tuple[Value, str]:
    """The value after the node's own bias: integers added in hardware where that is asked for, else deferred."""
    if len(mac.node.input) < 3 or not mac.node.input[2]:
        return value, ""
    name = mac.node.input[2]
    constant = walk.constant(name)
    if constant is None:
        raise ModelError(f"the bias of layer {mac.name} must be constant, got a computed one: export the model again.")
    if constant.size not in (1, value.channels):
        raise ModelError(
            f"the bias of layer {mac.name} must be one number, or one for each of {value.channels} outputs, got "
            f"{constant.size}: export the model again."
        )
    added = add_bias(walk, value, name)
    if added is not None:
        return added, ", bias added"
    add = helper.make_node("Add", [mac.node.output[0], name], [f"{mac.node.output[0]}.biased"], name=f"{mac.name}.bias")
    floats = constant.reshape(()) if constant.size == 1 else constant.reshape(-1)
    return value.then(Deferred(add, 0, {name: floats.astype(np.float32)})), ", bias deferred"
