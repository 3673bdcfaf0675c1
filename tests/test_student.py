# SPDX-License-Identifier: Apache-2.0
"""Student's interval: against scipy, its coverage, values that are all equal, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bitward.errors import ConfigError
from bitward.statistics import student


def test_it_is_scipys():
    values = np.random.default_rng(0).normal(0.1, 0.05, 12)
    found = student(values, 0.9)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.estimate == pytest.approx(values.mean()) and found.trials == 12


def test_it_covers_as_often_as_it_says():
    random = np.random.default_rng(1)
    held = sum(0.2 in student(random.normal(0.2, 0.03, 5)) for _ in range(2000))
    assert 0.935 < held / 2000 < 0.965
    short = sum(0.2 in student(random.normal(0.2, 0.03, 5), 0.5) for _ in range(2000))
    assert 0.46 < short / 2000 < 0.54, "negative control: another confidence, another coverage"


def test_equal_values_count_as_if_one_were_a_step_off():
    one_off = [0.0] * 49 + [1 / 64]
    equal = student([0.0] * 50, step=1 / 64)
    assert equal.high == pytest.approx(student(one_off).half_width, rel=0.03) and equal.low == -equal.high
    assert student([0.25] * 3) == student([0.25, 0.25, 0.25], step=0.0)
    wide = student([0.1, 0.3], step=1 / 64)
    assert wide == student([0.1, 0.3]), "a step changes nothing where values differ by more"


def test_ends_are_within_what_is_possible():
    assert (student([-0.9, 0.9]).low, student([-0.9, 0.9]).high) == (-1, 1)
    assert (student([0.3]).low, student([0.3]).high) == (-1, 1)


@pytest.mark.parametrize("values", [[], [[0.1]], [1.5], [np.nan]])
def test_what_is_no_list_of_drops_is_refused(values):
    with pytest.raises(ConfigError, match=r"^values must be at least one, -1 to 1, of shape \(trials,\), got shape "):
        student(values)
