# SPDX-License-Identifier: Apache-2.0
"""What goes with error rates; equation 2 against every fault of the output layer's biases; several flips at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tiny_unet
import torch
from scipy import stats

from bitward.engine.pytorch import Storage
from bitward.errors import ConfigError, FormatError
from bitward.formats import Int
from bitward.schemes import InPlaceSecded, Plain
from bitward.sensitivity import Sampling, Study, error_rates, faults_of, flip_rates, rates_of
from bitward.sensitivity.explain import activation_ranges, correlation, explained, needed_bits
from bitward.sensitivity.output_bias import equation_2, output_biases
from bitward.sensitivity.several import several_flips
from bitward.sensitivity.summary import summary_of
from bitward.statistics import pearson


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    return tiny_unet.study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def head(study):
    """Every fault of the output layer's biases that the papers try."""
    chosen = [each for each in study.sets if each.name == "head.bias"]
    return study.trials("head", faults_of(study.manifest, chosen, Sampling(margin=0.01)))


def whole(name, role, tensor) -> Storage | None:
    """Weights and biases as integers of 8 and 32 bits, biases under shortened SEC-DED."""
    if role not in ("weight", "bias"):
        return None
    scale = np.array(2.0**-7)
    return Storage(Int(32), InPlaceSecded(32), scale) if role == "bias" else Storage(Int(8), Plain(8), scale)


def test_equation_2_is_what_injecting_every_output_bias_finds(study, head):
    rows = output_biases(study, head)
    assert len(rows) == 12 * tiny_unet.CLASSES == len(head)
    decided = [row for row in rows if row.decides]
    assert {row.bit for row in decided} >= {30} and {row.measured > 0.5 for row in decided} == {True, False}
    for row in decided:
        assert row.measured == pytest.approx(row.predicted, abs=1e-12), row
    predicted, measured = equation_2(rows, [30])
    terms = [row.share if row.value < 0 else 1 - row.share for row in rows if row.bit == 30]
    assert predicted == pytest.approx(np.mean(terms)) == pytest.approx(measured)


def test_what_is_computed_is_measured_for_every_bit_and_equation_2_is_not(study, head):
    rows = output_biases(study, head)
    assert [row.computed for row in rows] == pytest.approx([row.measured for row in rows], abs=1e-12)
    small = [row for row in rows if row.bit == 20]
    assert not any(row.decides for row in small), "a small change does not decide"
    assert any(abs(row.predicted - row.measured) > 0.05 for row in small), "and equation 2 is wrong there"


def test_an_output_bias_that_becomes_no_number_changes_every_pixel(tmp_path):
    network = tiny_unet.network()
    with torch.no_grad():
        network.head.bias.copy_(torch.tensor([1.5, -1.25, 0.1, -0.2]))
    made = tiny_unet.study(tmp_path, made=network)
    chosen = [each for each in made.sets if each.name == "head.bias"]
    rows = output_biases(made, made.trials("head", faults_of(made.manifest, chosen, Sampling(margin=0.01))))
    at_msb = [row for row in rows if row.bit == 30]
    assert [row.predicted for row in at_msb][:2] == [1.0, 1.0]
    assert [row.measured for row in at_msb] == pytest.approx([row.predicted for row in at_msb])


def test_equation_2_needs_an_output_layer_and_faults_in_it(study, head, tmp_path):
    with pytest.raises(ConfigError, match=r"^faults of the output layer's biases must be of bits \[3\], got none"):
        equation_2(output_biases(study, head), [3])
    weights_only = tiny_unet.study(tmp_path, choose=lambda name, role, tensor: whole(name, role, tensor)
                                   if role == "weight" else None)  # fmt: skip
    with pytest.raises(ConfigError, match=r"^faults must be of the output layer's biases, head\.bias, too, got none"):
        output_biases(study, head.slice(0, 0))
    with pytest.raises(ConfigError, match=r"^network tiny must end in a layer with a bias for each of its 4 classes, "):
        output_biases(weights_only, head)


def test_bits_needed_are_those_of_the_papers_output_layer():
    """Its biases stand in section 4.2.1; Tables 11 and 12 have 13 and 16, 12 and 16 for them."""
    assert needed_bits([-25983, 2355, -187, 300, -1494, 923]) == (13, 16)
    assert needed_bits([-19945, 1730, -150, 209, -1120, 665]) == (12, 16)
    assert needed_bits([0]) == (None, None)
    for value in range(-300, 300):
        above, below = needed_bits([value])
        bits = above or below
        if bits is not None:
            assert -(2 ** (bits - 1)) <= value < 2 ** (bits - 1)
            assert bits == 1 or not -(2 ** (bits - 2)) <= value < 2 ** (bits - 2)


def test_whole_numbers_are_read_through_their_protection(tmp_path):
    made = tiny_unet.study(tmp_path, choose=whole)
    bias = made.network.get_parameter("enc1.conv1.bias").numpy()
    assert made.integers("enc1.conv1.bias") == np.rint(bias * 128).astype(int).tolist()


def least_bits(integers) -> int | None:
    """The least width of two's complement that holds them; None where there are none."""
    widths = (bits for bits in range(1, 33) if all(-(2 ** (bits - 1)) <= each < 2 ** (bits - 1) for each in integers))
    return next(widths) if integers else None


