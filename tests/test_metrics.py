# SPDX-License-Identifier: Apache-2.0
"""Metrics against scikit-learn, scipy and the figures that the papers print."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score

from bitward.errors import FormatError
from bitward.formats import Fixed, Float32
from bitward.manifest import Manifest, Memory
from bitward.metrics import (
    LogitDistance,
    MemoryBits,
    Severity,
    Share,
    accuracy_drop,
    changed_outputs,
    changed_top1,
    class_frequencies,
    fit,
    global_iou,
    iou_per_class,
    is_critical,
    logit_distance,
    mean_iou,
    memory_bits,
    p_drop,
    pixel_change_rate,
    rap,
    sample_size,
    severity,
    top1,
    top1_accuracy,
    top1_change_rate,
    upsets_per_hour,
    weighted_iou,
    wilson,
)
from bitward.schemes import Plain, Tmr

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


def test_change_rate_and_accuracy_drop_are_of_decisions():
    golden, outputs = RNG.normal(size=(2, 200, 10))
    labels = RNG.integers(0, 10, 200)
    found, before = outputs.argmax(axis=1), golden.argmax(axis=1)
    assert top1_change_rate(golden, outputs) == pytest.approx(1 - accuracy_score(before, found))
    drop = accuracy_score(labels, before) - accuracy_score(labels, found)
    assert accuracy_drop(golden, outputs, labels) == pytest.approx(drop, abs=1e-12)
    assert accuracy_drop(golden, golden, labels) == 0
    assert accuracy_drop([[1, 0]], [[0, 1]], [1]) == -1  # a fault can mend an answer


def test_severity_splits_every_trial_once():
    values = [0, 0, 0.01, 0.010001, -0.5, 1]
    assert severity(values, 0.01) == Severity(masked=2, tolerable=2, critical=2)
    assert is_critical(values, 0.01).tolist() == [False, False, False, True, False, True]
    assert severity(values, 0) == Severity(masked=2, tolerable=1, critical=3)
    assert severity([], 0.5) == Severity(0, 0, 0)


def test_pixels_that_changed():
    golden, found = RNG.integers(0, 3, (2, 5, 8, 8))
    assert pixel_change_rate(golden, found) == pytest.approx(1 - accuracy_score(golden.ravel(), found.ravel()))
    assert pixel_change_rate(golden, golden) == 0


def test_iou_of_each_class_is_scikit_learn_s():
    found, wanted = RNG.integers(0, 5, (2, 7, 6, 6))
    expected = jaccard_score(wanted.ravel(), found.ravel(), average=None)
    assert iou_per_class(found, wanted, 6) == pytest.approx(np.append(expected, np.nan), nan_ok=True)


def test_weighted_iou_weighs_by_frequency_and_by_its_inverse():
    wanted = RNG.choice(4, 500, p=[0.7, 0.2, 0.07, 0.03])
    found = np.where(RNG.random(500) < 0.8, wanted, RNG.integers(0, 4, 500))
    frequency = confusion_matrix(wanted, found).sum(axis=1) / 500
    assert class_frequencies(wanted, 4) == pytest.approx(frequency)
    by_frequency = jaccard_score(wanted, found, average="weighted")
    assert global_iou(found, wanted, 4) == pytest.approx(by_frequency)
    per_class = jaccard_score(wanted, found, average=None)
    inverse = np.average(per_class, weights=1 / frequency)
    assert weighted_iou(found, wanted, 4) == pytest.approx(inverse)
    assert inverse != pytest.approx(by_frequency, abs=0.01)  # else the two could be exchanged unseen


def test_classes_that_are_found_but_not_wanted_weigh_nothing():
    found, wanted = [0, 1, 2], [0, 1, 1]  # IoU 1, 1/2 and 0; frequencies 1/3, 2/3 and 0
    assert global_iou(found, wanted, 3) == pytest.approx(2 / 3)
    assert weighted_iou(found, wanted, 3) == pytest.approx((3 * 1 + 1.5 / 2) / 4.5)


def test_the_segmentation_paper_s_global_and_weighted_iou():
    """Table 1 of the SEU paper: recall, precision and IoU by class, unpruned and pruned; its last two rows."""
    by_class = np.array(
        [
            [99.69, 98.14, 97.84, 99.57, 98.16, 97.75],
            [91.95, 95.70, 88.30, 92.74, 95.12, 88.53],
            [97.66, 96.32, 94.15, 97.30, 96.11, 93.61],
            [96.45, 96.71, 93.38, 96.04, 97.52, 93.75],
            [81.84, 93.42, 77.38, 82.26, 92.14, 76.86],
        ]
    )
    frequency = np.array([0.6073, 0.0295, 0.2113, 0.0623, 0.0896])
    rows = np.average(by_class, axis=0, weights=frequency), np.average(by_class, axis=0, weights=1 / frequency)
    assert rows[0] == pytest.approx([97.23, 97.17, 94.67, 97.12, 97.06, 94.48], abs=0.005)
    assert rows[1] == pytest.approx([91.98, 95.68, 88.40, 92.33, 95.36, 88.48], abs=0.065)
    pooled = 100 / (100 / 97.23 + 100 / 97.17 - 1)  # IoU of the pooled counts, from their recall and precision
    assert abs(pooled - 94.67) > 0.1


def test_unlabelled_pixels_count_nothing():
    found, wanted = np.array([0, 1, 1, 2]), np.array([0, 1, 0, 9])
    assert mean_iou(found, wanted, 3, ignore=9) == mean_iou(found[:3], wanted[:3], 3)
    assert class_frequencies(wanted, 3, ignore=9).tolist() == [2 / 3, 1 / 3, 0]


def test_logit_distances():
    golden, outputs = RNG.normal(size=(2, 20, 10))
    found = logit_distance(golden, outputs)
    distance = np.abs(golden - outputs)
    relative = math.sqrt((distance**2).sum()) / math.sqrt((golden**2).sum())
    assert (found.max_abs, found.mean_abs) == pytest.approx((distance.max(), distance.mean()))
    assert found.relative == pytest.approx(relative)
    assert logit_distance(golden, golden) == LogitDistance(0, 0, 0)
    assert logit_distance([0, 0], [0, 2]) == LogitDistance(2, 1, math.inf)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_outputs_that_are_no_numbers_are_infinitely_far(value):
    assert logit_distance([1.0, 2.0], [1.0, value]) == LogitDistance(math.inf, math.inf, math.inf)
    assert logit_distance([1.0, value], [1.0, value]) == LogitDistance(0, 0, 0)
    assert logit_distance([1.0, value], [1.0, 2.0]).max_abs == math.inf


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


def test_the_sample_size_has_its_public_parameters():
    assert sample_size(population=10**9, error_margin=0.01, confidence=0.99, p=0.1) == 5972
    assert sample_size(math.inf, 0.01, 0.99, 0.5) > 16000


# Memory utilization in bits, vulnerability in percent at a BER of 3e-4, P_drop in 1e-3 at each BER: FORTUNE's Table II.
BERS = (1e-5, 3e-5, 1e-4, 3e-4)
TABLE_II = {
    "VGG11 8-bit": (225_064_448, 74.52, (50.21, 150.63, 502.10, 1506.30)),
    "VGG11 P-5-bit": (196_931_392, 68.73, (35.45, 106.35, 354.50, 1063.52)),
    "VGG11 P-4-bit": (168_798_336, 67.99, (25.76, 77.30, 257.66, 773.00)),
    "VGG11 P-3-bit": (140_665_280, 67.13, (17.66, 53.00, 176.68, 530.05)),
    "ResNet18 8-bit": (66_991_616, 32.29, (1.92, 5.78, 19.27, 57.82)),
    "ResNet18 P-5-bit": (58_617_664, 18.77, (0.85, 2.57, 8.58, 25.74)),
    "ResNet18 P-4-bit": (50_243_712, 18.34, (0.61, 1.84, 6.15, 18.47)),
    "ResNet18 P-3-bit": (41_869_760, 21.89, (0.51, 1.53, 5.10, 15.31)),
    "AlexNet 8-bit": (466_316_032, 30.71, (88.82, 266.47, 888.23, 2664.70)),
    "AlexNet P-5-bit": (408_026_528, 4.73, (10.47, 31.43, 104.78, 314.46)),
    "AlexNet P-4-bit": (349_737_024, 5.30, (8.62, 25.87, 86.24, 258.72)),
    "AlexNet P-3-bit": (291_447_520, 13.58, (15.34, 46.03, 153.44, 460.33)),
    "Inception 8-bit": (173_011_456, 1.43, (0.57, 1.71, 5.71, 17.15)),
    "Inception P-5-bit": (151_234_496, 0.19, (0.06, 0.18, 0.60, 1.80)),
    "Inception P-4-bit": (129_758_592, 0.14, (0.03, 0.09, 0.33, 0.99)),
}


def _table(bits, vulnerability, ber):
    """P_drop in 1e-3, from the table's own columns."""
    return 1e3 * p_drop(bits, ber, vulnerability / 100, p_single=1.33e-24, intervals=1e11)


