# SPDX-License-Identifier: Apache-2.0
"""The biases of a QONNX graph's layers, and the steps (scales) of the sums that they are added to."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from onnx import NodeProto
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.util.basic import get_by_name

from bitward.errors import ModelError
from bitward.rewrites.layers import Layer, QuantizedWeights, find_layers, read_quantizer

Floats = npt.NDArray[np.float64]

MAX_BIAS_BITS = 24  # QONNX carries integers in float32 tensors, exact up to here
SAME_SCALE = 1e-5  # share of a scale by which the same scale, computed in another order of float32, may differ
_PASSING = ("Relu", "MaxPool", "Reshape", "Flatten", "Transpose", "Identity", "Squeeze", "Unsqueeze", "Pad", "Resize",
            "Upsample", "Slice", "Split", "Dropout")  # fmt: skip
_JOINING = ("Add", "Concat")
_AVERAGING = ("AveragePool", "GlobalAveragePool", "ReduceMean")


@dataclass(frozen=True, eq=False)
class Bias:
    """A layer's bias: `quantizer` is the Quant node behind it, None for plain floats; `values` what the layer adds."""

    tensor: str
    values: npt.NDArray[np.float32]
    quantizer: NodeProto | None


def find_bias(model: ModelWrapper, layer: Layer) -> Bias | None:
    """The layer's constant bias; None when it has none, or when a voter stands behind it."""
    if len(layer.node.input) < 3 or not layer.node.input[2]:
        return None
    name = layer.node.input[2]
    source = model.find_producer(name)
    if source is None and (values := model.get_initializer(name)) is not None:
        return Bias(name, values, None)
    if source is not None and source.op_type == "Quant" and model.get_initializer(source.input[0]) is not None:
        quantized = read_quantizer(model, source, f"the bias of layer '{layer.name}'")
        return Bias(quantized.tensor, quantized.values, source)
    return None


def integer_biases(model: ModelWrapper) -> dict[str, QuantizedWeights]:
    """An analysis: by layer, the biases that are whole steps of the sums that they are added to, as integers.

    A bias of more than 24 bits has the least width that holds its integers.
    """
    found = {}
    for name, layer in find_layers(model).items():
        bias, steps = find_bias(model, layer), sum_scales(model, layer)
        if bias is None or bias.quantizer is None or steps is None:
            continue
        integers = read_quantizer(model, bias.quantizer, f"the bias of layer '{name}'")
        if integers.signed and np.allclose(integers.scale.ravel(), steps, rtol=SAME_SCALE, atol=0):
            bits = integers.bits if integers.bits <= MAX_BIAS_BITS else signed_bits(integers.integers)
            found[name] = QuantizedWeights(integers.tensor, integers.integers, integers.scale, bits, True)
    return found


def signed_bits(integers: npt.NDArray[np.int64]) -> int:
    """The least width of two's complement words, at least 2, that holds all of them.

    >>> signed_bits(np.array([-8, 7])), signed_bits(np.array([8])), signed_bits(np.array([0]))
    (4, 5, 2)
    """
    low, high = int(integers.min(initial=0)), int(integers.max(initial=0))
    return max(2, 1 + max((-low - 1).bit_length() if low < 0 else 0, high.bit_length()))


def sum_scales(model: ModelWrapper, layer: Layer) -> Floats | None:
    """What one step of the layer's integer sums is worth, shape () or (outputs,); None when it is not known."""
    weights, inputs = _weight_scale(model, layer), tensor_scale(model, layer.node.input[0])
    if weights is None or inputs is None:
        return None
    steps: Floats = weights.astype(np.float64) * inputs
    if steps.size == 1:
        return steps.reshape(())
    if layer.node.op_type == "ConvTranspose" and _groups(layer) != 1:
        return None
    is_one_an_output = steps.size == steps.shape[output_axis(layer, steps.ndim)]
    return steps.ravel() if is_one_an_output else None


def _weight_scale(model: ModelWrapper, layer: Layer) -> npt.NDArray[np.float32] | None:
    if layer.quantizer is not None:
        return model.get_initializer(layer.quantizer.input[1])
    if layer.scaling is not None and layer.voter is not None:
        return model.get_initializer(next(name for name in layer.scaling.input if name != layer.voter.output[0]))
    return None


def tensor_scale(model: ModelWrapper, tensor: str) -> float | None:
    """What one step of the integers behind a tensor of activations is worth; None when it is not known."""
    node = model.find_producer(tensor)
    if node is None:
        is_input = any(tensor == source.name for source in model.graph.input)
        return 1.0 if is_input and model.get_tensor_datatype(tensor).is_integer() else None
    if node.op_type in ("Quant", "IntQuant"):
        scale = model.get_initializer(node.input[1])
        return None if scale is None or scale.size != 1 else float(scale.reshape(()))
    if node.op_type in _PASSING:
        return tensor_scale(model, node.input[0])
    if node.op_type == "Mul":
        return _scaled(model, node)
    if node.op_type in _JOINING:
        scales = {tensor_scale(model, name) for name in node.input}
        return scales.pop() if len(scales) == 1 else None
    if node.op_type in _AVERAGING:
        before, count = tensor_scale(model, node.input[0]), _averaged(model, node)
        return None if before is None or count is None else before / count
    return None


def _scaled(model: ModelWrapper, node: NodeProto) -> float | None:
    """The scale behind a Mul by one constant."""
    factors = [model.get_initializer(name) for name in node.input]
    constants = [factor for factor in factors if factor is not None and factor.size == 1]
    before = [tensor_scale(model, name) for name, factor in zip(node.input, factors, strict=True) if factor is None]
    if len(constants) != 1 or len(before) != 1 or before[0] is None:
        return None
    return float(constants[0].reshape(())) * before[0]


def _averaged(model: ModelWrapper, node: NodeProto) -> int | None:
    """How many numbers one average is made of; None where padding makes it vary."""
    if node.op_type == "AveragePool":
        pads, kernel = get_by_name(node.attribute, "pads"), get_by_name(node.attribute, "kernel_shape")
        return None if pads is not None and any(pads.ints) else math.prod(kernel.ints)
    before, after = (model.get_tensor_shape(name) for name in (node.input[0], node.output[0]))
    return None if before is None or after is None else math.prod(before) // math.prod(after)


def output_axis(layer: Layer, dims: int) -> int:
    """The weight tensor's axis of output channels. ModelError for a transposed convolution of several groups."""
    if layer.node.op_type == "ConvTranspose":
        if _groups(layer) != 1:
            raise ModelError(
                f"layer '{layer.name}' must be a transposed convolution of one group to have negative scales folded, "
                f"got {_groups(layer)} groups; make its batch-norm scales positive"
            )
        return 1
    if layer.node.op_type == "Conv":
        return 0
    transposed = get_by_name(layer.node.attribute, "transB")
    return 0 if layer.node.op_type == "Gemm" and transposed is not None and transposed.i else dims - 1


def _groups(layer: Layer) -> int:
    attribute = get_by_name(layer.node.attribute, "group")
    return 1 if attribute is None else int(attribute.i)
