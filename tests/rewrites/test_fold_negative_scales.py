# SPDX-License-Identifier: Apache-2.0
"""Folding keeps every output, bit for bit, leaves no negative scale, and refuses what it cannot keep."""

from __future__ import annotations

import re

import numpy as np
import pytest
from mac_graphs import (
    CHANNELS,
    DEFAULT_GAMMAS,
    MACS,
    MATMUL,
    SCALE,
    finish,
    mac_graph,
    quant,
    random_images,
    random_integers,
    run,
)
from onnx import TensorProto, helper

from bitward.errors import ModelError
from bitward.rewrites import (
    FoldNegativeScales,
    InsertMsbVoter,
    find_layers,
    negative_scales,
    read_weights,
    saturated_weights,
)

NEGATIVE = np.array(DEFAULT_GAMMAS) < 0
CONV_TRANSPOSE = MACS[-1]


def integers(model):
    return read_weights(model, find_layers(model)["fc"]).integers


def negated(mac, values):
    """The integers with the channels of negative gammas negated."""
    shape = [CHANNELS if axis == mac.channel_axis else 1 for axis in range(len(mac.weight_shape))]
    return np.where(NEGATIVE.reshape(shape), -values, values)


@pytest.mark.parametrize(
    "mac, bias",
    [(mac, bias) for mac in MACS for bias in (None, "float", "quant") if bias is None or mac.op != "MatMul"],
    ids=str,
)
def test_outputs_stay_and_just_the_right_channels_change(mac, bias):
    expected = random_integers(mac.weight_shape)
    model = mac_graph(mac, expected, bias=bias)
    images = random_images(model)
    before = run(model, images)
    assert negative_scales(model) == {"norm": 3}
    folded = model.transform(FoldNegativeScales())
    assert negative_scales(folded) == {} and saturated_weights(folded) == {}
    assert np.array_equal(integers(folded), negated(mac, expected))
    assert np.array_equal(run(folded, images), before)


def test_folding_twice_is_folding_once():
    once = mac_graph().transform(FoldNegativeScales())
    assert once.transform(FoldNegativeScales()).model == once.model


def test_what_the_quantizer_clipped_is_negated_as_it_was_used():
    """A float weight of 9 steps counts as 7; negated it must count as -7, not -8."""
    model = mac_graph(integers=np.full((5, CHANNELS), 9.0))
    images = random_images(model)
    folded = model.transform(FoldNegativeScales())
    assert np.array_equal(run(folded, images), run(model, images))
    assert np.array_equal(integers(folded)[0], np.where(NEGATIVE, -7, 7))


def with_lowest(channel):
    """Weights with one -8, in that channel."""
    values = random_integers((5, CHANNELS))
    values[2, channel] = -8
    return values


def test_the_lowest_weight_stays_where_gamma_is_positive():
    model = mac_graph(integers=with_lowest(0))
    assert integers(model.transform(FoldNegativeScales()))[2, 0] == -8


def test_the_lowest_weight_is_refused_where_gamma_is_negative():
    message = (
        "layer 'fc' must have no weight of -8 where batch norm's scale is negative, got 1: 8 does not fit into 4 bits; "
        "train with bitward, which keeps it out, or allow saturation (--saturate), which makes it 7"
    )
    with pytest.raises(ModelError, match=f"^{re.escape(message)}$"):
        mac_graph(integers=with_lowest(1)).transform(FoldNegativeScales())


def test_or_it_saturates_and_is_counted():
    values = with_lowest(1)
    folded = mac_graph(integers=values).transform(FoldNegativeScales(saturate=True))
    assert saturated_weights(folded) == {"fc": 1}
    expected = negated(MATMUL, values)
    expected[2, 1] = 7
    assert np.array_equal(integers(folded), expected)


def test_a_narrow_quantizer_folds_like_any_other():
    model = mac_graph(narrow=1)
    images = random_images(model)
    assert np.array_equal(run(model.transform(FoldNegativeScales()), images), run(model, images))


def test_unsigned_weights_have_no_negatives():
    model = mac_graph(integers=random_integers((5, CHANNELS), lowest=0), signed=0)
    with pytest.raises(ModelError, match=r"^layer 'fc' must have signed weights to have negative batch-norm scales "):
        model.transform(FoldNegativeScales())


def test_a_negative_scale_elsewhere_is_refused():
    nodes = [
        quant("weight", "quantized", "bits"),
        helper.make_node("MatMul", ["x", "quantized"], ["sum"], name="fc"),
        helper.make_node("Mul", ["sum", "factor"], ["y"], name="flip"),
    ]
    constants = {"weight": np.eye(3) * SCALE, "scale": SCALE, "zero": 0, "bits": 4, "factor": [1, -1, 1]}
    model = finish(nodes, (1, 3), constants)
    assert negative_scales(model) == {"flip": 1}
    message = (
        "node 'flip' (Mul) must be a batch norm right after a layer with constant weights to have its negative scales "
        "folded, got it after MatMul; make them positive"
    )
    with pytest.raises(ModelError, match=f"^{re.escape(message)}$"):
        model.transform(FoldNegativeScales())


def test_a_hardened_layer_is_refused():
    model = mac_graph().transform(InsertMsbVoter())
    with pytest.raises(ModelError, match=r"^layer 'fc' must have its negative batch-norm scales folded before it "):
        model.transform(FoldNegativeScales())


def test_a_layer_that_feeds_more_than_its_batch_norm_is_refused():
    model = mac_graph()
    model.graph.output.append(helper.make_tensor_value_info("sum", TensorProto.FLOAT, [1, CHANNELS]))
    with pytest.raises(ModelError, match=r"^layer 'fc' must feed its batch norm alone, .* got 1 readers and "):
        model.transform(FoldNegativeScales())


def test_grouped_transposed_convolutions_are_refused():
    model = mac_graph(CONV_TRANSPOSE)
    node = find_layers(model)["fc"].node
    node.attribute.append(helper.make_attribute("group", 2))
    with pytest.raises(ModelError, match=r"^layer 'fc' must be a transposed convolution of one group .* got 2 groups;"):
        model.transform(FoldNegativeScales())


def test_a_computed_bias_is_refused():
    model = mac_graph(MACS[1], bias="float")
    model.del_initializer("bias")
    model.graph.input.append(helper.make_tensor_value_info("bias", TensorProto.FLOAT, [CHANNELS]))
    with pytest.raises(ModelError, match=r"^the bias of layer 'fc' must be constant to have negative scales folded, "):
        model.transform(FoldNegativeScales())
