# SPDX-License-Identifier: Apache-2.0
"""Biases as integers, in copies and voted: the function stays (or moves by half a step), one upset never shows."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from mac_graphs import CHANNELS, MACS, SCALE, Mac, finish, mac_graph, quant, random_images, random_integers, run
from onnx import helper
from qonnx.core.datatype import DataType
from qonnx.custom_op.registry import getCustomOp
from qonnx.util.cleanup import cleanup_model

from bitward.errors import ConfigError, ModelError
from bitward.rewrites import (
    FoldNegativeScales,
    InsertBiasTmr,
    InsertMsbVoter,
    LiftBiasTmr,
    LiftVoters,
    QuantizeBiases,
    bias_schemes,
    find_layers,
    integer_biases,
    refused_biases,
    rounded_biases,
)
from bitward.rewrites.biases import find_bias, signed_bits, sum_scales, tensor_scale
from bitward.schemes import Tmr

POSITIVE = (1.0,) * CHANNELS
WITH_BIAS = [mac for mac in MACS if mac.op != "MatMul"]
CONV = next(mac for mac in MACS if mac.op == "Conv")


def integer_input(model):
    """The same model, told that its input is integers: their step is 1."""
    model.set_tensor_datatype("x", DataType["UINT4"])
    return model


def biased(mac: Mac = CONV, **settings):
    """A layer with an integer bias of 8 bits."""
    given = {"gammas": POSITIVE, "bias": "quant", **settings}
    return integer_input(mac_graph(mac, random_integers(mac.weight_shape), **given))


def stored(model) -> str:
    """The tensor of the three copies."""
    voter = model.get_nodes_by_op_type("BiasTmr")[0]
    return model.find_producer(voter.input[0]).input[0]


@pytest.mark.parametrize("mac", WITH_BIAS, ids=str)
def test_stored_biases_compute_the_same_bit_for_bit(mac):
    plain = biased(mac)
    images = random_images(plain)
    before = run(plain, images)
    hard = plain.transform(InsertBiasTmr())
    assert np.array_equal(run(hard, images), before)
    assert hard.get_initializer(stored(hard)).shape == (3, CHANNELS)
    assert bias_schemes(hard) == {"fc": Tmr(8, 8)}
    assert hard.get_tensor_datatype(stored(hard)).name == "UINT8"


def test_no_single_upset_of_any_copy_shows_and_every_double_one_does():
    hard = biased().transform(InsertBiasTmr())
    images = random_images(hard, 1)
    golden, name = hard.get_initializer(stored(hard)), stored(hard)
    before = run(hard, images)
    for bit in range(8):
        for copy in range(3):
            words = golden.astype(int)
            words[copy] ^= 1 << bit
            hard.set_initializer(name, words.astype(np.float32))
            assert np.array_equal(run(hard, images), before)
            words[(copy + 1) % 3] ^= 1 << bit
            hard.set_initializer(name, words.astype(np.float32))
            assert (run(hard, images) != before).any(axis=tuple(range(2, before.ndim))).all(), "outvoted"


@pytest.mark.parametrize("clean", [lambda model: model, cleanup_model], ids=["as inserted", "after cleanup"])
@pytest.mark.parametrize("mac", WITH_BIAS, ids=str)
def test_lifting_is_the_inverse(mac, clean):
    plain = biased(mac)
    images = random_images(plain)
    hard = clean(plain.transform(InsertMsbVoter()).transform(InsertBiasTmr()))
    assert hard.get_nodes_by_op_type("BiasTmr"), "a cleanup pass must not fold the voter away"
    lifted = hard.transform(LiftVoters()).transform(LiftBiasTmr())
    assert sorted(node.op_type for node in lifted.graph.node) == sorted(node.op_type for node in plain.graph.node)
    assert bias_schemes(lifted) == {"fc": Tmr(8, 8)}
    before, after = integer_biases(plain)["fc"], integer_biases(lifted)["fc"]
    assert np.array_equal(before.integers, after.integers) and before.bits == after.bits == 8
    assert np.array_equal(run(lifted, images), run(plain, images))


def test_a_bias_wider_than_floats_hold_is_stored_at_its_least_width():
    plain = biased()
    bits = find_bias(plain, find_layers(plain)["fc"]).quantizer.input[3]
    plain.set_initializer(bits, np.float32(32))
    images = random_images(plain)
    before = run(plain, images)
    hard = plain.transform(InsertBiasTmr())
    assert bias_schemes(hard)["fc"].bits == signed_bits(integer_biases(plain)["fc"].integers) == 8
    assert np.array_equal(run(hard, images), before)


# -- biases that are no integers yet ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mac", "bias"), [(mac, None) for mac in MACS] + [(mac, "float") for mac in WITH_BIAS], ids=str
)
def test_a_bias_and_the_shift_of_batch_norm_become_one_integer_within_half_a_step(mac, bias):
    scale = 0.01
    plain = mac_graph(mac, random_integers(mac.weight_shape), scale=scale, bias=bias)
    plain = integer_input(plain)
    gamma = np.array([1.5, -0.5, 0.25, -2.0, 0.75, -1.0], np.float32)
    plain.set_initializer("gamma", gamma)
    images = random_images(plain)
    before = run(plain, images)
    model = plain.transform(FoldNegativeScales()).transform(QuantizeBiases())
    norm = model.get_nodes_by_op_type("BatchNormalization")[0]
    factor = abs(gamma) / np.sqrt(model.get_initializer(norm.input[4]) + 1e-5)
    assert not model.get_initializer(norm.input[2]).any() and not model.get_initializer(norm.input[3]).any()
    assert 0 < rounded_biases(model)["fc"] <= 0.5 and refused_biases(model) == {}
    assert list(integer_biases(model)) == ["fc"]
    moved = abs(run(model, images) - before)
    bound = (0.5 * scale * factor).reshape(-1, *[1] * (moved.ndim - 2)) * 1.001 + 1e-4
    assert (moved <= bound).all() and moved.max() > 0
    hard = model.transform(InsertBiasTmr())
    assert np.array_equal(run(hard, images), run(model, images))


def test_an_integer_bias_and_the_norm_behind_it_stay():
    plain = biased()
    images = random_images(plain)
    before = run(plain, images)
    model = plain.transform(QuantizeBiases())
    assert np.array_equal(run(model, images), before) and rounded_biases(model) == {}


def test_without_a_norm_a_float_bias_is_rounded_too():
    mac = helper.make_node("Gemm", ["x", "quantized", "bias"], ["y"], name="fc")
    constants = {"weight": np.eye(3) * SCALE, "scale": SCALE, "zero": 0, "bits": 4, "bias": [0.1, 0.2, -0.5]}
    model = integer_input(finish([quant("weight", "quantized", "bits"), mac], (1, 3), constants))
    model = model.transform(QuantizeBiases())
    assert integer_biases(model)["fc"].integers.tolist() == [0, 1, -2]
    assert rounded_biases(model)["fc"] == pytest.approx(1 / 3, abs=1e-6)


def bare(op: str = "MatMul", scaled: bool = True, shape=(1, 3)):
    """A layer without bias and norm, or one whose input's step nobody knows."""
    nodes = [quant("weight", "quantized", "bits"), helper.make_node(op, ["x", "quantized"], ["y"], name="fc")]
    model = finish(nodes, shape, {"weight": np.eye(3) * SCALE, "scale": SCALE, "zero": 0, "bits": 4})
    return integer_input(model) if scaled else model


