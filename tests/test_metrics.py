# SPDX-License-Identifier: Apache-2.0
"""Metrics against scikit-learn, scipy and the figures that the papers print."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, jaccard_score

from bitward.errors import FormatError
from bitward.metrics import Share, changed_outputs, changed_top1, mean_iou, sample_size, top1, top1_accuracy, wilson

RNG = np.random.default_rng(0)


def test_accuracy_is_scikit_learn_s():
    outputs, labels = RNG.normal(size=(50, 10)), RNG.integers(0, 10, 50)
    assert top1_accuracy(outputs, labels) == accuracy_score(labels, outputs.argmax(axis=1))


def test_the_first_of_equal_outputs_wins():
    assert top1([[1, 3, 3], [0, 0, 0]]).tolist() == [1, 0]


def test_mean_iou_is_scikit_learn_s():
    found, wanted = RNG.integers(0, 5, (2, 7, 6, 6))
    assert mean_iou(found, wanted, 5) == pytest.approx(jaccard_score(wanted.ravel(), found.ravel(), average="macro"))
    assert mean_iou(found, wanted, 9) == mean_iou(found, wanted, 5)  # classes that do not occur count nothing
    assert mean_iou(wanted, wanted, 5) == 1
    assert mean_iou([0, 0], [1, 1], 2) == 0


def test_iou_is_of_maps_of_one_shape():
    with pytest.raises(FormatError, match=r"^outputs must be of the golden shape \(2, 2\), got \(4,\); compare equal"):
        mean_iou([0, 1, 0, 1], [[0, 1], [0, 1]], 2)


def test_changed_outputs_and_changed_top1():
    golden = np.array([[1, 2], [3, 4], [5, 6]])
    outputs = np.array([[1, 2], [3, 5], [7, 6]])
    assert changed_outputs(golden, outputs).tolist() == [False, True, True]
    assert changed_top1(golden, outputs).tolist() == [False, False, True]


def test_nan_is_the_same_output_as_nan_only():
    nan = np.nan
    assert changed_outputs([[nan], [nan], [1.0]], [[nan], [1.0], [nan]]).tolist() == [False, True, True]


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
@pytest.mark.parametrize(("count", "total"), [(0, 1), (1, 1), (0, 100), (1, 100), (50, 100), (100, 100), (3, 299000)])
def test_wilson_is_scipy_s(count, total, confidence):
    expected = binomtest(count, total).proportion_ci(confidence, method="wilson")
    share = wilson(count, total, confidence)
    assert (share.low, share.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert share.low <= share.value <= share.high
    assert share.value == count / total


def test_nothing_seen_is_not_nothing_there():
    share = wilson(0, 299)
    assert share == Share(0, 299, 0.0, share.high)
    assert share.high > 0.01


@pytest.mark.parametrize(
    ("population", "margin", "expected"),
    [
        (math.inf, 0.025, 1537),  # Leveugle et al., DATE 2009: the size that no population exceeds
        (math.inf, 0.05, 385),
        (math.inf, 0.01, 9604),
        (10**9, 0.025, 1537),
        (1, 0.025, 1),
        (10, 0.025, 10),
        (1000, 0.025, 607),
        (100000, 0.01, 8763),
    ],
)
def test_sample_sizes(population, margin, expected):
    assert sample_size(population, margin) == expected


def test_a_sample_keeps_its_margin():
    """The formula turned round: with the population's correction, n faults give the margin and n - 1 do not."""
    for population in (500, 20000, 10**6):
        n = sample_size(population, 0.025)
        margins = [1.959964 * math.sqrt(0.25 / k * (population - k) / (population - 1)) for k in (n - 1, n)]
        assert margins[1] <= 0.025 < margins[0]


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: top1([1, 2]), r"^outputs must be of shape \(images, classes\), got \(2,\);"),
        (lambda: top1_accuracy([[1, 2]], [0, 1]), r"^labels must be of shape \(1,\) and at least one, got \(2,\);"),
        (lambda: top1_accuracy(np.zeros((0, 2)), []), r"^labels must be of shape \(0,\) and at least one, got \(0,\);"),
        (lambda: changed_outputs([[1]], [[1, 2]]), r"^outputs must be of the golden shape \(1, 1\), got \(1, 2\);"),
        (lambda: changed_top1([[1]], [[1], [2]]), r"^outputs must be of the golden shape \(1, 1\), got \(2, 1\);"),
        (lambda: wilson(0, 0), r"^count must be 0 to total and total at least 1, got 0 of 0;"),
        (lambda: wilson(3, 2), r"^count must be 0 to total and total at least 1, got 3 of 2;"),
        (lambda: wilson(1, 2, 95), r"^confidence must be above 0 and below 1, got 95;"),
        (lambda: sample_size(0), r"^population must be at least 1, got 0;"),
        (lambda: sample_size(math.nan), r"^population must be at least 1, got nan;"),
        (lambda: sample_size(100, 2.5), r"^margin and expected must be between 0 and 1, got 2\.5 and 0\.5;"),
        (lambda: sample_size(100, 0.1, 0.95, 1), r"^margin and expected must be between 0 and 1, got 0\.1 and 1;"),
    ],
)
def test_refusals(call, match):
    with pytest.raises(FormatError, match=match):
        call()
