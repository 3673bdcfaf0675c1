# SPDX-License-Identifier: Apache-2.0
"""What every method here answers with, and the checks that they share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bitward.errors import ConfigError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """From `low` to `high` the true mean lies, at the confidence asked for; `estimate` is the mean of the trials seen.

    A running intersection can, rarely, leave the estimate outside. Without trials it is NaN.
    """

    low: float
    high: float
    estimate: float
    trials: int

    @property
    def half_width(self) -> float:
        """Half of the distance from end to end: what a margin is compared with."""
        return (self.high - self.low) / 2

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


def alpha_of(confidence: float) -> float:
    """How often an interval may miss: 1 - confidence; ConfigError unless that is between 0 and 1."""
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence must be above 0 and below 1, got {confidence}; 0.95 is 95 %")
    return 1 - confidence


def as_values(values: npt.ArrayLike) -> Floats:
    """The trials' values as floats, shape (trials,); ConfigError unless all are 0 to 1."""
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 1:
        raise ConfigError(f"values must be of shape (trials,), got {found.shape}; one mean over the images per fault")
    wrong = found[~((found >= 0) & (found <= 1))]
    if len(wrong):
        raise ConfigError(f"values must be 0 to 1, got {wrong[0]:g}; a trial that failed or timed out counts as 1")
    return found


def as_counts(values: npt.ArrayLike) -> Floats:
    """As `as_values`, and every one is 0 or 1."""
    found = as_values(values)
    wrong = found[(found != 0) & (found != 1)]
    if len(wrong):
        raise ConfigError(f"values must be 0 or 1 for this method, got {wrong[0]:g}; use 'betting' for means")
    return found
