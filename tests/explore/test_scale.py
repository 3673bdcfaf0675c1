# SPDX-License-Identifier: Apache-2.0
"""Designs of formats that are no integers: what is stored, scaled, clamped, divided, and what is refused."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from torch import nn

from bitward.engine.pytorch import TorchEngine, store
from bitward.errors import ConfigError, ModelError
from bitward.explore.design import REALS, Design, Point, default_bits, widths_of
from bitward.explore.evaluate import Rate
from bitward.explore.scale import Scale, scaled_subject
from bitward.explore.subject import Subject
from bitward.formats import (
    Q2_5,
    Q2_5_AS_WRITTEN,
    BFloat16,
    Fixed,
    Float16,
    Float32,
    Int,
    ShortBFloat16,
    ShortFloat16,
    ShortFloat32,
)
from bitward.rewrites import WeightScaling
from bitward.schemes import Secded, Tmr

FORMATS = {
    "float32": Float32(), "float16": Float16(), "bfloat16": BFloat16(), "q2.5": Q2_5,
    "q2.5_as_written": Q2_5_AS_WRITTEN, "fixed": Fixed(8, 6), "short_float32": ShortFloat32(),
    "short_float16": ShortFloat16(), "short_bfloat16": ShortBFloat16(),
}  # fmt: skip


def network() -> nn.Sequential:
    torch.manual_seed(3)
    made = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5))
    with torch.no_grad():
        made[3].weight[1, 2] = 2.75
    return made.eval()


def subject(make=network) -> Subject:
    return Subject("net", make, "0", np.zeros((2, 2, 4, 4), np.float32), np.zeros(2, np.int64))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("by", ["none", "layer", "channel", "power_of_two", "channel_power_of_two"])
def test_weights_are_read_as_the_rewrite_stores_them(name, by):
    form, before = FORMATS[name], {key: value.detach().double().numpy() for key, value in network().named_parameters()}
    scale = Scale(by)
    made = network()
    design = Design(Point(form.bits, "tmr", 2), name, scale=scale)
    manifest, _ = store(made, pickle.loads(pickle.dumps(design)))
    assert {(memory.format, memory.scheme) for memory in manifest.memories} == {(form, Tmr(form.bits, 2))}
    for key in ("0.weight", "3.weight"):
        c = np.ones(1) if by == "none" else scale.scaling.factors(before[key], form)
        expected = form.decode(form.encode(before[key] * c)) / c
        found = made.get_parameter(key).detach().numpy()
        assert np.allclose(found, expected, rtol=1e-6, atol=0)
        if by == "layer" and name != "fixed":
            assert c == pytest.approx({"q2.5_as_written": 0.99 * 3.96875, "q2.5": 1.97, "bfloat16": 1.99,
                                       "short_bfloat16": 1.99, "short_float32": 1.999, "short_float16": 1.999}
                                      .get(name, 1.9999) / np.abs(before[key]).max())  # fmt: skip


def test_fixed_point_of_any_width_has_two_integer_bits():
    (six, *_) = store(network(), Design(Point(6, "secded"), "fixed"))[0].memories
    assert (six.format, six.scheme) == (Fixed(6, 4), Secded(6, 1))
    assert [default_bits(name) for name in ("affine", "float16", "q2.5", "fixed")] == [8, 16, 8, 8]
    assert list(widths_of("bfloat16")) == [16] and widths_of("fixed") == range(2, 17) and set(FORMATS) == set(REALS)


@pytest.mark.parametrize(
    ("name", "largest"), [("float32", 2 - 2**-23), ("float16", 2 - 2**-10), ("bfloat16", 2 - 2**-7)]
)
def test_clamped_words_never_have_the_top_bit_of_their_exponents(name, largest):
    made = network()
    engine = TorchEngine(made, Design(Point(FORMATS[name].bits), name, beyond="clamp"))
    held = engine.stored("3.weight").tensor
    assert float(held[1, 2]) == np.float32(largest)
    top = FORMATS[name].exponent_msb
    for image in engine.images().values():
        assert not (image >> top & 1).any()
    kept = TorchEngine(network(), Design(Point(FORMATS[name].bits), name))
    assert sum(int((image >> top & 1).sum()) for image in kept.images().values()) == 1, "negative control"
    rest = np.ones((5, 16), bool)
    rest[1, 2] = False
    assert np.array_equal(held.numpy()[rest], kept.stored("3.weight").tensor.numpy()[rest])


def test_half_precision_rounds_the_papers_t_to_two():
    """So that the largest weight of a layer has the top bit of its exponent; at 1.999 none has."""

    def at_risk(t: float | None) -> list[int]:
        engine = TorchEngine(network(), Design(Point(16), "float16", scale=Scale("layer", t)))
        return [int((np.abs(engine.stored(name).said()) >= 2).sum()) for name in ("0.weight", "3.weight")]

    assert min(at_risk(None)) >= 1 and at_risk(1.999) == [0, 0]


def test_an_upset_that_is_voted_away_changes_nothing_in_scaled_single_precision():
    """Storing and reading round; what was not hit, or voted, is as it was, to the last bit."""
    engine = TorchEngine(network(), Design(Point(32, "tmr", 2), "float32", scale=Scale("layer")))
    stored = engine.stored("3.weight")
    before = stored.tensor.clone()
    words = np.arange(80)
    golden, read = stored.hit(words, np.full(80, 31), ["flip"] * 80)
    assert np.array_equal(golden, read)
    stored.inject(words, np.full(80, 30), ["flip"] * 80)
    assert torch.equal(stored.tensor, before)
    stored.inject(words, np.full(80, 22), ["flip"] * 80)
    assert not torch.isclose(stored.tensor, before, rtol=1e-3).any()


def test_biases_are_scaled_by_tensor():
    """One factor a bias would store the same number everywhere."""
    engine = TorchEngine(network(), Design(Point(8), "q2.5", biases=True, scale=Scale("channel")))
    said = engine.stored("3.bias").said()
    assert len(np.unique(said)) == 5 and np.abs(said).max() == pytest.approx(1.97, abs=0.01)


def test_logits_are_divided_once():
    design = Design(Point(32), "float32", scale=Scale("power_of_two", divide="logits"))
    divided = scaled_subject(subject(), design.scale, design.real)
    images = torch.rand(3, 2, 4, 4)
    engine = TorchEngine(divided.make(), design)
    with torch.no_grad():
        assert np.array_equal(engine.infer(images.numpy()), network()(images).numpy())
    largest = float(np.abs(engine.stored("0.weight").said()).max())
    assert 1 <= largest < 2, "weights are stored scaled, and not divided when they are read"
    assert float(engine.stored("0.weight").tensor.abs().max()) == largest
    plain = subject()
    assert scaled_subject(plain, Scale("layer"), Float32()) is plain


def test_a_layer_that_lets_no_factor_through_is_named():
    def curved() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 4), nn.Sigmoid(), nn.Linear(4, 2)).eval()

    made = scaled_subject(subject(curved), Scale("layer", divide="logits"), Float32())
    with pytest.raises(
        ModelError, match=r"^1 must let a positive factor through to have logits divided, got Sigmoid: "
    ):
        made.make()


@pytest.mark.parametrize("spread", ["bits", "layers"])
@pytest.mark.parametrize(("point", "copies"), [(Point(16), 1), (Point(16, "tmr", 2), 3), (Point(16, "secded"), 1)])
def test_a_rate_leaves_the_top_bit_of_exponents_alone(spread, point, copies):
    """In every copy; check bits are hit. Over many trials every other bit is hit, and that one never."""
    manifest, _ = store(network(), Design(point, "float16"))
    hit, free = (
        {fault.bit for n in range(12) for fault in Rate(0.2, spread, safe).model(manifest, 1).trial(n)}
        for safe in (True, False)
    )
    memory = manifest.memories[0]
    tops = {
        bit for bit in range(memory.width) if memory.scheme.origin(bit)[1] == 14 and memory.scheme.origin(bit)[0] >= 0
    }
    assert len(tops) == copies
    assert free == set(range(memory.width)) and hit == free - tops
    model = Rate(0.2, "bits", True).model(manifest, 1)
    assert model.population.size == manifest.population - copies * 152
    assert "safe_exponents" not in Rate(0.2).model(manifest, 1).to_dict() and model.to_dict()["safe_exponents"]
    assert str(Rate(0.2, spread, True)) == f"0.2 over {spread}, exponents safe"


def test_integers_have_no_exponents_to_be_safe():
    manifest, _ = store(network(), Design(Point(4), "symmetric"))
    assert {memory.format for memory in manifest.memories} == {Int(4)}
    assert Rate(0.1, "bits", True).model(manifest, 1).population.size == manifest.population


NAMES = {
    "FP32": Design(Point(32), "float32"),
    "P2-FP16 scaled by layer, t = 1.5": Design(Point(16, "tmr", 2), "float16", scale=Scale("layer", 1.5)),
    "SECDED-Q2.5 scaled by channel": Design(Point(8, "secded"), "q2.5", scale=Scale("channel")),
    "FP16 with outliers apart in triplicate": Design(Point(16), "float16", beyond="apart_tmr"),
    "Q2.5 as written with outliers clamped": Design(Point(8), "q2.5_as_written", beyond="clamp"),
    "P-6-bit fixed scaled by layer to a power of two and divided at the logits": Design(
        Point(6, "tmr", 1), "fixed", scale=Scale("power_of_two", divide="logits")
    ),
    "6-bit fixed, 3 P-4-bit fixed": Design(Point(6), "fixed", layers=(("3", Point(4, "tmr", 1)),)),
    "BF16 scaled by channel to a power of two": Design(Point(16), "bfloat16", scale=Scale("channel_power_of_two")),
}


@pytest.mark.parametrize("name", NAMES)
def test_names_say_what_is_stored(name):
    assert str(NAMES[name]) == name


REFUSED = {
    r"^bits must be 16 in the format float16, got 8: choose": lambda: Design(Point(8), "float16"),
    r"^scale.by must be none, got layer in the format affine: the weights' range": lambda: Design(
        Point(8), scale=Scale("layer")
    ),
    r"^beyond must be keep, got clamp in the format symmetric: ": lambda: Design(Point(8), "symmetric", beyond="clamp"),
    r"^per must be tensor, got channel in the format q2.5: it has no scale of its own; scale by channel": lambda: (
        Design(Point(8), "q2.5", "channel")
    ),
    r"^layers must have one width where logits are divided, got a apart$": lambda: Design(
        Point(8), "fixed", layers=(("a", Point(4)),), scale=Scale("layer", divide="logits")
    ),
    r"^scale.by must be layer or channel where t is given, got none: name one$": lambda: Scale(t=1.5),
    r"^scale.by must be layer or channel where divide is given, got none: ": lambda: Scale(divide="logits"),
    r"^scale.by must be layer or power_of_two where logits are divided, got channel: divide weights$": lambda: Scale(
        "channel", divide="logits"
    ),
    r"^t must be above 0, got -1: ": lambda: Scale("layer", -1),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_is_refused(message):
    with pytest.raises(ConfigError, match=message):
        REFUSED[message]()


def test_a_scale_is_the_rewrite():
    assert Scale("channel_power_of_two", 1.5).scaling == WeightScaling(1.5, True, True)
    assert Scale("layer").scaling == WeightScaling()