def cubic():
    """A matrix product of three dimensions, batch norm behind it."""
    nodes = [
        quant("weight", "quantized", "bits"),
        helper.make_node("MatMul", ["x", "quantized"], ["sum"], name="fc"),
        helper.make_node("BatchNormalization", ["sum", "one", "one", "one", "one"], ["y"]),
    ]
    constants = {"weight": np.eye(3) * SCALE, "scale": SCALE, "zero": 0, "bits": 4, "one": np.ones(2)}
    return integer_input(finish(nodes, (1, 2, 3), constants))


def float_twins():
    """Two layers that add one float bias."""
    nodes = [quant("weight", "w", "bits")]
    nodes += [helper.make_node("Gemm", [source, "w", "b"], [to], name=name)
              for source, to, name in (("x", "middle", "fc"), ("middle", "y", "twin"))]  # fmt: skip
    constants = {"weight": np.eye(3) * SCALE, "scale": SCALE, "zero": 0, "bits": 4, "b": np.ones(3)}
    model = integer_input(finish(nodes, (1, 3), constants))
    find_layers(model)["twin"].node.input[2] = "b"  # qonnx gave it a tensor of its own
    return model


def in_other_steps(*layers: str):
    """Layers that add what one quantizer gives, in steps that are not those of their sums."""
    nodes = [quant("weight", "w", "bits"), quant("b", "q", "wide")]
    nodes[1].input[1] = "step"
    tensors = ["x", *(f"t{at}" for at in range(1, len(layers))), "y"]
    nodes += [helper.make_node("Gemm", [source, "w", "q"], [to], name=name)
              for name, source, to in zip(layers, tensors[:-1], tensors[1:], strict=True)]  # fmt: skip
    constants = {"weight": np.eye(3) * SCALE, "scale": SCALE, "zero": 0, "bits": 4, "b": np.ones(3), "step": 0.07,
                 "wide": 8}  # fmt: skip
    return integer_input(finish(nodes, (1, 3), constants))


