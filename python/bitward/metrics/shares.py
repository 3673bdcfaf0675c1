# SPDX-License-Identifier: Apache-2.0
"""Shares of trials: Wilson's interval and Leveugle's sample size. `bitward.statistics` has the other intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from bitward.errors import FormatError


@dataclass(frozen=True)
class Share:
    """`count` of `total`, and the interval from `low` to `high` that covers the true share at the stated confidence."""

    count: int
    total: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The share observed; it may lie anywhere in the interval, not in its middle."""
        return self.count / self.total


def wilson(count: int, total: int, confidence: float = 0.95) -> Share:
    """The share count/total with Wilson's score interval (two-sided, no continuity correction).

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927). Unlike
    Wald's, it is no point at 0 hits. Its coverage is nominal on average over rates, not at each: where less than
    about one hit is expected it falls to some 85 % of campaigns; `bitward.statistics.exact` never does.
    """
    if not 0 <= count <= total or total < 1:
        raise FormatError(f"count must be 0 to total and total at least 1, got {count} of {total}; run trials first")
    z = _quantile(confidence)
    share = count / total
    centre = share + z * z / (2 * total)
    spread = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    low = 0.0 if count == 0 else (centre - spread) / scale  # exactly 0 and 1, not a rounding error beside them
    high = 1.0 if count == total else (centre + spread) / scale
    return Share(count, total, low, high)


def sample_size(population: float, error_margin: float = 0.025, confidence: float = 0.95, p: float = 0.5) -> int:
    """How many faults, drawn without replacement, give a share within `error_margin` of the truth at `confidence`.

    n = N / (1 + e^2 (N-1) / (t^2 p (1-p))), rounded up: R. Leveugle, A. Calvez, P. Maistri, P. Vanhauwaert,
    "Statistical fault injection: quantified error and confidence", DATE 2009. `population` counts live bits and may be
    `math.inf`; `error_margin` is an absolute half-width, as a fraction; `p` the share expected, 0.5 being the worst.

    >>> sample_size(math.inf), sample_size(1000)
    (1537, 607)
    """
    if not population >= 1:
        raise FormatError(f"population must be at least 1, got {population}; it counts live bits")
    if not 0 < error_margin < 1 or not 0 < p < 1:
        raise FormatError(f"error_margin and p must be between 0 and 1, got {error_margin} and {p}; 0.025 is 2.5%")
    unlimited = _quantile(confidence) ** 2 * p * (1 - p) / error_margin**2
    if math.isinf(population):
        return math.ceil(unlimited)
    return min(int(population), math.ceil(population / (1 + (population - 1) / unlimited)))


def _quantile(confidence: float) -> float:
    """The two-sided normal quantile: 1.96 for 0.95."""
    if not 0 < confidence < 1:
        raise FormatError(f"confidence must be above 0 and below 1, got {confidence}; 0.95 is 95 %")
    return NormalDist().inv_cdf((1 + confidence) / 2)
