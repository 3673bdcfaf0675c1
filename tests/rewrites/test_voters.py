# SPDX-License-Identifier: Apache-2.0
"""Voters in, voters out: the function stays, upsets in copies vanish, upsets elsewhere do exactly what they must."""

from __future__ import annotations

import re

import numpy as np
import pytest
from mac_graphs import CHANNELS, MACS, SCALE, finish, mac_graph, quant, random_images, random_integers, run
from onnx import helper
from qonnx.custom_op.registry import getCustomOp
from qonnx.transformation.general import RemoveUnusedTensors
from qonnx.util.cleanup import cleanup_model

from bitward.errors import ConfigError, ModelError
from bitward.rewrites import InsertMsbVoter, LiftVoters, find_layers, protection, read_weights
from bitward.schemes import Tmr

POSITIVE = (1.0,) * CHANNELS


def hardened(mac=MACS[0], voted=1, **settings):
    """A plain graph with lowest weights, and the same one hardened."""
    plain = mac_graph(mac, random_integers(mac.weight_shape, lowest=-8), POSITIVE, **settings)
    return plain, plain.transform(InsertMsbVoter(voted=voted))


def stored_name(model):
    """The tensor of the stored words."""
    return model.find_producer(find_layers(model)["fc"].voter.input[0]).input[0]


@pytest.mark.parametrize("voted", [1, 2, 4])
@pytest.mark.parametrize("mac", MACS, ids=str)
def test_the_function_stays_bit_for_bit(mac, voted):
    plain, hard = hardened(mac, voted)
    images = random_images(plain)
    assert np.array_equal(run(hard, images), run(plain, images))
    assert getCustomOp(find_layers(hard)["fc"].voter).scheme == Tmr(4, voted)


def test_stored_words_are_initializers_with_their_copies():
    plain, hard = hardened()
    values = read_weights(plain, find_layers(plain)["fc"]).integers
    sign = values < 0
    assert np.array_equal(hard.get_initializer(stored_name(hard)), (values % 16) + sign * (0b11 << 4))
    assert hard.get_tensor_datatype(stored_name(hard)).name == "UINT6"
    assert hard.get_initializer("weight") is None, "the float weights must be gone: they could be read unhardened"


def test_unsigned_and_per_channel_weights_are_stored_too():
    settings = {"integers": random_integers((5, CHANNELS), lowest=0, highest=15), "signed": 0}
    plain = mac_graph(gammas=POSITIVE, scale=np.linspace(0.1, 0.6, CHANNELS).reshape(1, -1), **settings)
    hard = plain.transform(InsertMsbVoter())
    images = random_images(plain)
    assert np.array_equal(run(hard, images), run(plain, images))


@pytest.mark.parametrize("bit", range(8))
def test_one_upset_in_every_word_is_masked_or_does_exactly_its_own(bit):
    """Tmr(4, 2): bits 2 and 3 and their copies vanish, bits 0 and 1 flip in the weight."""
    plain, hard = hardened(voted=2)
    images = random_images(plain)
    name = stored_name(hard)
    words = hard.get_initializer(name).astype(int) ^ (1 << bit)
    hard.set_initializer(name, words.astype(np.float32))
    if bit < 2:
        values = read_weights(plain, find_layers(plain)["fc"]).integers
        flipped = ((values % 16 ^ (1 << bit)) + 8) % 16 - 8
        plain.set_initializer("weight", (flipped * np.float32(SCALE)).astype(np.float32))
    assert np.array_equal(run(hard, images), run(plain, images))


def test_two_upset_copies_outvote_the_third():
    """Negative control: the voter is no wall."""
    plain, hard = hardened()
    name = stored_name(hard)
    hard.set_initializer(name, (hard.get_initializer(name).astype(int) ^ 0b110000).astype(np.float32))
    images = random_images(plain)
    assert not np.array_equal(run(hard, images), run(plain, images))


def two_layers(shared=False):
    """Two MatMuls with weights each, or with the same."""
    second = "first" if shared else "second"
    nodes = [quant("a", "first", "bits")] + ([] if shared else [quant("b", "second", "bits")])
    nodes += [
        helper.make_node("MatMul", ["x", "first"], ["middle"], name="fc1"),
        helper.make_node("MatMul", ["middle", second], ["y"], name="fc2"),
    ]
    constants = {"a": np.eye(3) * SCALE, "b": np.eye(3) * -SCALE, "scale": SCALE, "zero": 0, "bits": 4}
    return finish(nodes, (1, 3), constants)


