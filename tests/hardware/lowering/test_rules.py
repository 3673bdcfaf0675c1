# SPDX-License-Identifier: Apache-2.0
"""Each operator by itself: what becomes of it, and that hardware answers as QONNX does."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper
from parts import Graph, answers_alike, built, kinds, lower, sliced, walked

CONVOLUTIONS = {
    "1x1": ((6, 3, 1, 1), {}, (9, 8), ["MVAU"]),
    "1x1 stride 2": ((6, 3, 1, 1), {"strides": [2, 2]}, (5, 4), ["ConvolutionInputGenerator", "MVAU"]),
    "3x3": ((6, 3, 3, 3), {}, (7, 6), ["ConvolutionInputGenerator", "MVAU"]),
    "padded unevenly": ((6, 3, 3, 2), {"pads": [0, 1, 2, 1]}, (9, 9),
                        ["FMPadding", "ConvolutionInputGenerator", "MVAU"]),
    "strided, not square": ((4, 3, 2, 3), {"strides": [3, 2]}, (3, 3), ["ConvolutionInputGenerator", "MVAU"]),
    "dilated": ((4, 3, 3, 2), {"dilations": [2, 3]}, (5, 5), ["ConvolutionInputGenerator", "MVAU"]),
    "same": ((4, 3, 3, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, (5, 4),
             ["FMPadding", "ConvolutionInputGenerator", "MVAU"]),
    "same lower": ((4, 3, 2, 2), {"auto_pad": "SAME_LOWER"}, (9, 8),
                   ["FMPadding", "ConvolutionInputGenerator", "MVAU"]),
    "whole image": ((5, 3, 9, 8), {}, (1, 1), ["ConvolutionInputGenerator", "MVAU"]),
    "depthwise": ((3, 1, 3, 3), {"group": 3, "pads": [1, 1, 1, 1]}, (9, 8),
                  ["FMPadding", "ConvolutionInputGenerator", "VVAU"]),
    "depthwise 1x1": ((3, 1, 1, 1), {"group": 3}, (9, 8), ["ConvolutionInputGenerator", "VVAU"]),
    "depthwise, not square": ((3, 1, 2, 3), {"group": 3, "strides": [2, 1]}, (4, 6),
                              ["ConvolutionInputGenerator", "VVAU"]),
}  # fmt: skip


@pytest.mark.parametrize("case", CONVOLUTIONS)
@pytest.mark.parametrize("datatype", ["UINT4", "INT3"])
def test_convolutions(case, datatype, session):
    shape, options, result, expected = CONVOLUTIONS[case]
    graph = Graph("conv", (1, 3, 9, 8), seed=1)
    scale = graph.random.uniform(0.1, 0.3, (shape[0], 1, 1, 1))
    graph.weights("w", shape, 3, scale)
    graph.node("Conv", ["image", "w"], "out", kernel_shape=list(shape[2:]), **options)
    model = built(graph, "out", (1, shape[0], *result), datatype, session)
    lowered = lower(model)
    assert kinds(lowered) == expected and answers_alike(model, lowered)
    (parameter,) = lowered.parameters.values()
    assert parameter.values.shape == shape and (parameter.role, parameter.bits) == ("weight", 3)


TRANSPOSED = {
    "2x2 stride 2": ((3, 5, 2, 2), {"strides": [2, 2]}, (8, 10)),
    "3x3 stride 2": ((3, 5, 3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1]}, (7, 9)),
    "4x4 stride 2, padded": ((3, 4, 4, 4), {"strides": [2, 2], "pads": [1, 1, 1, 1]}, (8, 10)),
    "stride 1": ((3, 4, 3, 3), {}, (6, 7)),
    "not square": ((3, 4, 3, 2), {"strides": [1, 3], "pads": [2, 0, 1, 1]}, (3, 13)),
    "1x1 stride 2": ((3, 4, 1, 1), {"strides": [2, 2]}, (7, 9)),
    "dilated": ((3, 4, 2, 2), {"dilations": [2, 2]}, (6, 7)),
}


@pytest.mark.parametrize("case", TRANSPOSED)
def test_transposed_convolutions(case, session):
    shape, options, result = TRANSPOSED[case]
    graph = Graph("up", (1, 3, 4, 5), seed=1)
    graph.weights("w", shape, 4, graph.random.uniform(0.1, 0.3, (1, shape[1], 1, 1)))
    graph.node("ConvTranspose", ["image", "w"], "out", kernel_shape=list(shape[2:]), **options)
    model = built(graph, "out", (1, shape[1], *result), "UINT4", session)
    lowered = lower(model)
    assert kinds(lowered)[-1] == "MVAU" and answers_alike(model, lowered)
    (parameter,) = lowered.parameters.values()
    assert parameter.values.shape == shape
    turned = parameter.values[:, :, ::-1, ::-1].transpose(2, 3, 0, 1).reshape(-1, shape[1])
    assert np.array_equal(parameter.matrix, turned)


@pytest.mark.parametrize("op", ["MatMul", "Gemm", "Gemm transposed"])
@pytest.mark.parametrize("first", ["flat", "image", "channels last"])
def test_dense_layers(op, first, session):
    """Whatever order the floats are flattened in, the parameter says where each weight stands."""
    input_shape = (1, 24) if first == "flat" else (1, 2, 3, 4)
    graph = Graph("dense", input_shape, seed=1)
    x = "image"
    if first != "flat":
        x = graph.quant(x, "q", 2.0, 3, False)  # hardware before the flattening, so that its order matters
        if first == "channels last":
            x = graph.node("Transpose", [x], "t", perm=[0, 2, 3, 1])
        x = graph.node("Flatten", [x], "f")
    graph.weights("w", (5, 24) if op == "Gemm transposed" else (24, 5), 4, 0.1)
    options = {"transB": 1} if op == "Gemm transposed" else {}
    graph.node(op.split()[0], [x, "w"], "out", **options)
    model = built(graph, "out", (1, 5), "UINT4", session)
    lowered = lower(model)
    assert kinds(lowered)[-1] == "MVAU" and answers_alike(model, lowered)
    weights = lowered.parameters["Gemm_out.weight" if op != "MatMul" else "MatMul_out.weight"]
    matrix = weights.values.T if op == "Gemm transposed" else weights.values
    if first == "image":
        matrix = matrix.reshape(2, 3, 4, 5).transpose(1, 2, 0, 3).reshape(24, 5)
    assert np.array_equal(weights.matrix, matrix)


POOLS = {
    "max": ("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2]}, (3, 4), "UINT4"),
    "max, overlapping": ("MaxPool", {"kernel_shape": [3, 2], "strides": [1, 2]}, (4, 4), "INT4"),
    "max, padded": ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}, (3, 4), "UINT4"),
    "max, dilated": ("MaxPool", {"kernel_shape": [2, 2], "dilations": [2, 2]}, (4, 6), "INT4"),
    "average": ("AveragePool", {"kernel_shape": [2, 4], "strides": [2, 4]}, (3, 2), "INT4"),
    "average, padded": ("AveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}, (6, 8),
                        "UINT4"),
    "global": ("GlobalAveragePool", {}, (1, 1), "UINT4"),
    "mean": ("ReduceMean", {"axes": [2, 3]}, (1, 1), "INT4"),
    "mean, axes from the end": ("ReduceMean", {"axes": [-1, -2]}, (1, 1), "INT4"),
}  # fmt: skip


@pytest.mark.parametrize("case", POOLS)
def test_pools(case, session):
    op, options, result, datatype = POOLS[case]
    graph = Graph("pool", (1, 3, 6, 8), seed=1)
    x = graph.node("Mul", ["image", graph.constant("scale", 0.37)], "x")
    graph.node(op, [x], "out", **options)
    model = built(graph, "out", (1, 3, *result), datatype, session)
    lowered = walked(model)
    assert kinds(lowered)[-1] in ("Pool", "GlobalAccPool") and answers_alike(model, lowered)


def test_a_mean_without_kept_axes_is_flat(session):
    graph = Graph("mean", (1, 4, 3, 3), seed=1)
    graph.node("ReduceMean", ["image"], "m", axes=[2, 3], keepdims=0)
    graph.weights("w", (4, 3), 4, 0.1)
    graph.node("MatMul", ["m", "w"], "out")
    model = built(graph, "out", (1, 3), "UINT4", session)
    lowered = lower(model)
    assert kinds(lowered) == ["GlobalAccPool", "MVAU"] and answers_alike(model, lowered)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("rounding", ["FLOOR", "ROUND"])
def test_a_truncated_average_is_a_threshold_list(rounding, version, session):
    """Brevitas' average pooling: the sum's low bits are dropped. Both versions of QONNX's operator."""
    graph = Graph("trunc", (1, 3, 4, 4), seed=1)
    x = graph.node("Mul", ["image", graph.constant("scale", 0.25)], "x")
    pooled = graph.node("AveragePool", [x], "pooled", kernel_shape=[2, 2], strides=[2, 2])
    total = graph.node("Mul", [pooled, graph.constant("count", 4.0)], "total")
    constants = {"s": 0.25, "z": 0.0, "bits": 6.0, "out_s": 1.0, "out_bits": 4.0}
    options = {"rounding_mode": rounding}
    if version == 1:
        del constants["out_s"]
    else:
        options |= {"signed": 0, "narrow": 0}
    names = [graph.constant(name, value) for name, value in constants.items()]
    graph.node("Trunc", [total, *names], "out", "qonnx.custom_op.general", **options)
    model = built(graph, "out", (1, 3, 2, 2), "UINT4", session)
    model.model.opset_import.append(helper.make_opsetid("qonnx.custom_op.general", version))
    lowered = walked(model)
    assert kinds(lowered) == ["ConvolutionInputGenerator", "Pool", "Thresholding"] and answers_alike(model, lowered)