def test_p_drop_is_fortune_s_table():
    """54 of the 60 within what the printed digits leave open; the other six within 0.02 % and 5.3 %."""
    outside = []
    for name, (bits, vulnerability, printed) in TABLE_II.items():
        for ber, value in zip(BERS, printed, strict=True):
            low, high = (_table(bits, vulnerability + off, ber) + 2 * off for off in (-0.005, 0.005))
            if not low <= value <= high:
                outside.append((name, abs(value / _table(bits, vulnerability, ber) - 1)))
    assert len(outside) == 6
    assert all(error < (2e-4 if name.startswith("VGG11") else 0.053) for name, error in outside)
    assert not any(name.startswith(("ResNet", "AlexNet")) for name, _ in outside)


def test_the_table_is_not_the_equation_with_the_drop_at_each_ber():
    """Negative control: as the text has it, the drop at a BER of 1e-5 is 5.62 %, and P_drop would be 13 times less."""
    assert _table(225_064_448, 5.62, 1e-5) < 50.21 / 13


def test_rap_is_a_product_of_ratios():
    assert rap(0.3229, 1, 1) == 0.3229
    assert rap(0.2189, 41_869_760 / 66_991_616, 1.1954) == pytest.approx(0.2189 * 0.625 * 1.1954)


def test_upsets_per_hour_of_the_segmentation_paper():
    """4.2.3: 20 FIT/Mb over 249 Mb is 4,983 FIT, 5e-6 upsets an hour; 1,000 upsets take 23,000 years, not 8 days."""
    bits = 249.15e6
    assert fit(bits, 20) == pytest.approx(4983)
    assert upsets_per_hour(bits, 20) == pytest.approx(5e-6, rel=0.005)
    assert 1000 / upsets_per_hour(bits, 20) / 24 / 365.25 == pytest.approx(22894, rel=0.001)