def test_layers_are_hardened_one_by_one_each_its_own_way():
    model = two_layers().transform(InsertMsbVoter(["fc2"], voted=3))
    layers = find_layers(model)
    assert layers["fc1"].voter is None and layers["fc2"].voter is not None
    model = model.transform(InsertMsbVoter(["fc1"]))
    assert protection(model.transform(LiftVoters())) == {"fc1": Tmr(4, 1), "fc2": Tmr(4, 3)}


@pytest.mark.parametrize(
    "make, arguments, kind, message",
    [
        (two_layers, (["fc3"],), ConfigError, "layers must name layers of the model, got 'fc3'; did you mean 'fc"),
        (two_layers, (None, 0), ConfigError, "voted must be 1 to 4 for the 4-bit weights of layer 'fc1', got 0; 1 "),
        (two_layers, (None, 5), ConfigError, "voted must be 1 to 4 for the 4-bit weights of layer 'fc1', got 5; 1 "),
        (two_layers, (None, True), ConfigError, "voted must be 1 to 4 for the 4-bit weights of layer 'fc1', got True;"),
        (
            lambda: two_layers().transform(InsertMsbVoter(["fc2"])),
            (),
            ModelError,
            "layer 'fc2' must be plain to be hardened, got a voter on its weights; take the plain model",
        ),
        (
            lambda: two_layers(shared=True),
            (),
            ModelError,
            "layer 'fc1' must have weights of its own to be hardened, got 2 layers that share them; give each a copy",
        ),
        (
            lambda: finish([helper.make_node("MatMul", ["x", "a"], ["y"])], (1, 3), {"a": np.eye(3)}),
            (),
            ModelError,
            "the model must have layers with quantized weights to be hardened, got none; export it with Brevitas' ",
        ),
        (
            lambda: mac_graph(bits=16),
            (None, 5),
            ModelError,
            "stored words of layer 'fc' must be at most 24 bits, got 26: float32 tensors hold no wider ",
        ),
    ],
    ids=["unknown", "none", "many", "bool", "twice", "shared", "float", "wide"],
)
def test_what_cannot_be_hardened_is_refused(make, arguments, kind, message):
    with pytest.raises(kind, match=f"^{re.escape(message)}"):
        make().transform(InsertMsbVoter(*arguments))


@pytest.mark.parametrize("clean", [lambda model: model, cleanup_model], ids=["as inserted", "after cleanup"])
@pytest.mark.parametrize("mac", MACS, ids=str)
def test_lifting_is_the_inverse(mac, clean):
    plain, hard = hardened(mac)
    images = random_images(plain)
    cleaned = clean(hard)
    assert cleaned.get_nodes_by_op_type("MsbVoter"), "a cleanup pass must not fold the voter away"
    assert np.array_equal(run(cleaned, images), run(plain, images))
    lifted = cleaned.transform(LiftVoters())
    assert [node.op_type for node in lifted.graph.node] == [node.op_type for node in plain.graph.node]
    assert protection(lifted) == {"fc": Tmr(4, 1)} and list(find_layers(lifted)) == ["fc"]
    before, after = (read_weights(model, find_layers(model)["fc"]) for model in (plain, lifted))
    assert np.array_equal(before.integers, after.integers) and before.bits == after.bits
    assert np.array_equal(run(lifted, images), run(plain, images))
    left = len(lifted.graph.initializer)
    assert len(lifted.transform(RemoveUnusedTensors()).graph.initializer) == left


def test_the_note_outlives_later_cleanup():
    lifted = cleanup_model(hardened()[1].transform(LiftVoters()))
    assert protection(lifted) == {"fc": Tmr(4, 1)} and list(find_layers(lifted)) == ["fc"]


def test_a_plain_model_is_protected_in_nothing():
    assert protection(mac_graph()) == {} == protection(mac_graph().transform(LiftVoters()))


def test_a_lifted_layer_can_be_hardened_again():
    plain, hard = hardened()
    again = hard.transform(LiftVoters()).transform(InsertMsbVoter())
    images = random_images(plain)
    assert np.array_equal(run(again, images), run(plain, images))


def test_a_voter_elsewhere_cannot_be_lifted():
    hard = hardened()[1]
    layer = find_layers(hard)["fc"]
    layer.node.input[1] = layer.voter.output[0]  # without its scale
    hard.graph.node.remove(layer.scaling)
    with pytest.raises(ModelError, match=r"^node 'fc\.voter' \(MsbVoter\) must feed a layer through a Mul to be "):
        hard.transform(LiftVoters())
