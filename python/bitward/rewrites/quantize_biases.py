# SPDX-License-Identifier: Apache-2.0
"""Biases become integers: whole steps of the sums that they are added to, so that they can be stored and protected.

A layer's own bias and the shift of the batch norm behind it are one number, (beta - mean*k)/k + bias with k the norm's
scale. Rounded to whole steps it is an integer that hardware adds to the layer's integer sum; the norm keeps its scale.
"""

from __future__ import annotations

import json

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, helper
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.base import Transformation
from qonnx.util.basic import get_by_name

from bitward.rewrites.biases import MAX_BIAS_BITS, Floats, find_bias, integer_biases, signed_bits, sum_scales
from bitward.rewrites.layers import Layer, drop_unread, find_layers

ROUNDED_KEY = "bitward.rounded_biases"
REFUSED_KEY = "bitward.layers_without_integer_bias"


def rounded_biases(model: ModelWrapper) -> dict[str, float]:
    """An analysis: by layer, by how much of a step `QuantizeBiases` moved a bias at the most (0.5 is the bound)."""
    noted: dict[str, float] = json.loads(model.get_metadata_prop(ROUNDED_KEY) or "{}")
    return noted


def refused_biases(model: ModelWrapper) -> dict[str, str]:
    """An analysis: the layers that `QuantizeBiases` left without an integer bias, and why."""
    noted: dict[str, str] = json.loads(model.get_metadata_prop(REFUSED_KEY) or "{}")
    return noted


def bias_notes(model: ModelWrapper) -> list[str]:
    """What `QuantizeBiases` did, a line for each layer."""
    rounded, refused = rounded_biases(model), refused_biases(model)
    return [
        *(f"{name}: biases rounded to integers, by {moved:.2g} steps at most" for name, moved in rounded.items()),
        *(f"{name}: no integer bias, as {why}" for name, why in refused.items()),
    ]


class QuantizeBiases(Transformation):
    """Layers add integer biases, behind Quant nodes: their own ones, with the shift of the batch norm behind them.

    A bias moves by half a step of the layer's sums at most: `rounded_biases`. Biases that are integers stay as they
    are, and so does the norm behind them. Layers for which there is nothing to add, or no known step, are noted with
    the reason: `refused_biases`. Negative batch-norm scales must have been folded before (`FoldNegativeScales`).
    """

    def apply(self, model: ModelWrapper) -> tuple[ModelWrapper, bool]:
        done = integer_biases(model)
        rounded, refused = rounded_biases(model), {}
        for name, layer in find_layers(model).items():
            if name in done:
                continue
            why = _obstacle(model, layer)
            if why:
                refused[name] = why
                continue
            steps = np.asarray(sum_scales(model, layer))
            shift = _shift(model, layer)
            integers = np.rint(shift / steps).astype(np.int64)
            if signed_bits(integers) > MAX_BIAS_BITS:
                refused[name] = f"its biases would need {signed_bits(integers)} bits, more than {MAX_BIAS_BITS}"
                continue
            rounded[name] = float(np.abs(shift / steps - integers).max())
            _clear_shift(model, layer)
            _set_bias(model, layer, integers, steps)
        model.set_metadata_prop(ROUNDED_KEY, json.dumps(rounded))
        model.set_metadata_prop(REFUSED_KEY, json.dumps(refused))
        return model, False  # one pass does all


def _obstacle(model: ModelWrapper, layer: Layer) -> str:
    """Why the layer cannot have an integer bias; "" when it can."""
    has_input = len(layer.node.input) > 2 and layer.node.input[2]
    bias = find_bias(model, layer)
    if has_input and bias is None:
        return "its bias is computed, or stored in copies"
    if bias is not None and any(len(model.find_consumers(each)) > 1 for each in (bias.tensor, layer.node.input[2])):
        return "its bias is another layer's too"
    norm = _norm(model, layer)
    if bias is None and norm is None:
        return "it has no bias, and no batch norm behind it"
    if norm is not None and (_norm_scale(model, norm) <= 0).any():
        return "the batch norm behind it has scales that are not above 0"
    if layer.node.op_type == "MatMul" and len(model.get_tensor_shape(layer.node.input[0])) != 2:
        return "it is a matrix product of more than two dimensions"
    if sum_scales(model, layer) is None:
        return "the scale of its weights or of its inputs is not known"
    return ""


