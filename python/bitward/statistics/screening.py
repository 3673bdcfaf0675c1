# SPDX-License-Identifier: Apache-2.0
"""The mean over faults of which a screen left some out as harmless, with a random share of those run all the same.

The screen is no proof, so what it leaves out is part of the estimate and of the interval. Each screened trial is
audited, that is run exactly, with probability `audit`, decided by seed and trial number alone. Then the mean over
faults is that of two streams: v for kept trials, else 0; and v for audited trials, else 0, over `audit`
(D. G. Horvitz, D. J. Thompson, JASA 47 (1952)). Each stream gets an interval of its own; they are added (union bound).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bitward.errors import ConfigError
from bitward.statistics._bisect import last_excluded
from bitward.statistics.fixed import exact
from bitward.statistics.interval import Floats, Interval, alpha_of, as_counts, as_values
from bitward.statistics.methods import sequence

THINNING = 0.1  # of alpha: for which of a finite population's screened faults the audit happens to choose


@dataclass(frozen=True, eq=False)
class Screening:
    """Which trials of a prefix were screened out, and which of those were audited, shape (trials,) both."""

    screened: npt.NDArray[np.bool_]
    audited: npt.NDArray[np.bool_]
    audit: float

    def __post_init__(self) -> None:
        if not 0 < self.audit <= 1:
            raise ConfigError(f"audit must be above 0 and at most 1, got {self.audit}; 0.01 is one in a hundred")
        if self.screened.shape != self.audited.shape or (self.audited & ~self.screened).any():
            raise ConfigError(
                "audited must be some of the screened trials, got others; a trial that the screen kept is run anyway"
            )

    def streams(self, values: npt.ArrayLike) -> tuple[Floats, Floats]:
        """(kept, audited): values of 0 to 1 per trial. Those of screened trials that did not run may be anything."""
        found = np.array(values, np.float64)
        if found.shape != self.screened.shape:
            raise ConfigError(f"values must be of shape {self.screened.shape}, got {found.shape}; one per trial")
        found[self.screened & ~self.audited] = 0
        found = as_values(found)
        return np.where(self.screened, 0.0, found), np.where(self.audited, found, 0.0)


def screened_share(values: npt.ArrayLike, screening: Screening, confidence: float = 0.95) -> Interval:
    """The share of hits (values 0 and 1) for a number of trials fixed beforehand: two exact intervals, each at alpha/2.

    Also where faults are drawn without replacement, whose counts vary less (W. Hoeffding, Ann. Math. Stat. 27 (1956)).
    """
    kept, audited = (as_counts(stream) for stream in screening.streams(values))
    total = len(kept)
    if screening.audit == 1:
        return exact(int((kept + audited).sum()), total, confidence)
    each = 1 - alpha_of(confidence) / 2
    parts = [exact(int(stream.sum()), total, each) for stream in (kept, audited)]
    return _sum(parts[0], parts[1], screening.audit)


class ScreenedSequence:
    """An anytime-valid interval of the mean over faults, screened ones included.

    `population`, where faults are drawn without replacement: the sequence of the second stream is then about the
    audited faults of the population, whose sum differs from `audit` times that of the screened ones by no more than
    Hoeffding's relative-entropy bound allows at a tenth of alpha (JASA 58 (1963), theorem 1).
    """

    def __init__(self, method: str, audit: float, confidence: float = 0.95, population: int | None = None) -> None:
        alpha = alpha_of(confidence)
        each = alpha / 2 if population is None else alpha * (1 - THINNING) / 2
        self.audit, self.population, self.alpha = audit, population, alpha
        self.kept, self.audited = (sequence(method, 1 - each, population) for _ in range(2))

    def update(self, values: npt.ArrayLike, screened: npt.ArrayLike, audited: npt.ArrayLike) -> None:
        """The next trials are part of the estimate."""
        flags = Screening(np.asarray(screened, np.bool_), np.asarray(audited, np.bool_), self.audit)
        kept, run = flags.streams(values)
        self.kept.update(kept)
        self.audited.update(run)

    def interval(self) -> Interval:
        """Where the mean over all faults is, after the trials so far."""
        found = self.audited.interval()
        if self.population is not None and self.audit < 1:
            low, high = _thinned(found.low, found.high, self.population, self.alpha * THINNING)
            found = Interval(low, high, found.estimate, found.trials)
        return _sum(self.kept.interval(), found, self.audit)


def _sum(kept: Interval, audited: Interval, audit: float) -> Interval:
    low, high = kept.low + audited.low / audit, kept.high + audited.high / audit
    return Interval(min(low, 1.0), min(high, 1.0), kept.estimate + audited.estimate / audit, kept.trials)


def _thinned(low: float, high: float, population: int, alpha: float) -> tuple[float, float]:
    """What the mean of the audited faults' law can be, where their mean in the population is from `low` to `high`.

    With y the expected mean and x the realised one, N kl(x, y) > log(2/alpha) happens in at most alpha.
    """
    realised = np.array([low, high])

    def excluded(expected: Floats) -> npt.NDArray[np.bool_]:
        with np.errstate(divide="ignore", invalid="ignore"):
            ones = np.where(realised > 0, realised * np.log(realised / expected), 0.0)
            zeros = np.where(realised < 1, (1 - realised) * np.log((1 - realised) / (1 - expected)), 0.0)
        return np.asarray(population * (ones + zeros) >= math.log(2 / alpha))

    ends = last_excluded(excluded, realised, np.array([0.0, 1.0]))
    return float(ends[0]), float(ends[1])
