# SPDX-License-Identifier: Apache-2.0
"""Single faults of a network that labels pixels: against a naive loop, killed and continued, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tiny_unet
import torch

from bitward.engine.pytorch import as_integers
from bitward.errors import ConfigError
from bitward.sensitivity import FLOAT_BITS, Sampling, Study, error_rates, faults_of, flip_rates, parameter_sets
from bitward.sensitivity.pixels import classes_of, one_hot
from bitward.sensitivity.rates import combined, mean_error
from bitward.sensitivity.study import iou
from bitward.statistics import Interval

COARSE = Sampling(margin=0.2)


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    return tiny_unet.study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def found(study):
    """(rates, table) of a coarse sample."""
    return flip_rates(study, COARSE)


def test_sets_are_numbered_and_named_as_the_papers_have_them(study):
    kinds = {each.name: each.kind for each in study.sets}
    assert [each.number for each in study.sets] == list(range(1, len(study.sets) + 1))
    assert kinds["enc1.conv1.weight"] == "conv kernel" and kinds["enc1.conv1.bias"] == "conv bias"
    assert kinds["enc1.bn1.weight"] == "gamma" and kinds["enc1.bn1.running_var"] == "variance"
    assert kinds["up1.weight"] == "transposed conv kernel" and kinds["up1.bias"] == "transposed conv bias"
    assert all(each.bits == FLOAT_BITS for each in study.sets)


def test_integers_are_tried_in_every_bit(tmp_path):
    made = tiny_unet.study(tmp_path, choose=as_integers(8))
    assert {each.kind for each in made.sets} == {"conv kernel", "transposed conv kernel"}
    assert {each.bits for each in parameter_sets(made.network, made.manifest)} == {tuple(range(8))}


def test_a_set_gets_what_leveugle_asks_for_and_small_ones_are_tried_whole(study):
    sampling = Sampling(margin=0.1)
    drawn = faults_of(study.manifest, study.sets, sampling)
    assert len({(fault.memory, fault.word, fault.bit) for fault in drawn}) == len(drawn)
    for each in study.sets:
        here = [fault for fault in drawn if fault.memory == each.name]
        size = each.parameters * len(FLOAT_BITS)
        wanted = size / (1 + 0.1**2 * (size - 1) / (1.959964**2 * 0.25))  # the paper's equation 1
        assert len(here) >= wanted * 0.9999, each
        assert {fault.bit for fault in here} == set(FLOAT_BITS)
        if each.parameters <= math.ceil(97 / len(FLOAT_BITS)):
            assert len(here) == size
        else:
            assert len(here) < size and len(here) <= wanted + len(FLOAT_BITS)


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "hardsigmoid"])
def test_every_error_rate_is_that_of_a_naive_loop(tmp_path, activation):
    made = tiny_unet.study(tmp_path, activation)
    faults = faults_of(made.manifest, made.sets, Sampling(margin=0.4, seed=5))
    errors = error_rates(made.trials("flips", faults))
    expected = [tiny_unet.naive_error(made.network, made.images, fault) for fault in faults]
    assert errors.tolist() == pytest.approx(expected, abs=1e-12)
    assert max(expected) == 1.0 and 0.0 in expected, "the oracle has seen both ends"


def test_cells_hold_the_mean_of_their_faults_and_a_census_is_a_point(study, found):
    rates, table = found
    errors, rows = error_rates(table), table.to_pylist()
    for (name, bit), cell in rates.cells.items():
        mine = [error for error, row in zip(errors, rows, strict=True) if (row["memory"], row["bit"]) == (name, bit)]
        assert cell.error.estimate == pytest.approx(np.mean(mine)) and cell.error.trials == len(mine)
        assert cell.critical.estimate == pytest.approx(np.mean(np.array(mine) > 0))
        assert cell.is_census == (len(mine) == study.manifest.memory(name).parameters)
        assert cell.is_census <= (cell.error.low == cell.error.high)
    assert {cell.is_census for cell in rates.cells.values()} == {True, False}
    weights = {each.name: each.parameters for each in study.sets}
    upset = np.average([c.error.estimate for c in rates.cells.values()],
                       weights=[weights[name] for name, _ in rates.cells])  # fmt: skip
    assert rates.per_upset.estimate == pytest.approx(upset)
    by_set = [rates.of_set(each.name).estimate for each in rates.sets]
    assert rates.mean.estimate == pytest.approx(np.mean(by_set)) and rates.deviation == pytest.approx(np.std(by_set))


def test_intervals_of_samples_hold_what_trying_every_fault_finds(study):
    name = "enc1.conv1.weight"
    chosen = [each for each in study.sets if each.name == name]
    every = error_rates(study.trials("all", faults_of(study.manifest, chosen, Sampling(margin=0.001))))
    size = study.manifest.memory(name).parameters
    assert len(every) == size * len(FLOAT_BITS)
    truth, random = every.reshape(len(FLOAT_BITS), size), np.random.default_rng(0)
    missed = tried = 0
    for values in truth:
        for _ in range(20):
            some = random.choice(values, 12, replace=False)
            missed += values.mean() not in mean_error(some, size)
            tried += 1
    assert missed <= 0.05 * tried
    assert mean_error(every, len(every)) == Interval(every.mean(), every.mean(), every.mean(), len(every))


def test_a_run_that_was_cut_off_goes_on_and_finds_the_same(tmp_path, found):
    made = tiny_unet.study(tmp_path)
    faults = faults_of(made.manifest, made.sets, COARSE)

    def cut_off(done: int, planned: int, note: str) -> None:
        if done > 300:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made.trials("flips", faults, progress=cut_off)
    (folder,) = (path.parent for path in tmp_path.glob("*/spec.json"))
    assert any(folder.glob("part-*.parquet")), "what was done is kept"
    again = tiny_unet.study(tmp_path).trials("flips", faults)
    columns = ("faults_sha256", "top1_changed", "outputs_sha256")
    assert again.select(columns).to_pylist() == found[1].select(columns).to_pylist()
    before = sorted(path.stat().st_mtime_ns for path in folder.iterdir() if path.suffix == ".parquet")
    made.trials("flips", faults)
    assert before == sorted(path.stat().st_mtime_ns for path in folder.iterdir() if path.suffix == ".parquet")


def test_other_networks_have_other_campaigns(tmp_path):
    first, second = tiny_unet.study(tmp_path, "relu"), tiny_unet.study(tmp_path, "sigmoid")
    assert first.identity["network_sha256"] != second.identity["network_sha256"]
    assert first.identity["weights_sha256"] == second.identity["weights_sha256"], "told apart by what computes"


def test_a_study_leaves_the_network_as_it_is(study, found):
    fresh = tiny_unet.network()
    for name, value in fresh.state_dict().items():
        assert torch.equal(value, study.network.state_dict()[name]), name


def test_pixels_without_a_class_have_changed():
    scores = np.zeros((1, 3, 1, 4), np.float32)
    scores[0, :, 0, 1] = np.nan, 5, np.inf
    scores[0, :, 0, 2] = -1, np.inf, np.inf
    scores[0, :, 0, 3] = -np.inf, -2, -1
    assert classes_of(scores).tolist() == [[[0, -1, 1, 2]]]
    assert one_hot(classes_of(scores), 3).argmax(axis=1).tolist() == [0, 3, 1, 2]


def test_iou_is_that_of_the_maps_and_ignores_what_is_to_be_ignored(study):
    from bitward.metrics import global_iou, weighted_iou

    maps = tiny_unet.classes(study.network, study.images)
    found = iou(study, study.images, study.labels)
    assert found["global_iou"] == pytest.approx(global_iou(maps, study.labels, 4, 0))
    assert found["weighted_iou"] == pytest.approx(weighted_iou(maps, study.labels, 4, 0))


def test_a_network_that_labels_images_is_refused(tmp_path):
    flat = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(tiny_unet.BANDS * 64, 4)).eval()
    with pytest.raises(
        ConfigError, match=r"^network tiny must give scores \(n, classes, height, width\), got \(2, 4\): "
    ):
        _ = tiny_unet.study(tmp_path, made=flat).scores


def test_nothing_cannot_be_combined():
    with pytest.raises(ConfigError, match=r"^error rates must be of one cell or more to be combined, got none: "):
        combined([])


def test_floats_are_no_whole_numbers(study):
    with pytest.raises(ConfigError, match=r"^memory head\.bias must hold whole numbers, got Float32\(\): quantize"):
        study.integers("head.bias")