def _norm(model: ModelWrapper, layer: Layer) -> NodeProto | None:
    """The batch norm that alone reads the layer."""
    readers = model.find_consumers(layer.node.output[0])
    is_output = any(layer.node.output[0] == output.name for output in model.graph.output)
    if is_output or len(readers) != 1 or readers[0].op_type != "BatchNormalization":
        return None
    norm: NodeProto = readers[0]
    return norm


def _constants(model: ModelWrapper, norm: NodeProto) -> tuple[Floats, ...]:
    """Gamma, beta, mean and variance of a batch norm."""
    return tuple(model.get_initializer(name).astype(np.float64) for name in norm.input[1:5])


def _norm_scale(model: ModelWrapper, norm: NodeProto) -> Floats:
    gamma, _, _, variance = _constants(model, norm)
    epsilon = get_by_name(norm.attribute, "epsilon")
    return np.asarray(gamma / np.sqrt(variance + (1e-5 if epsilon is None else epsilon.f)))


def _shift(model: ModelWrapper, layer: Layer) -> Floats:
    """What is added to each output of the layer before the norm's scale, shape (outputs,)."""
    bias, norm = find_bias(model, layer), _norm(model, layer)
    own = np.zeros(()) if bias is None else bias.values.astype(np.float64).ravel()
    if norm is None:
        return np.asarray(own)
    _, beta, mean, _ = _constants(model, norm)
    return np.asarray(own + beta / _norm_scale(model, norm) - mean)


def _clear_shift(model: ModelWrapper, layer: Layer) -> None:
    """The norm behind the layer scales, and shifts no more."""
    norm = _norm(model, layer)
    if norm is None:
        return
    zeros = np.zeros(model.get_initializer(norm.input[2]).shape, np.float32)
    for position, part in ((2, "beta"), (3, "mean")):
        old, name = norm.input[position], f"{layer.name}.norm.{part}"
        norm.input[position] = name
        model.set_initializer(name, zeros)
        drop_unread(model, [old])


def _set_bias(model: ModelWrapper, layer: Layer, integers: npt.NDArray[np.int64], steps: Floats) -> None:
    """The layer adds `integers` times `steps`, behind a Quant node; a MatMul becomes a Gemm, which has a bias."""
    node, name = layer.node, f"{layer.name}.bias"
    old = find_bias(model, layer)
    parts = [name, f"{name}.scale", f"{name}.zero", f"{name}.bits"]
    quantizer = helper.make_node(
        "Quant",
        parts,
        [f"{name}.quantized"],
        name=f"{name}.quant",
        domain="qonnx.custom_op.general",
        signed=1,
        narrow=0,  # an upset makes every word: none may be thought impossible
        rounding_mode="ROUND",
    )
    read = [] if old is None else [node.input[2], *(old.quantizer.input if old.quantizer is not None else [])]
    if old is not None and old.quantizer is not None:
        model.graph.node.remove(old.quantizer)
    model.graph.node.insert(list(model.graph.node).index(node), quantizer)
    if node.op_type == "MatMul":
        node.op_type = "Gemm"
    del node.input[2:]
    drop_unread(model, read)
    values = (integers * steps, steps, 0.0, float(signed_bits(integers)))
    for part, value in zip(parts, values, strict=True):
        model.set_initializer(part, np.asarray(value, np.float32))
    node.input.append(quantizer.output[0])
    model.set_tensor_shape(quantizer.output[0], list(integers.shape))