def test_what_follows_a_pool_up_to_its_quantizer_is_done_before(session):
    """Hardware pools few bits instead of sums; the function is the same."""
    graph = Graph("order", (1, 3, 6, 6), seed=1)
    graph.weights("w", (4, 3, 3, 3), 4, 0.1)
    graph.node("Conv", ["image", "w"], "c", kernel_shape=[3, 3])
    graph.node("MaxPool", ["c"], "p", kernel_shape=[2, 2], strides=[2, 2])
    names = [graph.constant(f"bn{i}", graph.random.uniform(0.5, 1, 4)) for i in range(4)]
    graph.node("BatchNormalization", ["p", *names], "n")
    graph.quant(graph.node("Relu", ["n"], "r"), "out", 0.3, 4, False)
    model = built(graph, "out", (1, 4, 2, 2), "UINT4", session)
    lowered = lower(model)
    expected = ["ConvolutionInputGenerator", "MVAU", "Thresholding", "ConvolutionInputGenerator", "Pool"]
    assert kinds(lowered) == expected and answers_alike(model, lowered)
    assert "quantize_first: MaxPool_p before quantizers, now behind them" in lowered.steps


def test_a_pool_of_sums_waits_with_what_is_pending(session):
    """No quantizer behind: sums are pooled, and the host does the rest."""
    graph = Graph("sums", (1, 3, 6, 6), seed=1)
    graph.weights("w", (4, 3, 3, 3), 4, 0.1)
    graph.constant("b", graph.random.normal(0, 1, 4))
    graph.node("Conv", ["image", "w", "b"], "c", kernel_shape=[3, 3])
    graph.node("MaxPool", ["c"], "out", kernel_shape=[2, 2], strides=[2, 2])
    model = built(graph, "out", (1, 4, 2, 2), "UINT4", session)
    lowered = lower(model)
    assert kinds(lowered)[-1] == "Pool" and answers_alike(model, lowered)
    assert [op["op"] for op in lowered.post] == ["Transpose", "Mul", "Add"]