def test_a_bias_in_other_steps_is_rounded_to_those_of_the_sums():
    plain = in_other_steps("fc")
    images = random_images(plain)
    before = run(plain, images)
    assert integer_biases(plain) == {}
    model = plain.transform(QuantizeBiases())
    assert integer_biases(model)["fc"].integers.tolist() == [3, 3, 3]  # 0.98 / 0.3
    assert len(model.get_nodes_by_op_type("Quant")) == 2 and model.get_initializer("step") is None
    assert np.abs(run(model, images) - before).max() == pytest.approx(abs(14 * 0.07 - 0.9), abs=1e-6)


def test_the_step_of_float_weights_is_not_known():
    model = integer_input(finish([helper.make_node("MatMul", ["x", "w"], ["y"], name="fc")], (1, 3), {"w": np.eye(3)}))
    assert sum_scales(model, find_layers(model)["fc"]) is None


def zero_gamma():
    return integer_input(mac_graph(CONV, gammas=(0.0, *POSITIVE[1:])))


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (bare, "it has no bias, and no batch norm behind it"),
        (cubic, "it is a matrix product of more than two dimensions"),
        (float_twins, "its bias is another layer's too"),
        (lambda: in_other_steps("fc", "twin"), "its bias is another layer's too"),
        (zero_gamma, "the batch norm behind it has scales that are not above 0"),
        (lambda: mac_graph(CONV, gammas=POSITIVE), "the scale of its weights or of its inputs is not known"),
        (lambda: biased().transform(InsertBiasTmr()), "its bias is computed, or stored in copies"),
        (
            lambda: integer_input(mac_graph(CONV, gammas=POSITIVE, scale=1e-9)),
            "its biases would need 3. bits, more than 24",
        ),
    ],
    ids=["nothing", "cubic", "twins", "quantized twins", "gamma", "scale", "hardened", "wide"],
)
def test_layers_left_without_an_integer_bias_are_listed_with_the_reason(make, why):
    model = make()
    images = random_images(model)
    before = run(model, images)
    model = model.transform(QuantizeBiases())
    assert re.fullmatch(why, refused_biases(model)["fc"])
    assert np.array_equal(run(model, images), before) and rounded_biases(model) == {}


def two_layers():
    """Two layers with integer biases and an activation quantizer between, or both with the same bias tensor."""
    constants = {"a": np.eye(3) * SCALE, "scale": SCALE, "step": SCALE * SCALE, "zero": 0, "bits": 4, "wide": 8,
                 "b1": [0.3, 0.6, -0.9], "b2": [0.09, -0.18, 0.0]}  # fmt: skip
    nodes = [quant("a", "w", "bits"), quant("b1", "q1", "wide"), quant("b2", "q2", "wide")]
    nodes[2].input[1] = "step"
    nodes += [
        helper.make_node("Gemm", ["x", "w", "q1"], ["middle"], name="fc1"),
        quant("middle", "level", "bits"),
        helper.make_node("Relu", ["level"], ["positive"]),
        helper.make_node("Gemm", ["positive", "w", "q2"], ["y"], name="fc2"),
    ]
    return integer_input(finish(nodes, (1, 3), constants))


def test_layers_are_hardened_one_by_one():
    model = two_layers().transform(InsertBiasTmr(["fc2"]))
    assert list(bias_schemes(model)) == ["fc2"] and list(integer_biases(model)) == ["fc1"]
    model = model.transform(LiftBiasTmr()).transform(InsertBiasTmr(["fc1"]))
    assert bias_schemes(model) == {"fc1": Tmr(8, 8), "fc2": Tmr(8, 8)}


def shared():
    model = biased()
    copy = helper.make_node("Conv", list(find_layers(model)["fc"].node.input), ["z"], name="twin", kernel_shape=[3, 3])
    model.graph.node.append(copy)
    return model


