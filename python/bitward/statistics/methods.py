# SPDX-License-Identifier: Apache-2.0
"""The confidence sequences by name."""

from __future__ import annotations

from bitward.errors import ConfigError, nearest
from bitward.statistics.beta_binomial import BetaBinomial
from bitward.statistics.betting import Betting
from bitward.statistics.confidence_sequence import ConfidenceSequence
from bitward.statistics.empirical_bernstein import EmpiricalBernstein

SEQUENCES: dict[str, type[ConfidenceSequence]] = {
    "beta-binomial": BetaBinomial,
    "betting": Betting,
    "empirical-bernstein": EmpiricalBernstein,
}


def sequence(method: str, confidence: float = 0.95, population: int | None = None) -> ConfidenceSequence:
    """A new confidence sequence by the name of its method; ConfigError with the nearest name otherwise.

    "beta-binomial" takes values 0 and 1, the others any from 0 to 1. `population` is how many faults there are, when
    they are drawn without replacement.
    """
    if method not in SEQUENCES:
        raise ConfigError(f"method must be a confidence sequence, got {method!r}; {nearest(method, SEQUENCES)}")
    return SEQUENCES[method](confidence, population)
