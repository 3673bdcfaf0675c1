# SPDX-License-Identifier: Apache-2.0
"""Operators in forms that exporters seldom write, whatever names nodes and constants have: answers are QONNX's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from hardware_execution import folded_alike
from onnx import TensorProto, helper
from parts import Graph, answers_alike, built, conv, kinds, lower, sliced
from parts import integers as images


@dataclass(frozen=True)
class Form:
    """What becomes of a graph: the hardware's operators; `output` is the shape of the float graph's output."""

    expected: str
    output: tuple[int, ...] = (1, 4, 6, 6)
    input: tuple[int, ...] = (1, 4, 6, 6)
    settings: dict[str, str] = field(default_factory=dict)
    opset: int = 0  # as written, where 0
    result: int = TensorProto.FLOAT


def integers(graph: Graph, **constants: object) -> list[str]:
    """Initializers of whole numbers by name."""
    graph.constants |= {name: np.atleast_1d(np.array(value, np.int64)) for name, value in constants.items()}
    return list(constants)


def identity_and_dropout(graph: Graph) -> str:
    graph.quant(graph.node("Identity", [conv(graph)], "i"), "q", 0.5, 4, False)
    return conv(graph, graph.node("Dropout", ["q"], "d"), "out")


def cast_to_double_and_back(graph: Graph) -> str:
    graph.node("Cast", [conv(graph)], "d", to=TensorProto.DOUBLE)
    return graph.quant(graph.node("Cast", ["d"], "f", to=TensorProto.FLOAT), "out", 0.7, 4, True)


def cast_to_integers(graph: Graph) -> str:
    return graph.node("Cast", [conv(graph, scale=1.0)], "out", to=TensorProto.INT16)


def mean_of_axes_given_as_input(graph: Graph) -> str:
    return graph.node("ReduceMean", [conv(graph), *integers(graph, axes=[2, -1])], "out")


def resized_to_the_same_size(graph: Graph) -> str:
    names = [graph.constant("roi", []), graph.constant("factors", [1, 1, 1, 1])]
    return graph.node("Resize", [conv(graph), *names], "out", mode="linear")


def vectors_and_images_of_a_pixel(graph: Graph) -> str:
    """A reshape to the shape that it has, axes that come, and axes that go."""
    graph.quant("image", "q", 2.0, 4, True)
    integers(graph, image_shape=[1, 5, 1, 1], vector_shape=[1, 4])
    conv(graph, graph.node("Reshape", ["q", "image_shape"], "r"), channels=5)
    graph.node("Reshape", [graph.node("Reshape", ["c", "vector_shape"], "v"), "vector_shape"], "same")
    graph.node("Squeeze", [graph.node("Unsqueeze", ["same"], "u", axes=[2, 3])], "s", axes=[2, 3])
    return graph.node("MatMul", ["s", graph.weights("w", (4, 3), 4, 0.1)], "out")


def groups_of_channels_of_several_factors(graph: Graph) -> str:
    """What differs from channel to channel is settled before the cut: each group has its own factors."""
    graph.node("Mul", [conv(graph), graph.constant("m", [[[1.5]], [[0.5]], [[0.7]], [[1.1]]])], "scaled")
    graph.nodes.append(helper.make_node("Split", ["scaled"], ["a", "b"], name="cut", axis=1, split=[1, 3]))
    return graph.node("Concat", ["b", "a"], "out", axis=1)


def groups_of_a_vector_that_was_channels_last(graph: Graph) -> str:
    graph.node("Transpose", [graph.node("GlobalAveragePool", [conv(graph)], "p")], "t", perm=[0, 2, 3, 1])
    graph.node("Flatten", ["t"], "f")
    graph.nodes.append(helper.make_node("Split", ["f"], ["a", "b"], name="cut", axis=1, split=[1, 3]))
    return graph.node("Concat", ["b", "a"], "out", axis=1)


def slices_with_steps(graph: Graph) -> str:
    halves = [sliced(graph, conv(graph), "a", 0, 2, -3, 1), sliced(graph, "c", "b", -2, 9, -3, 1)]
    return graph.node("Concat", halves[::-1], "out", axis=1)


def rectifier_of_pixels_before_a_layer(graph: Graph) -> str:
    """It does nothing, so that nothing need be quantized behind it."""
    return conv(graph, graph.node("Relu", ["image"], "r"), "out")


def padding_with_nothing_named(graph: Graph) -> str:
    return conv(graph, graph.node("Pad", ["image", *integers(graph, pads=[0, 0, 1, 0, 0, 0, 2, 1]), ""], "p"), "out")


def channels_last_side_by_side(graph: Graph) -> str:
    """Quantizers go into the branches, each with the constants of its own channels, also along the last axis."""
    for name in "ab":
        graph.node("Transpose", [conv(graph, output=f"c{name}")], name, perm=[0, 2, 3, 1])
    graph.node("Concat", ["a", "b"], "both", axis=-1)
    graph.node("Add", ["both", graph.constant("bias", graph.random.normal(0, 1, 8))], "s")
    return graph.node("Transpose", [graph.quant("s", "q", 0.4, 4, True)], "out", perm=[0, 3, 1, 2])


FORMS: dict[Callable[[Graph], str], Form] = {
    identity_and_dropout: Form("MVAU Thresholding MVAU"),
    cast_to_double_and_back: Form("MVAU Thresholding"),
    cast_to_integers: Form("MVAU", result=TensorProto.INT16),
    mean_of_axes_given_as_input: Form("MVAU GlobalAccPool", (1, 4, 1, 1), opset=18),
    resized_to_the_same_size: Form("MVAU"),
    vectors_and_images_of_a_pixel: Form("Thresholding MVAU MVAU", (1, 3), (1, 5)),
    groups_of_channels_of_several_factors: Form("MVAU StreamingSplit StreamingConcat"),
    groups_of_a_vector_that_was_channels_last: Form("MVAU GlobalAccPool StreamingSplit StreamingConcat", (1, 4)),
    slices_with_steps: Form("MVAU StreamingSplit StreamingConcat"),
    rectifier_of_pixels_before_a_layer: Form("MVAU"),
    padding_with_nothing_named: Form("FMPadding MVAU", (1, 4, 9, 7)),
    channels_last_side_by_side: Form(
        "DuplicateStreams MVAU Thresholding MVAU Thresholding StreamingConcat", (1, 8, 6, 6)
    ),
}


@pytest.mark.parametrize("write", FORMS, ids=lambda write: write.__name__)
def test_hardware_answers_alike(write, session):
    form = FORMS[write]
    graph = Graph("form", form.input, seed=1)
    model = built(graph, write(graph), form.output, "UINT4", session)
    model.model.opset_import[0].version = form.opset or model.model.opset_import[0].version
    model.graph.output[0].type.tensor_type.elem_type = form.result
    lowered = lower(model)
    assert kinds(lowered) == form.expected.split() and answers_alike(model, lowered)
    assert folded_alike(lowered, images(model, 2))


def test_one_integer_bias_for_all_channels_is_stored_for_each(session):
    graph = Graph("bias", (1, 4, 6, 6), seed=1)
    graph.quant("image", "x", 0.5, 5, False)
    bias = graph.quant(graph.constant("b_float", 1.25), "b", 0.05, 8, True)
    graph.quant(graph.node("Add", [conv(graph, "x"), bias], "a"), "out", 0.6, 4, True)
    model = built(graph, "out", (1, 4, 6, 6), "UINT4", session)
    lowered = lower(model, bias_as="add")
    assert lowered.parameters["Conv_c.bias"].values.tolist() == [25] * 4 and answers_alike(model, lowered)


@pytest.mark.parametrize("first", ["", "MaxPool_9", "twice", *(f"MaxPool_{place}" for place in range(4, 8))])
def test_pools_without_names_keep_their_own_quantizers(first, session):
    """Whatever the others are called: an unnamed node is named after its place, which may be another's name."""
    graph = Graph("names", (1, 4, 6, 6), seed=1)
    for branch, name in ((0, first), (1, first if first == "twice" else "")):
        graph.node("MaxPool", [conv(graph, output=f"c{branch}", scale=0.1013)], f"p{branch}", kernel_shape=[2, 2])
        graph.nodes[-1].name = name
        graph.quant(f"p{branch}", f"q{branch}", 0.5 * (branch + 1), 4, True)
    graph.node("Add", ["q0", "q1"], "out")
    model = built(graph, "out", (1, 4, 5, 5), "UINT4", session)
    lowered = lower(model)
    assert kinds(lowered).count("Pool") == 2 and answers_alike(model, lowered)


def test_constants_of_a_branch_leave_constants_of_that_name_alone(session):
    """A concatenation's quantizer goes into its branches, with pieces of the constant "b"; "b_1" is another's."""
    graph = Graph("names", (1, 4, 6, 6), seed=1)
    graph.node("Concat", [conv(graph, output="c0"), conv(graph, output="c1")], "both", axis=1)
    graph.node("Add", ["both", graph.constant("b", graph.random.normal(0, 1, (1, 8, 1, 1)))], "s")
    conv(graph, graph.quant("s", "q", 0.4, 4, True), channels=8)
    graph.node("Add", ["c", graph.constant("b_1", graph.random.normal(0, 1, (1, 4, 1, 1)))], "t")
    graph.quant("t", "out", 0.4, 4, True)
    model = built(graph, "out", (1, 4, 6, 6), "UINT4", session)
    assert answers_alike(model, lower(model))