def test_memory_bits_are_those_of_the_manifest():
    memories = (
        Memory("a.weight", "a", "a.weight", "weight", (6, 4), Fixed(4, 2), Tmr(4, 1)),
        Memory("b.weight", "b", "b.weight", "weight", (10,), Float32(), Plain(32)),
        Memory("a.bias", "a", "a.bias", "bias", (6,), Fixed(8, 4), Tmr(8, 8)),
    )
    found = memory_bits(Manifest("net", 0, "none", 0.0, memories))
    assert found == {
        "weight": MemoryBits(34, 24 * 4 + 320, 24 * 6 + 320, 24 * 6 + 320),
        "bias": MemoryBits(6, 48, 144, 144),
        "total": MemoryBits(40, 464, 608, 608),
    }
    assert found["bias"].overhead == 3


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
        (lambda: sample_size(100, 2.5), r"^error_margin and p must be between 0 and 1, got 2\.5 and 0\.5;"),
        (lambda: sample_size(100, 0.1, 0.95, 1), r"^error_margin and p must be between 0 and 1, got 0\.1 and 1;"),
        (lambda: top1_change_rate(np.zeros((0, 2)), np.zeros((0, 2))), r"^outputs must be at least one, got shape"),
        (lambda: is_critical([0], 5), r"^tolerance must be 0 or more and below 1, got 5;"),
        (lambda: severity([math.nan], 0.5), r"^values must be numbers, got NaN; a trial that failed counts as 1"),
        (lambda: mean_iou([0, 3], [0, 1], 3), r"^found must hold integer classes 0 to 2, got int64 from 0 to 3;"),
        (lambda: mean_iou([0, 1], [0, 255], 3), r"^wanted must hold integer classes 0 to 2, got int64 from 0 to 255;"),
        (lambda: mean_iou([0.0], [0], 3), r"^found must hold integer classes 0 to 2, got float64 from 0\.0 to 0\.0;"),
        (lambda: global_iou([0], [7], 3, ignore=7), r"^wanted must hold at least one labelled pixel, got none;"),
        (lambda: p_drop(100, 0.1, 74.5, 0, 0), r"^accuracy_drop must be -1 to 1, got 74\.5; fractions and ratios"),
        (lambda: p_drop(100, 3, 0.5, 0, 0), r"^ber must be 0 to 1, got 3;"),
        (lambda: rap(0.1, math.nan, 1), r"^memory_overhead must be 0 or more, got nan;"),
        (lambda: upsets_per_hour(-1, 20), r"^stored_bits must be 0 or more, got -1;"),
        (lambda: fit(1, math.inf), r"^fit_per_mb must be 0 or more, got inf;"),
    ],
)
def test_refusals(call, match):
    with pytest.raises(FormatError, match=match):
        call()