@pytest.mark.parametrize(
    ("make", "layers", "kind", "message"),
    [
        (two_layers, ["fc3"], ConfigError, "layers must name layers of the model, got 'fc3'; did you mean 'fc"),
        (lambda: two_layers().transform(InsertBiasTmr(["fc2"])), ["fc2"], ModelError,
         "layer 'fc2' must have a plain bias, got a voter behind it; take the plain model"),
        (bare, None, ModelError, "the model must have a layer with an integer bias, got none; store and vote integer"),
        (bare, ["fc"], ModelError, "layer 'fc' must have an integer bias, got none; store and vote integer biases: qu"),
        (shared, ["fc"], ModelError, "layer 'fc' must have a bias of its own, got one of 2; give each a copy"),
    ],
    ids=["unknown", "twice", "none", "named", "shared"],
)  # fmt: skip
def test_what_cannot_be_hardened_is_refused(make, layers, kind, message):
    with pytest.raises(kind, match=f"^{re.escape(message)}"):
        make().transform(InsertBiasTmr(layers))


def test_a_voter_elsewhere_cannot_be_lifted():
    hard = biased().transform(InsertBiasTmr())
    voter = hard.get_nodes_by_op_type("BiasTmr")[0]
    hard.graph.node.remove(hard.find_consumers(voter.output[0])[0])
    with pytest.raises(
        ModelError, match=r"^node 'fc\.bias\.voter' \(BiasTmr\) must feed a layer through a Mul to be l"
    ):
        hard.transform(LiftBiasTmr())


# -- steps of sums ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nodes", "step"),
    [
        ([helper.make_node("Mul", ["x", "half"], ["y"])], 0.5),
        ([quant("x", "y", "bits")], SCALE),
        ([quant("x", "q", "bits"), helper.make_node("MaxPool", ["q"], ["y"], kernel_shape=[2, 2])], SCALE),
        ([quant("x", "q", "bits"), helper.make_node("AveragePool", ["q"], ["y"], kernel_shape=[2, 2])], SCALE / 4),
        ([quant("x", "q", "bits"), helper.make_node("GlobalAveragePool", ["q"], ["y"])], SCALE / 16),
        ([quant("x", "q", "bits"), helper.make_node("Add", ["q", "q"], ["y"])], SCALE),
        ([quant("x", "q", "bits"), helper.make_node("Add", ["q", "x"], ["y"])], None),
        ([helper.make_node("Mul", ["x", "x"], ["y"])], None),
        ([helper.make_node("Sigmoid", ["x"], ["y"])], None),
        ([helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[2, 2], pads=[1, 1, 1, 1])], None),
    ],
    ids=["mul", "quant", "pool", "average", "global", "add", "unequal", "product", "sigmoid", "padded"],
)
def test_the_step_of_a_tensor_is_traced_or_unknown(nodes, step):
    model = integer_input(finish(nodes, (1, 2, 4, 4), {"half": 0.5, "scale": SCALE, "zero": 0, "bits": 4}))
    assert tensor_scale(model, "y") == (None if step is None else pytest.approx(step))


def test_steps_follow_scales_of_output_channels():
    for mac in MACS[1:]:
        per_channel = np.linspace(0.1, 0.6, CHANNELS)
        shape = [1] * len(mac.weight_shape)
        shape[mac.channel_axis] = CHANNELS
        model = integer_input(mac_graph(mac, scale=per_channel.reshape(shape), gammas=POSITIVE))
        assert np.allclose(sum_scales(model, find_layers(model)["fc"]), per_channel)
        hard = model.transform(InsertMsbVoter())
        assert np.allclose(sum_scales(hard, find_layers(hard)["fc"]), per_channel)


def test_scales_of_inputs_or_of_several_groups_have_no_step():
    model = integer_input(mac_graph(MACS[0], scale=np.linspace(0.1, 0.5, 5).reshape(-1, 1), gammas=POSITIVE))
    assert sum_scales(model, find_layers(model)["fc"]) is None
    grouped = Mac("ConvTranspose", (1, 2, 4, 4), (2, 3, 2, 2), 1, {"kernel_shape": [2, 2], "group": 2})
    scale = np.linspace(0.1, 0.3, 3).reshape(1, -1, 1, 1)
    model = integer_input(mac_graph(grouped, scale=scale, gammas=POSITIVE))
    assert sum_scales(model, find_layers(model)["fc"]) is None


def test_notes_are_plain_json():
    model = integer_input(mac_graph(CONV, gammas=POSITIVE)).transform(QuantizeBiases())
    assert json.loads(model.get_metadata_prop("bitward.rounded_biases")) == rounded_biases(model)
    assert getCustomOp(model.transform(InsertBiasTmr()).get_nodes_by_op_type("BiasTmr")[0]).verify_node() == []
