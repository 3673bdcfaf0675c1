# SPDX-License-Identifier: Apache-2.0
"""Signs of batch norm move into the weights, before weights become stored words.

Why: FINN's streamlining pulls the sign of a negative scale back into the weights. An upset in w is not the same upset
in -w, so words would change their meaning between the QONNX graph and the hardware. Folded first, they keep it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from onnx import NodeProto
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.base import Transformation

from bitward.errors import ModelError
from bitward.rewrites.biases import output_axis
from bitward.rewrites.layers import Layer, find_layers, read_quantizer, read_weights

SATURATED_KEY = "bitward.saturated_weights"
Mask = npt.NDArray[np.bool_]


def negative_scales(model: ModelWrapper) -> dict[str, int]:
    """An analysis: how many scales below zero each batch norm or constant Mul has, by node name; no zeros."""
    found = {}
    for index, node in enumerate(model.graph.node):
        scales = _scales(model, node)
        if scales is not None and (count := int((scales < 0).sum())):
            found[node.name or f"{node.op_type}_{index}"] = count
    return found


def saturated_weights(model: ModelWrapper) -> dict[str, int]:
    """An analysis: how many weights of each layer `FoldNegativeScales(saturate=True)` had to change by one step."""
    counts: dict[str, int] = json.loads(model.get_metadata_prop(SATURATED_KEY) or "{}")
    return counts


@dataclass
class FoldNegativeScales(Transformation):
    """No scale is below zero: where gamma was, the channel's weights, bias, mean and gamma are negated; same function.

    A weight of -2^(b-1) has no negative in b bits. bitward's own training keeps it out of the channels concerned, so
    folding is exact there. Any other model with one is refused, or, with `saturate`, such a weight becomes 2^(b-1) - 1:
    one step off, counted in `saturated_weights`. Widening the layer by a bit instead would change every word of it.

    ModelError: a negative scale that does not directly follow a layer with quantized weights, or follows a voted one.
    """

    saturate: bool = False

    def __post_init__(self) -> None:
        super().__init__()

    def apply(self, model: ModelWrapper) -> tuple[ModelWrapper, bool]:
        layers = {layer.node.output[0]: layer for layer in find_layers(model).values()}
        saturated = saturated_weights(model)
        for node in model.graph.node:
            scales = _scales(model, node)
            if scales is None or not (scales < 0).any():
                continue
            layer = _foldable(model, node, layers)
            if count := self._fold(model, node, layer, scales < 0):
                saturated[layer.name] = saturated.get(layer.name, 0) + count
        if saturated:
            model.set_metadata_prop(SATURATED_KEY, json.dumps(saturated))
        return model, False  # one pass folds all

    def _fold(self, model: ModelWrapper, norm: NodeProto, layer: Layer, negative: Mask) -> int:
        """Negates the channels of `negative`; returns how many weights had to saturate."""
        weights = read_weights(model, layer)
        if not weights.signed:
            raise ModelError(
                f"layer '{layer.name}' must have signed weights to have negative batch-norm scales folded, got "
                "unsigned ones; quantize them as signed"
            )
        axis = output_axis(layer, weights.integers.ndim)
        channels = negative.reshape([-1 if dim == axis else 1 for dim in range(weights.integers.ndim)])
        stuck = int((channels & (weights.integers == weights.lowest)).sum())
        if stuck and not self.saturate:
            raise ModelError(
                f"layer '{layer.name}' must have no weight of {weights.lowest} where batch norm's scale "
                f"is negative, got {stuck}: {-weights.lowest} does not fit into {weights.bits} bits; train with "
                f"bitward, which keeps it out, or allow saturation (--saturate), which makes it {-weights.lowest - 1}"
            )
        negated = np.minimum(-weights.integers, -weights.lowest - 1) * weights.scale.astype(np.float64)
        before = model.get_initializer(weights.tensor)
        model.set_initializer(weights.tensor, np.where(channels, negated, before).astype(np.float32))
        if len(layer.node.input) > 2:
            _negate_bias(model, layer, negative)
        for name in (norm.input[1], norm.input[3]):  # gamma and mean
            model.set_initializer(name, np.where(negative, -model.get_initializer(name), model.get_initializer(name)))
        return stuck


def _scales(model: ModelWrapper, node: NodeProto) -> npt.NDArray[np.float32] | None:
    """The constant scales that a node multiplies activations by; None when it does not."""
    if node.op_type == "BatchNormalization":
        return model.get_initializer(node.input[1])
    if node.op_type == "Mul":
        constants = [value for name in node.input if (value := model.get_initializer(name)) is not None]
        return constants[0] if len(constants) == 1 else None
    return None


def _foldable(model: ModelWrapper, node: NodeProto, layers: dict[str, Layer]) -> Layer:
    """The layer whose weights take the signs of `node`; ModelError when there is none that can."""
    layer = layers.get(node.input[0]) if node.op_type == "BatchNormalization" else None
    if layer is None:
        before = model.find_producer(node.input[0])
        raise ModelError(
            f"node '{node.name}' ({node.op_type}) must be a batch norm right after a layer with constant weights to "
            f"have its negative scales folded, got it after {before.op_type if before else 'the input'}; make them "
            "positive"
        )
    if layer.voter is not None:
        raise ModelError(
            f"layer '{layer.name}' must have its negative batch-norm scales folded before it is hardened, got a voter; "
            "harden the plain model with bitward harden"
        )
    readers = model.find_consumers(layer.node.output[0])
    outputs = [output.name for output in model.graph.output]
    weight_readers = model.find_consumers(layer.node.input[1])
    if len(readers) > 1 or layer.node.output[0] in outputs or len(weight_readers) > 1:
        raise ModelError(
            f"layer '{layer.name}' must feed its batch norm alone, with weights of its own, to have negative scales "
            f"folded, got {len(readers)} readers and weights shared by {len(weight_readers)}; split the layer, or make "
            "the scales positive"
        )
    return layer


def _negate_bias(model: ModelWrapper, layer: Layer, negative: Mask) -> None:
    name = layer.node.input[2]
    quantizer = model.find_producer(name)
    if quantizer is not None and quantizer.op_type == "Quant" and model.get_initializer(quantizer.input[0]) is not None:
        bias = read_quantizer(model, quantizer, f"the bias of layer '{layer.name}'").values
        name = quantizer.input[0]
    elif (bias := model.get_initializer(name)) is None:
        raise ModelError(
            f"the bias of layer '{layer.name}' must be constant to have negative scales folded, got a computed one; "
            "make its batch-norm scales positive"
        )
    model.set_initializer(name, np.where(negative, -bias, bias).astype(np.float32))
