# SPDX-License-Identifier: Apache-2.0
"""Confidence sequence of a mean of values from 0 to 1: predictable plug-in empirical Bernstein.

I. Waudby-Smith, A. Ramdas, "Estimating means of bounded random variables by betting", J. R. Stat. Soc. B 86 (2024),
theorem 2; without replacement (their section 5) the values are compared with what the rest of the population must
average, (N m - sum of the past) / (N - t + 1). Quick, in closed form, and wider than betting where rates are small.
"""

from __future__ import annotations

import math

import numpy as np

from bitward.statistics.confidence_sequence import ConfidenceSequence, running_sum
from bitward.statistics.interval import Floats
from bitward.statistics.plug_in import PlugIn

LARGEST_BET = 0.5


class EmpiricalBernstein(ConfidenceSequence):
    """The mean, with a width that follows the variance of the values; intersected over every trial."""

    def __init__(self, confidence: float = 0.95, population: int | None = None) -> None:
        super().__init__(confidence, population)
        self._plug_in = PlugIn(self.alpha)
        self._low, self._high = 0.0, 1.0
        self._centre = self._weight = self._slack = 0.0

    def _absorb(self, chunk: Floats, sums: Floats) -> None:
        bets, expected = self._plug_in.take(self.trials, chunk, sums)
        bets = np.minimum(bets, LARGEST_BET)
        shift, scale = self._rest(sums)
        psi = (-np.log1p(-bets) - bets) / 4
        centre = running_sum(self._centre, bets * (chunk + shift))
        weight = running_sum(self._weight, bets * scale)
        slack = running_sum(self._slack, 4 * (chunk - expected) ** 2 * psi)
        self._centre, self._weight, self._slack = (float(sums[-1]) for sums in (centre, weight, slack))
        middle, width = centre[1:] / weight[1:], (math.log(2 / self.alpha) + slack[1:]) / weight[1:]
        self._low = max(self._low, float((middle - width).max()))
        self._high = min(self._high, float((middle + width).min()))

    def _rest(self, sums: Floats) -> tuple[Floats, Floats]:
        """(shift, scale) with value - rest's mean = value + shift - scale * m, for each value of a chunk."""
        count = len(sums) - 1
        if self.population is None:
            return np.zeros(count), np.ones(count)
        left = self.population - self.trials - np.arange(count)
        return sums[:-1] / left, self.population / left

    def _limits(self) -> tuple[float, float]:
        least, most = self.possible()
        return min(max(self._low, least), most), max(min(self._high, most), least)
