# SPDX-License-Identifier: Apache-2.0
"""What does not become hardware is refused: a sentence names the node, what it must be, what it is, and what to do."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
from onnx import helper
from parts import Graph, built, conv, lower, sliced, walked
from qonnx.core.datatype import DataType
from qonnx.core.modelwrapper import ModelWrapper

from bitward.errors import ModelError
from bitward.hardware.lowering.edges import enter
from bitward.hardware.lowering.passes import prepare
from bitward.hardware.lowering.walk import Walk


def image(shape=(1, 4, 6, 6)) -> Graph:
    """A graph to begin with."""
    return Graph("refused", shape, seed=1)


def grouped(graph: Graph) -> str:
    return conv(graph, shape=(4, 2, 1, 1), group=2)


def strange_scales(graph: Graph) -> str:
    return conv(graph, scale=graph.random.uniform(0.1, 0.2, (1, 4, 1, 1)), shape=(6, 4, 1, 1))


def one_dimensional(graph: Graph) -> str:
    graph.input_shape = (1, 4, 36)
    return conv(graph, shape=(4, 4, 3))


def computed_weights(graph: Graph) -> str:
    return graph.node("MatMul", ["image", "image"], "m")


def constant_first(graph: Graph) -> str:
    graph.input_shape = (1, 4)
    graph.weights("w", (3, 1), 4, 0.1)
    return graph.node("MatMul", ["w", "image"], "m")


def joined_constant(graph: Graph) -> str:
    return graph.node("Concat", ["image", graph.constant("more", np.ones((1, 1, 6, 6)))], "j", axis=1)


def batch_of_four(graph: Graph) -> str:
    graph.input_shape = (4, 1)
    graph.weights("w", (1, 4), 4, 0.1)
    return graph.node("MatMul", ["image", "w"], "m")


def two_scales(graph: Graph) -> str:
    """A residual addition without a shared quantizer."""
    graph.quant(conv(graph, output="a"), "qa", 0.5, 4, True)
    graph.quant(conv(graph, output="b"), "qb", 0.31, 4, True)
    return graph.node("Add", ["qa", "qb"], "s")


def unquantized_summand(graph: Graph) -> str:
    graph.quant(conv(graph, output="a"), "qa", 0.5, 4, True)
    graph.node("Relu", [conv(graph, output="b")], "r")
    return graph.node("Add", ["qa", "r"], "s")


def two_shapes(graph: Graph) -> str:
    graph.quant(conv(graph, output="a"), "qa", 0.5, 4, True)
    graph.quant(conv(graph, output="b", shape=(1, 4, 1, 1)), "qb", 0.5, 4, True)
    return graph.node("Add", ["qa", "qb"], "s")


def three_summands(graph: Graph) -> str:
    return graph.node("Sum", ["image", "image", "image"], "s")


def product(graph: Graph) -> str:
    return graph.node("Mul", ["image", "image"], "m")


def joined_types(graph: Graph) -> str:
    graph.quant(conv(graph, output="a"), "qa", 0.5, 4, True)
    graph.quant(conv(graph, output="b"), "qb", 0.5, 4, False)
    return graph.node("Concat", ["qa", "qb"], "j", axis=1)


def joined_rows(graph: Graph) -> str:
    return graph.node("Concat", ["image", "image"], "j", axis=2)


def joined_sizes(graph: Graph) -> str:
    graph.node("MaxPool", ["image"], "p", kernel_shape=[2, 2], strides=[2, 2])
    graph.node("Flatten", ["image"], "f")
    graph.node("GlobalAveragePool", ["image"], "g")
    graph.node("Flatten", ["g"], "h")
    return graph.node("Concat", ["h", "f"], "j", axis=1)


def scales_into_a_layer(graph: Graph) -> str:
    graph.quant("image", "q", graph.random.uniform(0.3, 0.5, (1, 4, 1, 1)), 4, False)
    return conv(graph, "q")


def activation_into_a_layer(graph: Graph) -> str:
    return conv(graph, graph.node("Sigmoid", ["image"], "s"))


def one_slice(graph: Graph) -> str:
    return sliced(graph, "image", "s", 0, 2, 1)


def half_of_a_split(graph: Graph) -> str:
    graph.nodes.append(helper.make_node("Split", ["image"], ["a", "b"], name="cut", axis=1, split=[1, 3]))
    return graph.quant("a", "q", 1.7, 4, False)


def by_position(graph: Graph) -> str:
    return graph.node("Mul", ["image", graph.constant("mask", graph.random.uniform(1, 2, (1, 1, 6, 6)))], "m")


def negative_norm(graph: Graph) -> str:
    conv(graph)
    values = {"gamma": [1, 1, -1, 1], "beta": [0] * 4, "mu": [0] * 4, "var": [1] * 4}
    return graph.node("BatchNormalization", ["c", *(graph.constant(*each) for each in values.items())], "n")


def constant_minus(graph: Graph) -> str:
    return graph.node("Sub", [graph.constant("one", 1.0), "image"], "m")


def falling_alpha(graph: Graph) -> str:
    return graph.node("HardSigmoid", ["image"], "h", alpha=-0.2)


def falling_slope(graph: Graph) -> str:
    return graph.node("LeakyRelu", ["image"], "l", alpha=-0.1)


def negative_factor(graph: Graph) -> str:
    return graph.node("Mul", ["image", graph.constant("minus", -2.0)], "m")


def indices_of_maxima(graph: Graph) -> str:
    graph.nodes.append(helper.make_node("MaxPool", ["image"], ["p", "i"], name="pool", kernel_shape=[2, 2]))
    return "p"


def padded_maximum(graph: Graph) -> str:
    graph.quant(conv(graph), "q", 0.5, 4, True)
    return graph.node("MaxPool", ["q"], "p", kernel_shape=[3, 3], pads=[1, 1, 1, 1])


def padded_average(graph: Graph) -> str:
    return graph.node("AveragePool", ["image"], "p", kernel_shape=[3, 3], pads=[1, 1, 1, 1])


def ceiled(graph: Graph) -> str:
    return graph.node("MaxPool", ["image"], "p", kernel_shape=[4, 4], strides=[4, 4], ceil_mode=1)


def mean_of_rows(graph: Graph) -> str:
    return graph.node("ReduceMean", ["image"], "m", axes=[2])


def pooled_vector(graph: Graph) -> str:
    graph.input_shape = (1, 6, 6, 4)
    graph.quant("image", "q", 1.7, 4, False)
    graph.node("Transpose", ["q"], "t", perm=[0, 2, 1, 3])
    return graph.node("MaxPool", ["t"], "p", kernel_shape=[2, 2])


def too_large(graph: Graph) -> str:
    graph.node("MaxPool", ["image"], "p", kernel_shape=[3, 3], strides=[3, 3])
    return conv(graph, "p", shape=(4, 4, 3, 3), pads=[0, 0, 0, 0])


def cropped(graph: Graph) -> str:
    return conv(graph, shape=(4, 4, 3, 3), pads=[-1, 0, 0, 0])


def transposed(graph: Graph, shape=(4, 3, 2, 2), **options) -> str:
    graph.weights("w", shape, 4, 0.1)
    return graph.node("ConvTranspose", ["image", "w"], "u", kernel_shape=list(shape[2:]), **options)


def output_padded(graph: Graph) -> str:
    return transposed(graph, strides=[2, 2], output_padding=[1, 1])


def transposed_groups(graph: Graph) -> str:
    return transposed(graph, (4, 1, 2, 2), group=4)


def transposed_crop(graph: Graph) -> str:
    return transposed(graph, strides=[2, 2], pads=[2, 2, 2, 2])


def cubic(graph: Graph) -> str:
    graph.constant("roi", [])
    graph.constant("factors", [1, 1, 2, 2])
    return graph.node("Resize", ["image", "roi", "factors"], "r", mode="linear")


def scaled_gemm(graph: Graph) -> str:
    graph.input_shape = (1, 4)
    graph.weights("w", (4, 3), 4, 0.1)
    return graph.node("Gemm", ["image", "w"], "g", alpha=0.5)


def matrix_of_images(graph: Graph) -> str:
    graph.weights("w", (6, 3), 4, 0.1)
    return graph.node("MatMul", ["image", "w"], "m")


def reshaped(graph: Graph) -> str:
    graph.quant("image", "q", 1.7, 4, False)
    graph.constants["shape"] = np.array([1, 2, 12, 6], np.int64)
    return graph.node("Reshape", ["q", "shape"], "r")


def batches_last(graph: Graph) -> str:
    graph.quant("image", "q", 1.7, 4, False)
    return graph.node("Transpose", ["q"], "t", perm=[3, 1, 2, 0])


def label_of_an_image(graph: Graph) -> str:
    return graph.node("ArgMax", ["image"], "a", axis=1)


def label_of_a_map(graph: Graph) -> str:
    graph.quant("image", "q", 1.7, 4, False)
    graph.node("Flatten", ["q"], "f")
    return graph.node("ArgMax", ["f"], "a", axis=1)


def last_label(graph: Graph) -> str:
    graph.input_shape = (1, 4)
    return graph.node("ArgMax", ["image"], "a", axis=1, select_last_index=1)


def top_k(graph: Graph, k: int, **options) -> None:
    """Tensors "values" and "indices" of the `k` greatest."""
    graph.input_shape, graph.constants["k"] = (1, 4), np.array([k], np.int64)
    graph.nodes.append(helper.make_node("TopK", ["image", "k"], ["values", "indices"], name="top", **options))


def two_labels(graph: Graph) -> str:
    top_k(graph, 2)
    return "indices"


def label_behind_a_bias(graph: Graph) -> str:
    graph.input_shape = (1, 4)
    graph.weights("w", (4, 3), 4, 0.1)
    graph.node("Gemm", ["image", "w", graph.constant("b", [0.11, 0.27, 0.33])], "g")
    return graph.node("ArgMax", ["g"], "a", axis=1)


def reflected(graph: Graph) -> str:
    graph.constants["pads"] = np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64)
    return graph.node("Pad", ["image", "pads"], "p", mode="reflect")


def asymmetric(graph: Graph) -> str:
    return graph.quant("image", "q", 0.5, 4, False, zero=3)


def one_bit(graph: Graph) -> str:
    return graph.quant("image", "q", 0.5, 1, False)


def nine_bits(graph: Graph) -> str:
    return graph.quant("image", "q", 0.5, 9, False)


def negative_scale(graph: Graph) -> str:
    return graph.quant("image", "q", -0.5, 4, False)


def bipolar(graph: Graph) -> str:
    return graph.node("BipolarQuant", ["image", graph.constant("one", 1.0)], "b", "qonnx.custom_op.general")


def truncated(graph: Graph) -> str:
    names = [graph.constant(name, value) for name, value in (("s", 1), ("z", 2), ("b", 8), ("o", 4))]
    return graph.node("Trunc", ["image", *names], "t", "qonnx.custom_op.general", rounding_mode="FLOOR")


def cut_off(graph: Graph) -> str:
    graph.node("Mul", ["image", graph.constant("scale", 0.3)], "m")
    return graph.node("Cast", ["m"], "t", to=7)


def half_precision(graph: Graph) -> str:
    return graph.node("Cast", ["image"], "t", to=10)


def wrapped(graph: Graph) -> str:
    graph.weights("w", (4, 4, 3, 3), 4, 1.0)
    graph.node("Conv", ["image", "w"], "y", kernel_shape=[3, 3])
    return graph.node("Cast", ["y"], "t", to=3)


def other_shape(graph: Graph) -> str:
    graph.weights("w", (4, 2, 3, 3), 4, 0.1)
    return graph.node("ConvTranspose", ["image", "w"], "t", kernel_shape=[3, 3], strides=[2, 2], output_shape=[8, 8])


def every_second_channel(graph: Graph) -> str:
    """Slices whose ends fit side by side, but each leaves channels out."""
    halves = [sliced(graph, "image", "a", 0, 2, 1, 2), sliced(graph, "image", "b", 2, 4, 1, 2)]
    return graph.node("Concat", halves[::-1], "j", axis=1)


def sliced_rows(graph: Graph) -> str:
    parts = [sliced(graph, "image", "a", 0, 4, 2), sliced(graph, "image", "b", 4, 6, 2)]
    return graph.node("Concat", parts[::-1], "j", axis=2)


def along_rows_behind_a_concatenation(graph: Graph) -> str:
    """The quantizer goes into the branches; the constant, which none of them can have a piece of, goes with it."""
    graph.node("Concat", [conv(graph, output="a"), conv(graph, output="b")], "j", axis=1)
    graph.node("Mul", ["j", graph.constant("mask", np.ones(6))], "m")
    return graph.quant("m", "q", 0.5, 4, True)


def flat_window(graph: Graph) -> str:
    return graph.node("MaxPool", ["image"], "p", kernel_shape=[2])


def values_of_a_label(graph: Graph) -> str:
    top_k(graph, 1)
    return "values"


def label_of_a_batch(graph: Graph) -> str:
    top_k(graph, 1, axis=0)
    return "indices"


def dropped_out(graph: Graph) -> str:
    graph.nodes.append(helper.make_node("Dropout", ["image"], ["d", "mask"], name="drop"))
    return graph.node("Add", ["d", graph.node("Cast", ["mask"], "m", to=1)], "s")


def double_precision(graph: Graph) -> str:
    graph.node("Cast", ["image"], "d", to=11)
    graph.constants["factor"] = np.array(0.3)
    graph.node("Mul", ["d", "factor"], "m")
    return graph.quant(graph.node("Cast", ["m"], "f", to=1), "q", 0.5, 4, False)


def whole_quotient(graph: Graph) -> str:
    graph.constants["three"] = np.array(3, np.int32)
    return graph.node("Div", [graph.node("Cast", ["image"], "i", to=6), "three"], "m")


def softmax(graph: Graph) -> str:
    return graph.node("Softmax", [conv(graph)], "s", axis=1)


def unquantized_output(graph: Graph) -> str:
    return graph.node("Relu", [conv(graph)], "r")


def unsigned_weights(graph: Graph) -> str:
    graph.quant(graph.constant("w_float", np.ones((4, 4, 1, 1))), "w", 1.0, 4, False)
    return graph.node("Conv", ["image", "w"], "c", kernel_shape=[1, 1])


def wide_weights(graph: Graph) -> str:
    return conv(graph, bits=9)


def short_bias(graph: Graph) -> str:
    graph.weights("w", (4, 4, 1, 1), 4, 0.1)
    return graph.node("Conv", ["image", "w", graph.constant("b", [1, 2, 3])], "c", kernel_shape=[1, 1])


def computed_bias(graph: Graph) -> str:
    graph.input_shape = (1, 4)
    graph.weights("w", (4, 4), 4, 0.1)
    return graph.node("Gemm", ["image", "w", graph.node("Relu", ["image"], "r")], "g")


def plain_weights(graph: Graph) -> str:
    return graph.node("Conv", ["image", graph.constant("w", np.ones((4, 4, 1, 1)))], "c", kernel_shape=[1, 1])


REFUSED: dict[Callable[[Graph], str], str] = {
    grouped: "node Conv_c (Conv) must have 1 group, or as many as inputs and outputs, got 2 for 4 inputs and 4 ",
    strange_scales: "node Conv_c (Conv) must have weights of one scale, or of one for each of 6 outputs, got scales ",
    one_dimensional: "input image must have shape (1, channels, height, width) or (1, features), got [1, 4, 36]: ",
    computed_weights: "node MatMul_m (MatMul) must have constant quantized weights, got computed ones: ",
    constant_first: "node MatMul_m (MatMul) must have constant quantized weights, got computed ones: ",
    joined_constant: "node Concat_j (Concat) must have a computed input 1, got a constant: fold constants first.",
    batch_of_four: "input image must have shape (1, channels, height, width) or (1, features), got [4, 1]: ",
    two_scales: "node Add_s (Add) must add integers of one scale, got 0.5 (of Conv_a) and 0.31 (of Conv_b): let both ",
    unquantized_summand: "node Add_s (Add) must take integers times a scale, got Relu_r (Relu) before it: put a ",
    two_shapes: "node Add_s (Add) must add tensors of one shape, got [1, 4, 6, 6] and [1, 1, 6, 6]: ",
    three_summands: "node Sum_s (Sum) must have two summands, got 3: add them two by two.",
    product: "node Mul_m (Mul) must have one computed input, got input 1 computed too: only two summands, ",
    joined_types: "node Concat_j (Concat) must join integers of one type, got INT4, UINT4: ",
    joined_rows: "node Concat_j (Concat) must work on channels, got axis 2 of [1, 4, 6, 6]: ",
    joined_sizes: "node Concat_j (Concat) must join tensors of one height and width, got [[1, 4], [1, 144]]: ",
    scales_into_a_layer: "node Conv_c (Conv) must take activations of one scale, got scales from 0.",
    activation_into_a_layer: "node Conv_c (Conv) must take integers times a scale, got Sigmoid_s (Sigmoid) before it: ",
    one_slice: "node Slice_s (Slice) must, together with the other slices of its input, take every channel once, got ",
    half_of_a_split: "node cut (Split) must have all its outputs read, got b unread: leave no channel out.",
    by_position: "node Mul_m (Mul) must have one constant, or one for each of 4 channels, got shape [1, 1, 6, 6]: ",
    negative_norm: "node BatchNormalization_n (BatchNormalization) must have scales of 0 or more, got -1.0: fold ",
    constant_minus: "node Sub_m (Sub) must have the computed tensor first, got image: ",
    falling_alpha: "node HardSigmoid_h (HardSigmoid) must have an alpha of 0 or more, got -0.2",
    falling_slope: "node LeakyRelu_l (LeakyRelu) must have slopes of 0 or more, got -0.1",
    negative_factor: "node Mul_m (Mul) must have constants above 0, got -2.0: ",
    indices_of_maxima: "node pool (MaxPool) must give values alone, got its indices too: ",
    padded_maximum: "node MaxPool_p (MaxPool) must have no padding where integers may be below 0, got pads [1, 1, 1, ",
    padded_average: "node AveragePool_p (AveragePool) must count padding where it pads, got count_include_pad = 0: ",
    ceiled: "node MaxPool_p (MaxPool) must have windows that lie on the image, got outputs of [2, 2] from [6, 6]: ",
    mean_of_rows: "node ReduceMean_m (ReduceMean) must average over height and width, got axes [2]: ",
    pooled_vector: "node MaxPool_p (MaxPool) must take a feature map of axes NCHW, got axes NHCW: ",
    too_large: "node Conv_c (Conv) must have a kernel that fits its input of 2x2, got [3, 3]: ",
    cropped: "node Conv_c (Conv) must have pads of 0 or more, got [-1, 0, 0, 0]: ",
    output_padded: "node ConvTranspose_u (ConvTranspose) must have output_padding = [0, 0], got [1, 1]: ",
    transposed_groups: "node ConvTranspose_u (ConvTranspose) must have group = 1, got 4: use one group.",
    transposed_crop: "node ConvTranspose_u (ConvTranspose) must have pads below its kernel's size, got [2, 2, 2, 2] ",
    cubic: "node Resize_r (Resize) must repeat pixels a whole number of times, got 6x6 to 12x12 by linear: ",
    scaled_gemm: "node Gemm_g (Gemm) must have alpha = 1.0, got 0.5: fold it into the weights.",
    matrix_of_images: "node MatMul_m (MatMul) must take one vector an image, got shape [1, 4, 6, 6]: flatten before, ",
    reshaped: "node Reshape_r (Reshape) must flatten an image to one vector, or add axes of size 1, got [1, 4, 6, 6] ",
    batches_last: "node Transpose_t (Transpose) must keep images along the first axis, got perm = [3, 1, 2, 0]: ",
    label_of_an_image: "node ArgMax_a (ArgMax) must look for the greatest of one vector, got axis 1 of [1, 4, 6, 6]: ",
    label_of_a_map: "node ArgMax_a (ArgMax) must take one vector an image, got a map of [6, 6, 4]: ",
    last_label: "node ArgMax_a (ArgMax) must have select_last_index = 0, got 1: take the first index.",
    two_labels: "node top (TopK) must ask for the one greatest score, got k = [2]: ",
    label_behind_a_bias: "node ArgMax_a (ArgMax) must take integers times a scale, got Gemm_g.bias (Add) before it: ",
    reflected: "node Pad_p (Pad) must pad height and width with zeros, got pads [0, 0, 1, 1, 0, 0, 1, 1], mode ",
    asymmetric: "node Quant_q (Quant) must have zero point 0, got 3: ",
    one_bit: "node Quant_q (Quant) must quantize to one whole width from 2 to 8 bits, got [1.0]: ",
    nine_bits: "node Quant_q (Quant) must quantize to one whole width from 2 to 8 bits, got [9.0]: ",
    negative_scale: "node Quant_q (Quant) must have scales above 0, got -0.5: ",
    bipolar: "node BipolarQuant_b (BipolarQuant) must be a quantizer of 2 to 8 bits, got a bipolar one: ",
    truncated: "node Trunc_t (Trunc) must have zero point 0, got 2: ",
    cut_off: "node Cast_t (Cast) must cast to FLOAT or DOUBLE, got INT64, which rounds: ",
    half_precision: "node Cast_t (Cast) must cast to FLOAT or DOUBLE, got FLOAT16, which rounds: ",
    wrapped: "node Cast_t (Cast) must cast to a type that holds -",
    other_shape: "node ConvTranspose_t (ConvTranspose) must give 169 positions of 2 channels, got a result of shape "
    "[1, 2, 8, 8] in the graph: ",
    every_second_channel: "node Slice_b (Slice) must, together with the other slices of its input, take every channel ",
    sliced_rows: "node Slice_b (Slice) must, together with the other slices of its input, take every channel once, ",
    along_rows_behind_a_concatenation: "node Mul_m_0 (Mul) must have one constant, or one for each of 4 channels, got ",
    flat_window: "node MaxPool_p (MaxPool) must be two-dimensional, got a kernel of [2]: add an axis of size 1.",
    values_of_a_label: "node top (TopK) must be read for what hardware gives, got a reader of values, its output 0: ",
    label_of_a_batch: "node top (TopK) must look for the greatest of one vector, got axis 0 of [1, 4]: leave it to ",
    dropped_out: "node drop (Dropout) must be read for what hardware gives, got a reader of mask, its output 1: ",
    double_precision: "node Mul_m (Mul) must compute in FLOAT where a quantizer follows, got a constant of DOUBLE: ",
    whole_quotient: "node Div_m (Div) must divide floats, got integers, whose rest is dropped: use a quantizer.",
    softmax: "node Softmax_s (Softmax) has no RTL: bitward lowers Add, ArgMax, AveragePool, BatchNormalization, ",
    unquantized_output: "node Relu_r (Relu) must stand before a quantizer to become thresholds, got it at the graph's ",
    unsigned_weights: "layer Conv_c must have signed weights, got unsigned ones: ",
    wide_weights: "layer Conv_c must have weights of 2 to 8 bits, got 9: ",
    short_bias: "the bias of layer Conv_c must be one number, or one for each of 4 outputs, got 3: export the model ",
    computed_bias: "the bias of layer Gemm_g must be constant, got a computed one: ",
    plain_weights: "layer 'Conv_c' must have weights behind a Quant node, got none; ",
}


def refused(model: ModelWrapper, sentence: str) -> None:
    """Walking the model ends with that sentence."""
    with pytest.raises(ModelError, match=f"^{re.escape(sentence)}") as caught:
        walked(model)
    assert str(caught.value).endswith((".", "-layer)", "qonnx-cleanup"))


@pytest.mark.parametrize("write", REFUSED, ids=lambda write: write.__name__)
def test_what_is_no_hardware_is_refused(write, session):
    graph = image()
    output = write(graph)
    graph.save(session / "part.onnx", output, (), "UINT4")
    model = ModelWrapper(str(session / "part.onnx"))
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    model.graph.output[0].type.ClearField("tensor_type")
    model.graph.output[0].type.tensor_type.elem_type = 1
    refused(model, REFUSED[write])


@pytest.mark.parametrize("bias_as", ["add", "threshold"])
def test_an_integer_bias_along_rows_is_refused_however_biases_are_added(bias_as, session):
    """Also where it has as many numbers as there are channels, and the scale of the sums."""
    graph = image((1, 4, 6, 4))
    graph.quant("image", "x", 0.5, 5, False)
    graph.quant(graph.constant("b_float", [-1.0, 0.5, 1.5, 2.0]), "b", 0.05, 8, True)
    graph.quant(graph.node("Add", [conv(graph, "x"), "b"], "a"), "q", 0.6, 4, True)
    model = built(graph, "q", (1, 4, 6, 4), "UINT4", session)
    sentence = r"^node Add_a \(Add\) must have one constant, or one for each of 4 channels, got shape \[4\]: hardware "
    with pytest.raises(ModelError, match=sentence):
        lower(model, bias_as=bias_as)


def test_outputs_of_unknown_shape_are_refused(session):
    graph = image()
    conv(graph)
    graph.node("Relu", ["c"], "r")
    prepared, _ = prepare(built(graph, "r", (1, 4, 6, 6), "UINT8", session))
    prepared.graph.node[-1].op_type = "Flatten"
    prepared.graph.output[0].type.tensor_type.ClearField("shape")
    first, source, _ = enter(prepared)
    sentence = r"^node Relu_r \(Flatten\) must have outputs of known shapes, got none for r: give shapes as constants "
    with pytest.raises(ModelError, match=sentence):
        Walk(prepared, source, "threshold").run(first, source)


def test_levels_that_fall_are_refused_whatever_the_operators_are(session, monkeypatch):
    """The lists themselves are compared with QONNX, so that no rule need be trusted."""
    from bitward.hardware.lowering.rules import elementwise

    monkeypatch.setattr(elementwise, "_check", lambda *_: None)
    graph = image()
    graph.node("Mul", ["image", graph.constant("minus", -0.3)], "m")
    graph.quant("m", "q", 0.4, 4, True)
    model = built(graph, "q", (1, 4, 6, 6), "UINT8", session)
    refused(model, "node Quant_q (Quant) must never make a smaller level of a greater integer, got ")


def test_a_model_without_weights_is_refused(session):
    graph = image()
    graph.quant("image", "q", 1.7, 4, False)
    with pytest.raises(ModelError, match="^the model must have at least one Conv, ConvTranspose, MatMul or Gemm with "):
        lower(built(graph, "q", (1, 4, 6, 6), "UINT8", session))


def test_a_model_of_two_outputs_is_refused(session):
    graph = image()
    conv(graph)
    graph.node("Relu", ["c"], "more")
    model = built(graph, "c", (1, 4, 6, 6), "UINT8", session)
    (more,) = [info for info in model.graph.value_info if info.name == "more"]
    model.graph.value_info.remove(more)
    model.graph.output.append(more)
    with pytest.raises(ModelError, match=r"^the model must have one input and one output, got 1 and 2: cut it"):
        lower(model)


def test_an_input_without_an_integer_type_is_refused(session):
    graph = image()
    conv(graph)
    model = built(graph, "c", (1, 4, 6, 6), "UINT8", session)
    model.set_tensor_datatype("image", DataType["FLOAT32"])
    with pytest.raises(ModelError, match=r"^input image must have an integer FINN datatype, got FLOAT32: annotate it "):
        lower(model)


def test_an_output_that_depends_on_nothing_is_refused(session):
    graph = image()
    conv(graph)
    graph.quant(graph.constant("one", np.ones((1, 4))), "constant", 1.0, 4, True)
    model = built(graph, "constant", (1, 4), "UINT8", session)
    with pytest.raises(ModelError, match=r"^output constant must depend on the graph's input, got a constant: "):
        lower(model)


def test_operators_are_named_as_the_model_names_them(session):
    graph = image()
    conv(graph)
    graph.node("Softmax", ["c"], "s")
    graph.nodes[-1].name = "attention"
    with pytest.raises(ModelError, match=r"^node attention \(Softmax\) has no RTL: "):
        lower(built(graph, "s", (1, 4, 6, 6), "UINT8", session))
