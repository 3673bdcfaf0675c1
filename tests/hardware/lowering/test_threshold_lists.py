# SPDX-License-Identifier: Apache-2.0
"""Threshold lists against QONNX's executor, at every integer that the type before them holds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from parts import Graph, built, integers, walked
from qonnx.core.onnx_exec import execute_onnx

from bitward.hardware.finn_session import finn_session
from bitward.hardware.lowering.thresholds import EXHAUSTIVE

CHANNELS = 3
SIDE = 256  # pixels a side of an image that holds every 16-bit integer once


def clip(low: float, high: float) -> Callable[[Graph, str], str]:
    """A Clip between two constants."""
    return lambda graph, x: graph.node("Clip", [x, graph.constant("low", low), graph.constant("high", high)], "y")


ACTIVATIONS: dict[str, tuple[Callable[[Graph, str], str], bool, float]] = {
    "relu": (lambda graph, x: graph.node("Relu", [x], "y"), False, 8.0),
    "sigmoid": (lambda graph, x: graph.node("Sigmoid", [x], "y"), False, 1.0),
    "hard_sigmoid": (lambda graph, x: graph.node("HardSigmoid", [x], "y", alpha=1 / 6, beta=0.5), False, 1.0),
    "tanh": (lambda graph, x: graph.node("Tanh", [x], "y"), True, 1.0),
    "hard_tanh": (clip(-1.0, 1.0), True, 1.0),
    "relu_6": (clip(0.0, 6.0), False, 6.0),
    "clipped_relu": (clip(0.0, 2.5), False, 2.5),
    "leaky_relu": (lambda graph, x: graph.node("LeakyRelu", [x], "y", alpha=0.1), True, 8.0),
    "elu": (lambda graph, x: graph.node("Elu", [x], "y"), True, 8.0),
    "softplus": (lambda graph, x: graph.node("Softplus", [x], "y"), False, 8.0),
}
"""By name: how the node is written, whether its values are signed, and their greatest."""


def activated(name: str, bits: int, folder, *, norm: bool, span: float = 8.0, signed: bool | None = None):
    """A graph: 16-bit integers, a scale that spans +-`span`, batch norm or not, the activation, a quantizer."""
    write, is_signed, top = ACTIVATIONS[name]
    is_signed = is_signed if signed is None else signed
    graph = Graph(name, (1, CHANNELS, SIDE, SIDE), seed=5)
    x = graph.node("Mul", ["image", graph.constant("scale", span / 2**15 * 1.0137)], "x")
    if norm:
        ends = {"gamma": (0.3, 1.5), "beta": (-1, 1), "mu": (-1, 1), "var": (0.5, 2.0)}
        names = [graph.constant(each, graph.random.uniform(*span, CHANNELS)) for each, span in ends.items()]
        x = graph.node("BatchNormalization", [x, *names], "n", epsilon=1e-5)
    steps = 2 ** (bits - 1) if is_signed else 2**bits - 1
    graph.quant(write(graph, x), "out", top / steps * 0.983, bits, is_signed)
    return built(graph, "out", (1, CHANNELS, SIDE, SIDE), "INT16", folder)


def every_integer() -> np.ndarray:
    """An image with each 16-bit integer once in every channel."""
    return np.broadcast_to(np.arange(-(2**15), 2**15).reshape(1, 1, SIDE, SIDE), (1, CHANNELS, SIDE, SIDE))


def levels_of(lowered, image: np.ndarray) -> np.ndarray:
    """What the thresholds make of an image (1, C, H, W), counted here by numpy."""
    (parameter,) = lowered.parameters.values()
    node = lowered.model.graph.node[0]
    lowest = next(attribute.i for attribute in node.attribute if attribute.name == "ActVal")
    lists = np.broadcast_to(parameter.values, (CHANNELS, parameter.values.shape[1]))
    return np.stack([np.searchsorted(lists[c], image[0, c], side="right") + lowest for c in range(CHANNELS)])[None]


def levels_in_qonnx(model, image: np.ndarray) -> np.ndarray:
    """The integers that QONNX's executor makes of an image, before its quantizer multiplies them by the scale."""
    floats = execute_onnx(model, {"image": np.ascontiguousarray(image, np.float32)})["out"]
    return np.rint(floats / model.get_initializer("out_scale")).astype(np.int64)


@pytest.mark.parametrize("norm", [False, True], ids=["tensor", "channel"])
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_integer_gets_the_level_that_qonnx_gives_it(name, bits, norm, tmp_path):
    model = activated(name, bits, tmp_path, norm=norm)
    with finn_session(tmp_path / "finn"):
        lowered = walked(model)
    (parameter,) = lowered.parameters.values()
    assert parameter.values.shape == (CHANNELS if norm else 1, 2**bits - 1)
    found = levels_of(lowered, every_integer())
    assert len(np.unique(found)) > 1
    assert np.array_equal(found, levels_in_qonnx(model, every_integer()))
    assert lowered.steps[-1].endswith(" 0 of 196608 integers tried have another level than in QONNX" if norm else
                                      " 0 of 65536 integers tried have another level than in QONNX")  # fmt: skip