def branches(graph: Graph, outputs: int = 4) -> tuple[str, str]:
    """Two convolutions of the image: tensors c0 and c1, nothing quantized behind them."""
    for index in range(2):
        graph.weights(f"w{index}", (outputs, 3, 1, 1), 4, 0.1013 + 0.05 * index)
        graph.node("Conv", ["image", f"w{index}"], f"c{index}", kernel_shape=[1, 1])
    return "c0", "c1"


@pytest.mark.parametrize("signed", [(True, True), (True, False), (False, False)])
def test_a_residual_addition(signed, session):
    graph = Graph("add", (1, 3, 4, 4), seed=1)
    left, right = branches(graph)
    graph.quant(left, "q0", 0.5, 4, signed[0])
    graph.quant(right, "q1", 0.5, 5, signed[1])
    graph.node("Add", ["q0", "q1"], "sum")
    graph.quant(graph.node("Relu", ["sum"], "r"), "out", 0.7, 4, False)
    model = built(graph, "out", (1, 4, 4, 4), "UINT4", session)
    lowered = lower(model)
    assert kinds(lowered) == ["DuplicateStreams", "MVAU", "Thresholding", "MVAU", "Thresholding", "ElementwiseAdd",
                              "Thresholding"]  # fmt: skip
    assert answers_alike(model, lowered)
    thresholds = [name for name, parameter in lowered.parameters.items() if parameter.role == "threshold"]
    assert thresholds == ["Conv_c0.threshold", "Conv_c1.threshold", "Conv_c1.threshold_2"]


