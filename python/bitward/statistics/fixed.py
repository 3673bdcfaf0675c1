# SPDX-License-Identifier: Apache-2.0
"""Intervals of a share for a number of trials that was fixed beforehand. Looked at repeatedly, they are void.

`exact` and `finite` cover at least nominally for every rate, as tests invert them (both tails hold at most alpha/2);
Wilson's (`bitward.metrics.wilson`) does so on average only.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from bitward.errors import ConfigError
from bitward.statistics._bisect import first_true
from bitward.statistics.interval import Floats, Interval, alpha_of


def exact(count: int, total: int, confidence: float = 0.95) -> Interval:
    """The share count/total of independent trials, with Clopper's and Pearson's interval (Biometrika 26, 1934).

    >>> exact(0, 299).high < 0.0123 < exact(0, 298).high
    True
    """
    _check(count, total)
    low, high = exact_limits(np.array(count), np.array(total), alpha_of(confidence))
    return Interval(float(low), float(high), count / total, total)


def finite(count: int, total: int, population: int, confidence: float = 0.95) -> Interval:
    """The share of a population of faults, from `total` different ones of it drawn at random: hypergeometric inversion.

    Both tails of the hypergeometric distribution hold more than alpha/2 at every number of hits in the interval
    (W. G. Cochran, "Sampling Techniques", 3.6). Its ends are whole numbers of faults; a census leaves one point.

    >>> finite(2, 10, population=10)
    Interval(low=0.2, high=0.2, estimate=0.2, trials=10)
    """
    _check(count, total)
    if population < total:
        raise ConfigError(f"population must be at least the {total} trials, got {population}; it counts live bits")
    hits, trials = np.array(count), np.array(total)
    low, high = finite_limits(hits, trials, population, alpha_of(confidence))
    return Interval(float(low), float(high), count / total, total)


def exact_limits(count: npt.ArrayLike, total: npt.ArrayLike, alpha: float) -> tuple[Floats, Floats]:
    """Clopper's and Pearson's limits of each of many shares (arrays broadcast), alpha/2 beyond each."""
    hits, trials = np.broadcast_arrays(np.asarray(count, np.float64), np.asarray(total, np.float64))
    some, missed = np.maximum(hits, 1), np.maximum(trials - hits, 1)
    low = special.betaincinv(some, trials - some + 1, alpha / 2)
    high = special.betaincinv(trials - missed + 1, missed, 1 - alpha / 2)
    return np.where(hits == 0, 0.0, low), np.where(hits == trials, 1.0, high)


def finite_limits(
    count: npt.ArrayLike, total: npt.ArrayLike, population: npt.ArrayLike, alpha: float
) -> tuple[Floats, Floats]:
    """Hypergeometric limits of each of many shares of populations (arrays broadcast), alpha/2 beyond each."""
    hits, trials, size = np.broadcast_arrays(
        np.asarray(count, np.int64), np.asarray(total, np.int64), np.asarray(population, np.int64)
    )
    fewest, most = hits, size - trials + hits
    low = first_true(lambda d: stats.hypergeom.sf(hits - 1, size, d, trials) > alpha / 2, fewest, most)
    high = -first_true(lambda d: stats.hypergeom.cdf(hits, size, -d, trials) > alpha / 2, -most, -fewest)
    return low / size, high / size


def _check(count: int, total: int) -> None:
    if not 0 <= count <= total or total < 1:
        raise ConfigError(f"count must be 0 to total and total at least 1, got {count} of {total}; run trials first")
