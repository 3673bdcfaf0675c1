# SPDX-License-Identifier: Apache-2.0
"""Two designs, plain and hardened, compared on the same faults: what differs between faults cancels out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from bitward.errors import ConfigError
from bitward.statistics.interval import Interval, as_counts, as_values
from bitward.statistics.methods import sequence


@dataclass(frozen=True)
class Discordant:
    """Of the faults that only one design suffers from, how many are which, and McNemar's exact two-sided p-value."""

    only_plain: int
    only_hardened: int
    p_value: float


def mcnemar(plain: npt.ArrayLike, hardened: npt.ArrayLike) -> Discordant:
    """Whether plain and hardened suffer equally often: values 0 and 1 on the same faults, a fixed number of them.

    If they do, each fault that only one suffers from is as likely to be either's: a binomial test at 1/2
    (Q. McNemar, Psychometrika 12 (1947), in its exact form).

    >>> mcnemar([1, 1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0, 0])
    Discordant(only_plain=6, only_hardened=0, p_value=0.03125)
    """
    before, after = _both(as_counts(plain), as_counts(hardened))
    worse, better = int(np.sum(after > before)), int(np.sum(before > after))
    p_value = float(stats.binomtest(better, worse + better).pvalue) if worse + better else 1.0
    return Discordant(better, worse, p_value)


def paired_difference(
    plain: npt.ArrayLike,
    hardened: npt.ArrayLike,
    confidence: float = 0.95,
    population: int | None = None,
    method: str = "betting",
) -> Interval:
    """The mean of plain less hardened over faults, -1 to 1, anytime-valid: above 0, hardening helps.

    Differences are taken to 0 to 1 as (1 + d) / 2 and bet on there. `population` as in `ConfidenceSequence`.
    """
    before, after = _both(as_values(plain), as_values(hardened))
    pairs = sequence(method, confidence, population)
    pairs.update((1 + before - after) / 2)
    found = pairs.interval()
    low, high, mean = (2 * value - 1 for value in (found.low, found.high, found.estimate))
    return Interval(low, high, mean, found.trials)


def _both(plain: npt.NDArray[np.float64], hardened: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], ...]:
    if plain.shape != hardened.shape:
        raise ConfigError(
            f"hardened must be of as many trials as plain, got {len(hardened)} and {len(plain)}; replay the same faults"
        )
    return plain, hardened