@pytest.mark.parametrize("scales, factors", [((0.5, 0.25), [2]), ((0.2, 0.3), [2, 3]), ((0.7, 2.8), [4])])
def test_summands_of_scales_that_are_multiples_of_one(scales, factors, session):
    """Constants make the scales equal; nothing is rounded."""
    graph = Graph("add", (1, 3, 4, 4), seed=1)
    left, right = branches(graph)
    graph.quant(left, "q0", scales[0], 4, True)
    graph.quant(right, "q1", scales[1], 4, True)
    graph.node("Add", ["q0", "q1"], "out")
    model = built(graph, "out", (1, 4, 4, 4), "UINT4", session)
    lowered = lower(model)
    held = [lowered.model.get_initializer(node.input[1]).tolist() for node in lowered.model.graph.node
            if node.op_type == "ElementwiseMul"]  # fmt: skip
    assert held == [[factor] for factor in factors] and answers_alike(model, lowered)


@pytest.mark.parametrize("offset", [128.0, np.array([128, 100, 3]).reshape(1, 3, 1, 1)], ids=["one", "channel"])
def test_a_whole_offset_before_a_layer_is_added_in_hardware(offset, session):
    """Pixels around zero go into a padded convolution: zeros around the image are zeros of the shifted pixels."""
    graph = Graph("offset", (1, 3, 4, 4), seed=1)
    graph.node("Sub", ["image", graph.constant("offset", offset)], "s")
    graph.node("Div", ["s", graph.constant("deviation", 64.0)], "x")
    graph.weights("w", (2, 3, 3, 3), 4, 0.1)
    graph.node("Conv", ["x", "w"], "out", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    model = built(graph, "out", (1, 2, 4, 4), "UINT8", session)
    lowered = lower(model)
    assert kinds(lowered) == ["ElementwiseAdd", "FMPadding", "ConvolutionInputGenerator", "MVAU"]
    assert answers_alike(model, lowered)


@pytest.mark.parametrize("quantized", [True, False])
def test_the_greatest_score_behind_an_integer_bias(quantized, session):
    """A quantized bias is a memory; one that happens to be whole sums is logic."""
    graph = Graph("label", (1, 12), seed=1)
    graph.weights("w", (12, 7), 4, 0.1)
    bias = graph.constant("b_float", graph.random.integers(-50, 50, 7) * 0.1)
    if quantized:
        bias = graph.quant(bias, "b", 0.1, 8, True)
    graph.node("Gemm", ["image", "w", bias], "scores")
    graph.node("ArgMax", ["scores"], "out", axis=1, keepdims=1)
    model = built(graph, "out", (1, 1), "UINT4", session)
    model.graph.output[0].type.tensor_type.elem_type = 7  # INT64
    lowered = lower(model)
    assert kinds(lowered) == ["MVAU", "ElementwiseAdd", "LabelSelect"] and answers_alike(model, lowered, count=30)
    assert ("Gemm_scores.bias" in lowered.parameters) == quantized


def test_a_tensor_added_to_itself(session):
    graph = Graph("twice", (1, 3, 4, 4), seed=1)
    branches(graph)
    graph.quant("c0", "q", 0.5, 4, True)
    graph.node("Add", ["q", "q"], "sum")
    graph.quant("sum", "out", 0.9, 4, True)
    graph.nodes = [node for node in graph.nodes if node.output[0] != "c1"]
    model = built(graph, "out", (1, 4, 4, 4), "UINT4", session)
    lowered = lower(model)
    assert kinds(lowered) == ["MVAU", "Thresholding", "DuplicateStreams", "ElementwiseAdd", "Thresholding"]
    assert answers_alike(model, lowered)


def test_concatenated_integers_of_one_scale_feed_a_layer(session):
    graph = Graph("concat", (1, 3, 4, 4), seed=1)
    left, right = branches(graph)
    graph.quant(left, "q0", 0.5, 4, False)
    graph.quant(right, "q1", 0.5, 4, False)
    graph.node("Concat", ["q0", "q1"], "both", axis=1)
    graph.weights("w2", (2, 8, 3, 3), 4, 0.1)
    graph.node("Conv", ["both", "w2"], "out", kernel_shape=[3, 3])
    model = built(graph, "out", (1, 2, 2, 2), "UINT4", session)
    lowered = lower(model)
    assert "StreamingConcat" in kinds(lowered) and answers_alike(model, lowered)


def test_a_quantizer_behind_a_concatenation_goes_into_its_branches(session):
    """Also one number a channel: each branch takes its own."""
    graph = Graph("concat", (1, 3, 4, 4), seed=1)
    left, right = branches(graph)
    graph.node("Concat", [left, right], "both", axis=1)
    names = [graph.constant(f"bn{i}", graph.random.uniform(0.5, 1, 8)) for i in range(4)]
    graph.node("BatchNormalization", ["both", *names], "n")
    graph.node("Add", ["n", graph.constant("b", graph.random.normal(0, 1, (1, 8, 1, 1)))], "a")
    graph.quant("a", "out", 0.4, 4, True)
    model = built(graph, "out", (1, 8, 4, 4), "UINT4", session)
    lowered = lower(model)
    assert kinds(lowered)[1:] == ["MVAU", "Thresholding", "MVAU", "Thresholding", "StreamingConcat"]
    assert answers_alike(model, lowered)


def test_concatenated_integers_of_several_scales_are_quantized_channel_by_channel(session):
    graph = Graph("concat", (1, 3, 4, 4), seed=1)
    left, right = branches(graph)
    graph.quant(left, "q0", 0.5, 4, False)
    graph.quant(right, "q1", 0.9, 4, False)
    graph.node("Concat", ["q0", "q1"], "both", axis=1)
    graph.quant("both", "out", 0.7, 4, False)
    model = built(graph, "out", (1, 8, 4, 4), "UINT4", session)
    lowered = lower(model)
    assert kinds(lowered)[-2:] == ["StreamingConcat", "Thresholding"] and answers_alike(model, lowered)
    assert lowered.parameters["Conv_c1.threshold_2"].values.shape == (8, 15)


def test_channels_in_groups(session):
    graph = Graph("split", (1, 6, 4, 4), seed=1)
    graph.nodes.append(helper.make_node("Split", ["image"], ["a", "b"], name="cut", axis=1, split=[2, 4]))
    for index, (name, channels) in enumerate((("a", 2), ("b", 4))):
        graph.weights(f"w{index}", (3, channels, 1, 1), 4, 0.1)
        graph.node("Conv", [name, f"w{index}"], f"c{index}", kernel_shape=[1, 1])
        graph.quant(f"c{index}", f"q{index}", 0.5, 4, True)
    graph.node("Add", ["q0", "q1"], "out")
    model = built(graph, "out", (1, 3, 4, 4), "UINT4", session)
    lowered = lower(model)
    assert kinds(lowered)[0] == "StreamingSplit" and answers_alike(model, lowered)


def test_slices_that_take_every_channel_once_are_a_split(session):
    graph = Graph("slices", (1, 6, 4, 4), seed=1)
    parts = [sliced(graph, "image", "b", 2, 6, 1), sliced(graph, "image", "a", 0, 2, 1)]
    graph.node("Concat", parts, "swapped", axis=1)
    graph.weights("w", (3, 6, 1, 1), 4, 0.1)
    graph.node("Conv", ["swapped", "w"], "out", kernel_shape=[1, 1])
    model = built(graph, "out", (1, 3, 4, 4), "UINT4", session)
    lowered = lower(model)
    assert kinds(lowered) == ["StreamingSplit", "StreamingConcat", "MVAU"] and answers_alike(model, lowered)
    assert "join_slices: Slice_b, Slice_a together a Split" in lowered.steps


@pytest.mark.parametrize("factors", [(2, 2), (3, 1)])
def test_nearest_neighbours(factors, session):
    graph = Graph("up", (1, 3, 4, 5), seed=1)
    x = graph.node("Mul", ["image", graph.constant("scale", 0.37)], "x")
    graph.constant("factors", [1, 1, *factors])
    graph.constant("roi", [])
    graph.node("Resize", [x, "roi", "factors"], "out", mode="nearest", nearest_mode="floor",
               coordinate_transformation_mode="asymmetric")  # fmt: skip
    model = built(graph, "out", (1, 3, 4 * factors[0], 5 * factors[1]), "UINT4", session)
    lowered = walked(model)
    assert kinds(lowered) == ["UpsampleNearestNeighbour"] and answers_alike(model, lowered)


@pytest.mark.parametrize("op", ["ArgMax", "ArgMax without kept axes", "TopK"])
def test_the_index_of_the_greatest_score(op, session):
    graph = Graph("label", (1, 12), seed=1)
    graph.weights("w", (12, 7), 4, 0.1)
    graph.node("MatMul", ["image", "w"], "scores")
    if op == "TopK":
        graph.constants["k"] = np.array([1], np.int64)
        graph.nodes.append(helper.make_node("TopK", ["scores", "k"], ["top", "out"], name="label"))
    else:
        graph.node("ArgMax", ["scores"], "out", axis=1, keepdims=int(op == "ArgMax"))
    model = built(graph, "out", (1,) if "without" in op else (1, 1), "UINT4", session)
    model.graph.output[0].type.tensor_type.elem_type = 7  # INT64
    lowered = lower(model)
    assert kinds(lowered) == ["MVAU", "LabelSelect"] and answers_alike(model, lowered, count=30)


def test_zeros_around_an_image(session):
    graph = Graph("pad", (1, 3, 4, 4), seed=1)
    graph.constants["pads"] = np.array([0, 0, 1, 0, 0, 0, 2, 1], np.int64)
    graph.node("Pad", ["image", "pads"], "padded")
    graph.weights("w", (3, 3, 2, 2), 4, 0.1)
    graph.node("Conv", ["padded", "w"], "out", kernel_shape=[2, 2])
    model = built(graph, "out", (1, 3, 6, 4), "INT4", session)
    lowered = lower(model)
    assert kinds(lowered) == ["FMPadding", "ConvolutionInputGenerator", "MVAU"] and answers_alike(model, lowered)


BIASES = {"float": None, "integer": 0.5 * 0.1, "integer of another scale": 0.03}


@pytest.mark.parametrize("kind", BIASES)
@pytest.mark.parametrize("where", ["Conv", "Gemm", "Add"])
@pytest.mark.parametrize("bias_as", ["threshold", "add"])
def test_biases(kind, where, bias_as, session):
    """Integers of the sums' scale are added in hardware where that is asked for; all others wait for a quantizer."""
    graph = Graph("bias", (1, 3, 4, 4) if where == "Conv" else (1, 12), seed=1)
    graph.quant("image", "x", 0.5, 5, False)
    graph.constant("b_float", graph.random.integers(-60, 60, 4) * 0.05)
    scale, bias = BIASES[kind], "b_float"
    if scale is not None:
        bias = graph.quant("b_float", "b", scale, 8, True)
    graph.weights("w", (4, 3, 1, 1) if where == "Conv" else (12, 4), 4, 0.1)
    if where == "Conv":
        graph.node("Conv", ["x", "w", bias], "y", kernel_shape=[1, 1])
    elif where == "Gemm":
        graph.node("Gemm", ["x", "w", bias], "y")
    else:
        graph.node("Add", [bias, graph.node("MatMul", ["x", "w"], "m")], "y")
    graph.quant(graph.node("Relu", ["y"], "r"), "out", 0.61, 4, False)
    model = built(graph, "out", (1, 4, 4, 4) if where == "Conv" else (1, 4), "UINT4", session)
    lowered = lower(model, bias_as=bias_as)
    assert answers_alike(model, lowered)
    added = [parameter for parameter in lowered.parameters.values() if parameter.role == "bias"]
    assert len(added) == int(kind == "integer" and bias_as == "add")
    assert ("ElementwiseAdd" in kinds(lowered)) == bool(added)
    if added:
        (parameter,) = added
        assert (parameter.tensor, parameter.bits, parameter.signed) == ("b_float", 8, True)
        assert np.array_equal(parameter.values, np.rint(graph.constants["b_float"] / np.float32(scale)))
        assert np.array_equal(parameter.matrix, parameter.values[None])
        assert lowered.model.get_tensor_datatype("global_out").name == "UINT4"
        assert lowered.parameters[f"{parameter.layer}.threshold"].values.shape == (1, 15)  # one list for all channels


def test_activations_of_a_scale_for_each_channel_pass_a_depthwise_quantizer(session):
    graph = Graph("scales", (1, 3, 4, 4), seed=1)
    graph.weights("w", (3, 3, 1, 1), 4, 0.1)
    graph.node("Conv", ["image", "w"], "c", kernel_shape=[1, 1])
    graph.quant("c", "out", graph.random.uniform(0.3, 0.9, (1, 3, 1, 1)), 4, True)
    model = built(graph, "out", (1, 3, 4, 4), "UINT4", session)
    lowered = lower(model)
    assert answers_alike(model, lowered) and lowered.parameters["Conv_c.threshold"].values.shape == (3, 15)


EDGES = {
    "image": ((1, 2, 3, 4), []),
    "flattened by the host": ((1, 2, 3, 4), ["Flatten"]),
    "channels last": ((1, 3, 4, 2), ["Transpose"]),
}


@pytest.mark.parametrize("case", EDGES)
def test_shapes_at_the_input_are_the_hosts(case, session):
    shape, ops = EDGES[case]
    graph = Graph("edge", shape, seed=1)
    x = "image"
    if "Flatten" in ops:
        x = graph.node("Flatten", [x], "f")
    if "Transpose" in ops:
        x = graph.node("Transpose", [x], "t", perm=[0, 3, 1, 2])
    x = graph.quant(x, "q", 2.0, 3, False)
    if "Flatten" in ops:
        graph.weights("w", (24, 5), 4, 0.1)
        graph.node("MatMul", [x, "w"], "out")
        result = (1, 5)
    else:
        graph.weights("w", (5, 2, 1, 1), 4, 0.1)
        graph.node("Conv", [x, "w"], "out", kernel_shape=[1, 1])
        result = (1, 5, 3, 4)
    model = built(graph, "out", result, "UINT4", session)
    lowered = lower(model)
    assert answers_alike(model, lowered)
    expected = {"image": ["Transpose"], "flattened by the host": ["Reshape"], "channels last": []}
    assert [op["op"] for op in lowered.pre] == expected[case]


def test_what_is_pending_at_the_output_is_the_hosts(session):
    """Batch norm, arithmetic, axes and flattening behind the last layer."""
    graph = Graph("edge", (1, 3, 4, 4), seed=1)
    graph.weights("w", (5, 3, 3, 3), 4, graph.random.uniform(0.1, 0.3, (5, 1, 1, 1)))
    graph.node("Conv", ["image", "w"], "c", kernel_shape=[3, 3])
    names = [graph.constant(f"bn{i}", graph.random.uniform(0.5, 1, 5)) for i in range(4)]
    graph.node("BatchNormalization", ["c", *names], "n", epsilon=1e-3)
    graph.node("Sub", ["n", graph.constant("less", graph.random.normal(0, 1, (5, 1, 1)))], "s")
    graph.node("Div", ["s", graph.constant("by", 3.0)], "d")
    graph.node("Transpose", ["d"], "t", perm=[0, 2, 1, 3])
    graph.node("Flatten", ["t"], "out")
    model = built(graph, "out", (1, 20), "UINT4", session)
    lowered = lower(model)
    assert kinds(lowered)[-1] == "MVAU" and answers_alike(model, lowered)
    assert [op["op"] for op in lowered.post] == ["Transpose", "Reshape", "Mul", "Mul", "Add", "Add", "Mul"]


def test_one_list_for_each_reader_of_sums(session):
    """A layer whose sums are quantized twice, at different scales."""
    graph = Graph("fork", (1, 3, 4, 4), seed=1)
    graph.weights("w", (4, 3, 1, 1), 4, 0.1)
    graph.node("Conv", ["image", "w"], "c", kernel_shape=[1, 1])
    graph.quant("c", "q0", 0.5, 4, True)
    graph.quant(graph.node("Relu", ["c"], "r"), "q1", 0.5, 3, False)
    graph.node("Add", ["q0", "q1"], "out")
    model = built(graph, "out", (1, 4, 4, 4), "UINT4", session)
    lowered = lower(model)
    assert kinds(lowered) == ["MVAU", "DuplicateStreams", "Thresholding", "Thresholding", "ElementwiseAdd"]
    assert answers_alike(model, lowered)


def test_what_no_output_depends_on_is_dropped(session):
    """Else a stream would end nowhere, and fill up."""
    graph = Graph("dead", (1, 3, 4, 4), seed=1)
    graph.weights("w", (4, 3, 1, 1), 4, 0.1)
    graph.node("Conv", ["image", "w"], "c", kernel_shape=[1, 1])
    graph.quant("c", "out", 0.5, 4, True)
    graph.node("Softmax", [graph.node("Add", ["out", "out"], "unused")], "more")
    model = built(graph, "out", (1, 4, 4, 4), "UINT4", session)
    lowered = lower(model)
    assert kinds(lowered) == ["MVAU", "Thresholding"] and answers_alike(model, lowered)
    assert "drop_dead: Add_unused, Softmax_more gone: no output depends on them" in lowered.steps
