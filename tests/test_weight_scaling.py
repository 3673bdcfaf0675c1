# SPDX-License-Identifier: Apache-2.0
"""Weight scaling: what is stored, what is read, and what upsets then do."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch_networks

from bitward.engine.pytorch import TorchEngine
from bitward.errors import ConfigError
from bitward.faults import Fault
from bitward.formats import Fixed, Float16, Float32, Int
from bitward.metrics import flip_error
from bitward.rewrites import Q2_5, Q2_5_AS_WRITTEN, WeightScaling, largest_scaled
from bitward.schemes import Tmr

WEIGHTS = np.array([[0.1, -0.25], [0.02, 0.05]])


def test_a_layer_is_scaled_by_t_over_its_largest_weight():
    """Equation 6."""
    assert WeightScaling().factors(WEIGHTS, Float32()) == pytest.approx(np.array([[1.9999 / 0.25]]))
    assert WeightScaling(t=1.5).factors(WEIGHTS, Q2_5) == pytest.approx(np.array([[6.0]]))
    by_channel = WeightScaling(per_channel=True).factors(WEIGHTS, Q2_5)
    assert by_channel == pytest.approx(np.array([[1.97 / 0.25], [1.97 / 0.05]]))


@pytest.mark.parametrize("per_channel", [False, True])
def test_powers_of_two_are_the_largest_that_fit(per_channel):
    scaling = WeightScaling(t=1.9999, per_channel=per_channel, power_of_two=True)
    factors = scaling.factors(WEIGHTS, Float32())
    whole = WeightScaling(t=1.9999, per_channel=per_channel).factors(WEIGHTS, Float32())
    assert np.array_equal(np.log2(factors), np.rint(np.log2(factors)))
    assert (factors <= whole).all() and (2 * factors > whole).all()


def test_weights_of_zero_stay_zero():
    assert WeightScaling().factors(np.zeros((3, 4)), Float32()).tolist() == [[1.0]]


def test_q2_5_is_what_its_range_says():
    assert (Q2_5.decode([0x80, 0x7F]) == [-2.0, 1.984375]).all()
    assert (Q2_5_AS_WRITTEN.decode([0x80, 0x7F]) == [-4.0, 3.96875]).all()
    assert largest_scaled(Float16()) == 1.9999
    assert largest_scaled(Fixed(4, 2)) == pytest.approx(0.99 * 1.75)


@pytest.mark.parametrize("form", [Float32(), Float16(), Q2_5], ids=str)
@pytest.mark.parametrize("per_channel", [False, True])
def test_the_engine_reads_weights_divided_back(form, per_channel):
    network = torch_networks.calibrated("chain")
    before = {name: each.detach().clone() for name, each in network.named_parameters() if each.ndim > 1}
    scaling = WeightScaling(per_channel=per_channel)
    engine = TorchEngine(network, scaling.choose(form))
    assert {memory.role for memory in engine.manifest.memories} == {"weight"}
    for memory in engine.manifest.memories:
        weights = before[memory.name].numpy()
        c = scaling.factors(weights, form)
        expected = form.decode(form.encode(weights * c)) / c
        assert np.allclose(engine.stored(memory.name).tensor.numpy(), expected, rtol=1e-6, atol=0)
        plain = form.decode(engine.images()[memory.name][:, 0].astype(np.uint32 if form.bits == 32 else np.uint16)
                            if form.bits > 8 else engine.images()[memory.name][:, 0])  # fmt: skip
        assert np.abs(plain).max() == pytest.approx(largest_scaled(form), abs=0.02)


def test_powers_of_two_change_no_single_precision_weight():
    network = torch_networks.calibrated("residual")
    images = torch_networks.images()
    with torch.no_grad():
        expected = network(images).numpy()
    engine = TorchEngine(network, WeightScaling(power_of_two=True).choose(Float32()))
    assert np.array_equal(engine.infer(images.numpy()), expected)


def test_the_same_upset_does_less_to_a_scaled_weight():
    """-0.25 in Q2.5: its sign bit adds 2 as it is, 2/7.88 scaled."""
    moved = []
    for choose in (WeightScaling(t=0.25).choose(Q2_5), WeightScaling().choose(Q2_5)):
        network = torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False))
        with torch.no_grad():
            network[0].weight.copy_(torch.tensor(WEIGHTS))
        engine = TorchEngine(network, choose)
        held = engine.stored("0.weight").tensor.clone()
        engine.inject([Fault("0.weight", 1, 7)])
        moved.append(float((engine.stored("0.weight").tensor - held).abs().max()))
    assert moved == pytest.approx([2.0, 2.0 * 0.25 / 1.97], rel=1e-6)


def test_it_goes_together_with_voting():
    engine = TorchEngine(torch_networks.calibrated("chain"), WeightScaling().choose(Q2_5, lambda bits: Tmr(bits, 1)))
    name = engine.manifest.memories[0].name
    held = engine.stored(name).tensor.clone()
    engine.inject([Fault(name, 3, 7)])
    assert torch.equal(engine.stored(name).tensor, held)


def exact_error(value, form, ber, scale, safe=()):
    """The expectation itself, over every mask."""
    free = [bit for bit in range(form.bits) if bit not in safe]
    word, total = int(form.encode([scale * value])[0]), 0.0
    for chosen in itertools.chain.from_iterable(itertools.combinations(free, k) for k in range(len(free) + 1)):
        mask = sum(1 << bit for bit in chosen)
        read = float(form.decode(np.array([word ^ mask], dtype=form.encode([0.0]).dtype))[0])
        total += ber ** len(chosen) * (1 - ber) ** (len(free) - len(chosen)) * abs(read - scale * value)
    return total / scale


@pytest.mark.parametrize("scale", [1.0, 3.9, 5.0])
@pytest.mark.parametrize("form", [Q2_5, Fixed(6, 4)], ids=str)
def test_flip_error_is_the_expectation(form, scale):
    values = [-0.5, -0.13, 0.0, 0.31]
    found = flip_error(values, form, 0.1, 200_000, scale, seed=3)
    assert found == pytest.approx([exact_error(value, form, 0.1, scale) for value in values], rel=0.02)


def test_flip_error_leaves_safe_bits_alone():
    values = [0.3, -0.45]
    found = flip_error(values, Fixed(6, 4), 0.2, 200_000, safe_bits=(5, 0))
    assert found == pytest.approx([exact_error(value, Fixed(6, 4), 0.2, 1.0, (5, 0)) for value in values], rel=0.02)


@pytest.mark.parametrize(("form", "safe"), [(Float32(), (30,)), (Float16(), (14,)), (Q2_5, ())], ids=str)
def test_larger_scales_make_smaller_errors_up_to_the_range(form, safe):
    """Figure 2's ordering, and its end: with c = 5 weights above 0.4 overflow in Q2.5, in floating point upsets of
    further exponent bits are let loose.
    """
    values = np.arange(-50, 51) / 100
    means = [flip_error(values, form, 0.1, 20_000, c, safe).mean() for c in (1.0, 2.0, 3.0, 3.9)]
    assert means == sorted(means, reverse=True)
    at_the_edge = flip_error([0.5], form, 0.1, 20_000, 5.0, safe)[0]
    assert at_the_edge > flip_error([0.5], form, 0.1, 20_000, 3.9, safe)[0]


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: WeightScaling(t=0), r"^t must be above 0, got 0: it is the largest weight as stored"),
        (lambda: WeightScaling(t=float("inf")), r"^t must be above 0, got inf"),
        (
            lambda: largest_scaled(Int(8)),
            r"^a format must be a floating or fixed-point one to have weights scaled, got",
        ),
        (lambda: flip_error([0.1], Fixed(40, 3), 0.1, 5), r"^flip_error must have a format of at most 32 bits"),
        (lambda: flip_error([0.1], Q2_5, 0.0, 5), r"^flip_error must have .* ber in \(0, 1\]"),
        (lambda: flip_error([0.1], Q2_5, 0.1, 0), r"^flip_error must have .* rounds"),
    ],
)
def test_bad_values_are_refused(make, match):
    with pytest.raises(ConfigError, match=match):
        make()