@pytest.mark.parametrize("bits", [32, 8])
def test_whole_biases_say_what_bits_they_need(tmp_path, bits):
    """Of 8 bits none is one of those that equation 2 is about."""
    made = tiny_unet.study(tmp_path, choose=lambda name, role, tensor: whole(name, role, tensor) if bits == 32 else (
        Storage(Int(8), Plain(8), np.array(2.0**-5)) if role in ("weight", "bias") else None
    ))  # fmt: skip
    rates, table = flip_rates(made, Sampling(margin=0.4))
    for row in explained(made, rates):
        integers = made.integers(row.set.name) if row.set.kind.endswith("bias") else []
        assert row.positive_bits == least_bits([each for each in integers if each > 0])
        assert row.negative_bits == least_bits([each for each in integers if each < 0])
    found = summary_of(made, rates, table)["output_biases"]
    assert found is None if bits == 8 else set(found["bits"]) <= set(range(17, 31))


def test_shares_of_signs_and_values_at_risk_are_counted(study):
    rates, _ = flip_rates(study, Sampling(margin=0.4))
    rows = {row.set.name: row for row in explained(study, rates)}
    gammas = study.network.get_parameter("enc1.bn1.weight").numpy()
    assert rows["enc1.bn1.weight"].risky == np.mean((gammas >= 1) & (gammas < 2))
    betas = study.network.get_parameter("dec1.bn2.bias").numpy()
    assert rows["dec1.bn2.bias"].positive == np.mean(betas > 0)
    assert rows["head.bias"].error == rates.of_set("head.bias", [30]) and rows["head.bias"].positive_bits is None
    # A gamma at risk becomes infinite or NaN: the correlation with bit 30 must see what was made by hand.
    made = [replace(row, error=replace(row.error, estimate=row.risky)) for row in rows.values()]
    assert correlation(made, ["gamma", "conv kernel"], lambda row: row.risky).estimate == pytest.approx(1)
    assert correlation(made, ["dense bias"], lambda row: row.risky) is None


def test_pearson_is_scipys_and_refuses_what_has_no_correlation():
    left, right = np.random.default_rng(0).standard_normal((2, 30))
    found = pearson(left, right)
    theirs = stats.pearsonr(left, right)
    assert (found.estimate, found.trials) == pytest.approx((theirs.statistic, 30))
    assert (found.low, found.high) == pytest.approx(tuple(theirs.confidence_interval()))
    assert pearson(left, 3 - 2 * left).estimate == pytest.approx(-1)
    with pytest.raises(ConfigError, match=r"^pairs must be four or more of numbers, got shapes \(3,\) and \(3,\): "):
        pearson([1, 2, 3], [1, 2, 4])
    with pytest.raises(ConfigError, match=r"^pairs must differ on both sides, got all values of one side alike: "):
        pearson([1, 1, 1, 1], [1, 2, 3, 4])


def test_activation_ranges_are_those_of_each_module(study):
    ranges = {found.module: found for found in activation_ranges(study.network, study.images)}
    with torch.inference_mode():
        values = study.network.enc1.conv1(torch.from_numpy(study.images))
    assert (ranges["enc1.conv1"].low, ranges["enc1.conv1"].high) == pytest.approx(
        (float(values.min()), float(values.max()))
    )
    assert ranges["enc1.act1"].low >= 0 and ranges["enc1.act1"].kind == "ReLU"
    assert not study.network.head._forward_hooks, "nothing stays behind"


def test_several_flips_have_a_mean_and_a_spread_of_their_repetitions(study):
    few, many = several_flips(study, [200, 1], repetitions=12)
    assert (few.flips, many.flips) == (1, 200) and len(few.errors) == 12
    assert many.error.estimate == pytest.approx(np.mean(many.errors)) and many.error.estimate > few.error.estimate
    assert many.deviation == pytest.approx(np.std(many.errors, ddof=1)) and 0 <= min(few.errors)
    assert few.error.low <= few.error.estimate <= few.error.high
    size = sum(memory.population for memory in study.manifest.memories)
    with pytest.raises(FormatError, match=rf"^flips must be 1 to the {size} live bits chosen, got {size + 1}: "):
        several_flips(study, [size + 1], 2)


def test_flips_of_all_bits_are_that_one_set(study):
    """Every stored bit inverted: one trial says what numpy does."""
    size = sum(memory.population for memory in study.manifest.memories)
    (found,) = several_flips(study, [size], repetitions=2)
    inverted = tiny_unet.network()
    for _, tensor in [*inverted.named_parameters(), *inverted.named_buffers()]:
        if tensor.is_floating_point():
            tensor.detach().numpy().reshape(-1).view(np.uint32)[...] ^= np.uint32(0xFFFFFFFF)
    changed = tiny_unet.classes(inverted, study.images) != tiny_unet.classes(study.network, study.images)
    assert found.errors == (changed.mean(), changed.mean())


def test_a_summary_has_what_was_found_and_nothing_that_was_not(study):
    rates, table = flip_rates(study, Sampling(margin=0.2))
    found = summary_of(study, rates, table)
    assert found["faults"] == len(table) and found["pixels"] == study.golden.size and found["several"] == []
    assert {row["set"] for row in found["cells"]} == {each.name for each in study.sets}
    assert found["output_biases"]["bits"] == [30]
    weights = [each for each in study.sets if each.kind == "conv kernel"]
    some = study.trials("some", faults_of(study.manifest, weights, Sampling(margin=0.4)))
    assert summary_of(study, rates_of(some, tuple(weights)), some)["output_biases"] is None
    assert error_rates(some).max() <= 1
