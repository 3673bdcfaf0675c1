# SPDX-License-Identifier: Apache-2.0
"""Confidence sequences of a share: each trial is 0 or 1.

With replacement, the beta-binomial mixture (H. Robbins, "Statistical methods related to the law of the iterated
logarithm", Ann. Math. Stat. 41 (1970)): for the true p, B(a+h, b+n-h) / B(a, b) / (p^h (1-p)^(n-h)) is a martingale
that starts at 1, so it ever reaches 1/alpha with probability alpha at most (Ville). Without replacement, the
prior-posterior ratio of the number of hits D in the population under a beta-binomial prior (I. Waudby-Smith, A. Ramdas,
"Confidence sequences for sampling without replacement", NeurIPS 2020, theorem 1): the same numerator over
C(N-n, D-h) / C(N, D).

Limits are intersected at fixed numbers of trials (all to 50, then in steps of 2 %) and at the present one.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy import special

from bitward.statistics._bisect import Integers, first_true, last_excluded
from bitward.statistics.confidence_sequence import ConfidenceSequence
from bitward.statistics.interval import Floats, as_counts

PRIOR = 0.5  # Jeffreys' a and b: the mixture that is narrow where rates are near 0 or 1


def with_replacement(hits: npt.ArrayLike, trials: npt.ArrayLike, alpha: float) -> tuple[Floats, Floats]:
    """The limits at each of many (hits, trials), arrays that broadcast, at least one trial each."""
    h, n = np.broadcast_arrays(np.asarray(hits, np.float64), np.asarray(trials, np.float64))
    threshold = _log_mixture(h, n) - math.log(1 / alpha)

    def excluded(p: Floats) -> npt.NDArray[np.bool_]:
        return np.asarray(special.xlogy(h, p) + special.xlog1py(n - h, -p) <= threshold)

    share = h / n
    low = last_excluded(excluded, share, np.zeros_like(share))
    high = last_excluded(excluded, share, np.ones_like(share))
    return low, high


def without_replacement(
    hits: npt.ArrayLike, trials: npt.ArrayLike, population: npt.ArrayLike, alpha: float
) -> tuple[Floats, Floats]:
    """The limits, whole numbers of faults over `population`, at each of many (hits, trials, population)."""
    h, n, size = np.broadcast_arrays(*(np.asarray(array, np.int64) for array in (hits, trials, population)))
    slack = 16 * np.finfo(np.float64).eps * special.gammaln(size + 1.0)  # rounding must not exclude the truth
    threshold = _log_mixture(h, n) - math.log(1 / alpha) - slack

    def kept(d: Integers) -> npt.NDArray[np.bool_]:
        return np.asarray(_log_choose(size - n, d - h) - _log_choose(size, d) > threshold)

    fewest, most = h, size - n + h
    likeliest = np.clip(np.floor((size + 1) * (h / n)).astype(np.int64), fewest, most)
    low = first_true(kept, fewest, likeliest)
    high = -first_true(lambda d: kept(-d), -most, -likeliest)
    return low / size, high / size


class BetaBinomial(ConfidenceSequence):
    """The share of faults that are 1, by the mixture with replacement, or the prior-posterior ratio without."""

    def __init__(self, confidence: float = 0.95, population: int | None = None) -> None:
        super().__init__(confidence, population)
        self._low, self._high = 0.0, 1.0

    def _checked(self, values: npt.ArrayLike) -> Floats:
        return as_counts(values)

    def _absorb(self, chunk: Floats, sums: Floats) -> None:
        after = self.trials + len(chunk)
        looks = looks_up_to(after)
        looks = looks[looks > self.trials]
        if len(looks):
            low, high = self._at(sums[looks - self.trials], looks)
            self._low, self._high = max(self._low, float(low.max())), min(self._high, float(high.min()))

    def _limits(self) -> tuple[float, float]:
        low, high = self._at(np.array([self.sum]), np.array([self.trials]))
        return max(self._low, float(low[0])), min(self._high, float(high[0]))

    def _at(self, hits: Floats, trials: Integers) -> tuple[Floats, Floats]:
        if self.population is None:
            return with_replacement(hits, trials, self.alpha)
        return without_replacement(hits.astype(np.int64), trials, self.population, self.alpha)


def looks_up_to(trials: int) -> Integers:
    """The numbers of trials, up to `trials`, at which limits are intersected."""
    doublings = max(0, trials.bit_length())
    looks = _looks(doublings)
    return looks[: int(np.searchsorted(looks, trials, side="right"))]


@cache
def _looks(doublings: int) -> Integers:
    looks = [1]
    while looks[-1] < 1 << doublings:
        looks.append(max(looks[-1] + 1, int(looks[-1] * 1.02)))
    return np.array(looks, np.int64)


def _log_mixture(hits: npt.ArrayLike, trials: npt.ArrayLike) -> Floats:
    """The log of the probability of one order of `hits` hits under the prior: B(a+h, b+n-h) / B(a, b)."""
    h, n = np.asarray(hits, np.float64), np.asarray(trials, np.float64)
    return np.asarray(special.betaln(PRIOR + h, PRIOR + n - h) - special.betaln(PRIOR, PRIOR))


def _log_choose(n: npt.ArrayLike, k: npt.ArrayLike) -> Floats:
    """The log of the binomial coefficient; -inf where there is none."""
    whole, part = np.asarray(n, np.float64), np.asarray(k, np.float64)
    value = special.gammaln(whole + 1) - special.gammaln(part + 1) - special.gammaln(whole - part + 1)
    return np.where((part >= 0) & (part <= whole), value, -np.inf)