@pytest.mark.parametrize("bits", [3, 5, 6, 7])
def test_every_width_between(bits, tmp_path):
    model = activated("sigmoid", bits, tmp_path, norm=True)
    with finn_session(tmp_path / "finn"):
        lowered = walked(model)
    assert np.array_equal(levels_of(lowered, every_integer()), levels_in_qonnx(model, every_integer()))


def test_a_threshold_off_by_one_is_seen(tmp_path):
    """Negative control of the tests above."""
    model = activated("tanh", 4, tmp_path, norm=False)
    with finn_session(tmp_path / "finn"):
        lowered = walked(model)
    (parameter,) = lowered.parameters.values()
    parameter.values[0, 7] += 1
    assert np.sum(levels_of(lowered, every_integer()) != levels_in_qonnx(model, every_integer())) == CHANNELS


def test_a_signed_quantizer_behind_a_relu_has_thresholds_that_all_reach(tmp_path):
    """Levels below zero never appear: their thresholds lie at the least integer; those above the span, out of reach."""
    model = activated("relu", 4, tmp_path, norm=False, span=2.0, signed=True)
    with finn_session(tmp_path / "finn"):
        lowered = walked(model)
    (parameter,) = lowered.parameters.values()
    values = parameter.values[0].tolist()
    assert values[:8] == [-(2**15)] * 8 and values[-1] == 2**15 and 0 < values[8] < 2**15
    assert (parameter.bits, parameter.signed) == (17, True)  # 2^15 is no 16-bit integer


def test_thresholds_of_unsigned_integers_are_unsigned_and_as_wide(tmp_path):
    graph = Graph("pixels", (1, 1, 16, 16), seed=5)
    graph.quant(graph.node("Mul", ["image", graph.constant("scale", 2.0**-8)], "x"), "out", 0.05, 4, False)
    model = built(graph, "out", (1, 1, 16, 16), "UINT8", tmp_path)
    with finn_session(tmp_path / "finn"):
        lowered = walked(model)
    (parameter,) = lowered.parameters.values()
    assert (parameter.bits, parameter.signed) == (8, False) and parameter.values[0, 0] == 7  # 0.5 * 0.05 * 256 = 6.4
    assert parameter.name == "input.threshold" and parameter.tensor == "out"


def test_ties_follow_qonnx(tmp_path):
    """Scales that are powers of two put integers exactly between levels: QONNX rounds half to even, so do lists."""
    graph = Graph("ties", (1, CHANNELS, SIDE, SIDE), seed=5)
    graph.quant(graph.node("Mul", ["image", graph.constant("scale", 2.0**-8)], "x"), "out", 1.0, 8, True)
    model = built(graph, "out", (1, CHANNELS, SIDE, SIDE), "INT16", tmp_path)
    with finn_session(tmp_path / "finn"):
        lowered = walked(model)
    assert np.array_equal(levels_of(lowered, every_integer()), levels_in_qonnx(model, every_integer()))
    assert levels_of(lowered, np.full((1, CHANNELS, 1, 1), 128)).ravel().tolist() == [0] * CHANNELS  # 0.5
    assert levels_of(lowered, np.full((1, CHANNELS, 1, 1), 384)).ravel().tolist() == [2] * CHANNELS  # 1.5


def test_more_integers_than_are_tried_one_by_one(tmp_path):
    """24-bit integers: those around thresholds are compared, and random ones by this test."""
    graph = Graph("wide", (1, CHANNELS, 32, 32), seed=5)
    x = graph.node("Mul", ["image", graph.constant("scale", 1.3e-6 * graph.random.uniform(0.5, 2, (1, 3, 1, 1)))], "x")
    graph.quant(graph.node("Sigmoid", [x], "y"), "out", 1 / 250, 8, False)
    model = built(graph, "out", (1, CHANNELS, 32, 32), "INT24", tmp_path)
    with finn_session(tmp_path / "finn"):
        lowered = walked(model)
    assert 2**24 > EXHAUSTIVE and lowered.parameters["input.threshold"].values.shape == (3, 255)
    for image in integers(model, 20):
        assert np.array_equal(levels_of(lowered, image[None]), levels_in_qonnx(model, image[None]))


def test_integers_that_are_quantized_already_pass(tmp_path):
    """The same quantizer twice is one list; and a wider one of the same scale changes nothing."""
    graph = Graph("twice", (1, CHANNELS, SIDE, SIDE), seed=5)
    x = graph.node("Mul", ["image", graph.constant("scale", 0.001)], "x")
    graph.quant(graph.quant(graph.quant(x, "a", 0.25, 4, False), "b", 0.25, 4, False), "out", 0.25, 6, True)
    model = built(graph, "out", (1, CHANNELS, SIDE, SIDE), "INT16", tmp_path)
    with finn_session(tmp_path / "finn"):
        lowered = walked(model)
    assert [node.op_type for node in lowered.model.graph.node] == ["Thresholding"]
    assert lowered.steps[-1] == "Quant_out (Quant): the integers are INT6 already"
    assert np.array_equal(levels_of(lowered, every_integer()), levels_in_qonnx(model, every_integer()))
