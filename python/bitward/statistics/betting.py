# SPDX-License-Identifier: Apache-2.0
"""Confidence sequence of a mean of values from 0 to 1: hedged-capital betting.

Against each possible mean m two gamblers bet, one that the values are larger and one that they are smaller; at the
true m neither can expect to win, so a capital of 2/alpha excludes m (I. Waudby-Smith, A. Ramdas, "Estimating means of
bounded random variables by betting", J. R. Stat. Soc. B 86 (2024), theorem 3; without replacement section 5: each
value is compared with what the rest of the population must average, (N m - sum of the past) / (N - t + 1)). The capital
of the first falls with m and that of the second grows, so each end is found by bisection, intersected over every trial.
"""

from __future__ import annotations

import numpy as np

from bitward.statistics._bisect import HALVINGS
from bitward.statistics.confidence_sequence import ConfidenceSequence
from bitward.statistics.interval import Floats
from bitward.statistics.plug_in import PlugIn

LARGEST_LOSS = 0.75  # of the capital, at one value: bets are cut there


class Betting(ConfidenceSequence):
    """The mean; keeps the values, since every possible mean looks back at all of them."""

    def __init__(self, confidence: float = 0.95, population: int | None = None) -> None:
        super().__init__(confidence, population)
        self._plug_in = PlugIn(self.alpha)
        self._chunks: list[Floats] = []  # rows: values, bets, and what the mean of the rest of the population takes
        self._found: tuple[int, tuple[float, float]] = (0, (0.0, 1.0))

    def _absorb(self, chunk: Floats, sums: Floats) -> None:
        bets, _ = self._plug_in.take(self.trials, chunk, sums)
        rows = [chunk, bets]
        if self.population is not None:
            left = self.population - self.trials - np.arange(len(chunk))
            rows += [self.population / left, sums[:-1] / left]
        self._chunks.append(np.stack(rows))

    def _limits(self) -> tuple[float, float]:
        if self._found[0] != self.trials:
            least, most = self.possible()
            low = self._end(least, most, sign=1)
            high = self._end(most, least, sign=-1)
            self._found = (self.trials, (low, high))
        return self._found[1]

    def _end(self, outside: float, inside: float, sign: int) -> float:
        """The excluded mean next to `inside`, or `outside` where none is excluded."""
        for _ in range(HALVINGS):
            middle = (inside + outside) / 2
            if self.largest_capital(middle, sign) >= 2 / self.alpha:
                outside = middle
            else:
                inside = middle
        return outside

    def largest_capital(self, mean: float, sign: int) -> float:
        """The largest capital, starting at 1, that betting on larger (1) or smaller (-1) values than `mean` reached.

        Half of each gambler's capital counts, which is why 2/alpha excludes.
        """
        with np.errstate(over="ignore", under="ignore"):  # infinitely rich is rich enough, and ruined is ruined
            return float(np.cumprod(self.growth(mean, sign)).max())

    def growth(self, mean: float, sign: int) -> Floats:
        """What each value multiplied the gambler's capital by, if `mean` were true."""
        if len(self._chunks) > 1:
            self._chunks = [np.concatenate(self._chunks, axis=1)]
        values, bets, *rows = self._chunks[0]
        rest: Floats | float = mean
        if rows:
            rest = np.clip(mean * rows[0] - rows[1], 0, 1)
        with np.errstate(divide="ignore"):
            limit = LARGEST_LOSS / np.asarray(rest if sign > 0 else 1 - rest)
        return np.asarray(1 + sign * np.minimum(bets, limit) * (values - rest))
