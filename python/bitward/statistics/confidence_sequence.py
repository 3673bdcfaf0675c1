# SPDX-License-Identifier: Apache-2.0
"""Confidence sequences: intervals that may be looked at after every trial, and stopped at whenever one likes.

With probability `confidence` the true mean lies in *all* intervals of a sequence at once (anytime-valid). Values come
in the order of trial ids, which must not depend on what the trials found or how long they took: only the finished
prefix counts. A sequence is fed chunk by chunk; how the values were cut into chunks changes no bit of the answer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt

from bitward.errors import ConfigError
from bitward.statistics.interval import Floats, Interval, alpha_of, as_values


class ConfidenceSequence(ABC):
    """The mean of a population of faults, from the values, 0 to 1, of those tried so far.

    `population` is how many faults there are when they are drawn at random without replacement; None when they are
    drawn independently (with replacement, or from a law without end such as a bit error rate). Intervals are running
    intersections over all trials so far (beta-binomial: over a fixed schedule of them). One that would be empty, which
    happens in at most 1 - confidence of all campaigns, is given as the gap between its ends. A new method is one
    subclass.
    """

    def __init__(self, confidence: float = 0.95, population: int | None = None) -> None:
        self.alpha = alpha_of(confidence)
        if population is not None and population < 1:
            raise ConfigError(f"population must be at least 1, got {population}; it counts live bits")
        self.population = population
        self.trials = 0
        self.sum = 0.0

    def update(self, values: npt.ArrayLike) -> None:
        """The next trials' values are part of the sequence; ConfigError, and no change, where one cannot be."""
        chunk = self._checked(values)
        if self.population is not None and self.trials + len(chunk) > self.population:
            raise ConfigError(
                f"values must be at most the population of {self.population}, got {self.trials + len(chunk)}; give "
                "population only where faults are drawn without replacement"
            )
        if len(chunk):
            sums = running_sum(self.sum, chunk)
            self._absorb(chunk, sums)
            self.trials += len(chunk)
            self.sum = float(sums[-1])

    def interval(self) -> Interval:
        """Where the mean is, after the trials so far."""
        if self.trials == 0:
            return Interval(0.0, 1.0, float("nan"), 0)
        low, high = self._limits()
        return Interval(min(low, high), max(low, high), self.sum / self.trials, self.trials)

    def possible(self) -> tuple[float, float]:
        """The least and the greatest mean that the values seen leave possible at all: 0 and 1 with replacement."""
        if self.population is None:
            return 0.0, 1.0
        left = self.population - self.trials
        return self.sum / self.population, (self.sum + left) / self.population

    def _checked(self, values: npt.ArrayLike) -> Floats:
        return as_values(values)

    @abstractmethod
    def _absorb(self, chunk: Floats, sums: Floats) -> None:
        """Takes in values; `sums` are those before each of them and after the last. `trials` is still the old one."""

    @abstractmethod
    def _limits(self) -> tuple[float, float]:
        """The ends after the trials so far, at least one."""


def running_sum(start: float, values: Floats) -> Floats:
    """The sums before each value and after the last, shape (n + 1,), added one after the other from `start`."""
    return np.cumsum(np.concatenate([[start], values]))
