# SPDX-License-Identifier: Apache-2.0
"""When a campaign has seen enough: a rule that is written into its plan before the first trial."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy.typing as npt

from bitward.errors import ConfigError, nearest
from bitward.records import read_record, to_plain
from bitward.statistics.confidence_sequence import ConfidenceSequence
from bitward.statistics.fixed import exact, finite
from bitward.statistics.interval import Interval, alpha_of, as_counts
from bitward.statistics.methods import sequence
from bitward.statistics.screening import ScreenedSequence, Screening, screened_share

Method = Literal["beta-binomial", "betting", "empirical-bernstein", "fixed"]


@dataclass(frozen=True)
class Stopping:
    """Stop when the interval of the mean of `metric` over faults is `margin` (absolute half-width) to either side.

    `metric` names the value, 0 to 1, that each trial gives. Methods: "beta-binomial" for values 0 and 1 and "betting"
    or "empirical-bernstein" for any may stop at any trial; "fixed" ignores the margin and stops at `most`, with the
    exact interval of a share (for a mean after a fixed number of trials, give "betting" `least` = `most`). No method
    stops before `least` trials; all stop at `most` (None: no limit).

    >>> rule = Stopping("top1_change_rate", margin=0.01, method="betting", least=100)
    >>> Stopping.from_dict(rule.to_dict()) == rule
    True
    """

    metric: str
    margin: float
    confidence: float = 0.95
    method: Method = "betting"
    least: int = 1
    most: int | None = None

    def __post_init__(self) -> None:
        alpha_of(self.confidence)
        if self.method not in get_args(Method):
            raise ConfigError(
                f"method must be a known one, got {self.method!r}; {nearest(self.method, get_args(Method))}"
            )
        if not 0 < self.margin < 0.5:
            raise ConfigError(
                f"margin must be above 0 and below 0.5, got {self.margin}; 0.01 is one point to each side"
            )
        if self.least < 1 or (self.most is not None and self.most < self.least):
            raise ConfigError(
                f"least and most trials must be 1 <= least <= most, got {self.least} and {self.most}; most may be None"
            )
        if self.method == "fixed" and self.most is None:
            raise ConfigError("most must be given for the method 'fixed', got None; see bitward.metrics.sample_size")

    def to_dict(self) -> dict[str, Any]:
        """The rule as JSON values."""
        return dict(to_plain(self))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str = "stopping") -> Stopping:
        """The rule that `to_dict` wrote; ConfigError names what is wrong in another."""
        return read_record(cls, dict(data), where, ConfigError)

    def sequence(self, population: int | None = None) -> ConfidenceSequence:
        """A sequence that a campaign feeds chunk by chunk, with the same answers as `interval`; not for "fixed"."""
        return sequence(self.method, self.confidence, population)

    def screened_sequence(self, audit: float, population: int | None = None) -> ScreenedSequence:
        """As `sequence`, for a campaign whose screen leaves trials out and audits the share `audit` of those."""
        return ScreenedSequence(self.method, audit, self.confidence, population)

    def interval(
        self, values: npt.ArrayLike, population: int | None = None, screening: Screening | None = None
    ) -> Interval:
        """Where the mean over all faults is, by the values of the finished prefix of trial ids, in their order.

        `population` is how many faults there are when they are drawn without replacement, else None. `screening` says
        which of the trials a screen left out and which of those were run all the same. The interval of "fixed" holds
        for a prefix whose length was fixed beforehand, so before `most` it is for show alone.
        """
        if self.method == "fixed":
            return self._fixed(values, population, screening)
        if screening is not None:
            screened = self.screened_sequence(screening.audit, population)
            screened.update(values, screening.screened, screening.audited)
            return screened.interval()
        plain = self.sequence(population)
        plain.update(values)
        return plain.interval()

    def _fixed(self, values: npt.ArrayLike, population: int | None, screening: Screening | None) -> Interval:
        if screening is not None:
            return screened_share(values, screening, self.confidence)
        hits = as_counts(values)
        if not len(hits):
            return Interval(0.0, 1.0, math.nan, 0)
        if population is None:
            return exact(int(hits.sum()), len(hits), self.confidence)
        return finite(int(hits.sum()), len(hits), population, self.confidence)

    def is_met(self, values: npt.ArrayLike, population: int | None = None, screening: Screening | None = None) -> bool:
        """Whether the finished prefix of trials is enough."""
        return self.is_met_by(self.interval(values, population, screening), population)

    def is_met_by(self, interval: Interval, population: int | None = None) -> bool:
        """Whether the trials that gave this interval are enough: the same answer as `is_met`, without computing it."""
        if interval.trials >= min(self.most or math.inf, population or math.inf):
            return True
        return self.method != "fixed" and interval.trials >= self.least and interval.half_width <= self.margin

    def next_look(self, trials: int) -> int:
        """The number of trials at which to ask again: 2 % more, so that asking costs little beside the trials.

        It depends on nothing but the number: campaigns stop at the same trial however their chunks come in.
        """
        ahead = max(self.least, trials + 1, math.ceil(trials * 1.02))
        return ahead if self.most is None else max(trials + 1, min(ahead, self.most))
