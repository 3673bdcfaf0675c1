# SPDX-License-Identifier: Apache-2.0
"""The finished trials without a gap from trial 0 on: all that a stopping rule may look at.

Trials that change nothing can be quicker than others. A rule that looked at whatever is finished would see too many of
them; the prefix of trial numbers does not depend on time, nor on how many workers there are.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from bitward.campaign.metrics import value
from bitward.campaign.trial import SCREENED, Trial
from bitward.statistics import Interval, Screening, Stopping


class Tally:
    """The values of trials, in the order they are added, and which the screen named and which of those were run."""

    def __init__(self, metric: str) -> None:
        self._metric = metric
        self._values: list[float] = []
        self._screened: list[bool] = []
        self._audited: list[bool] = []

    def __len__(self) -> int:
        return len(self._values)

    def add(self, trial: Trial) -> None:
        """One more trial; one that was left out has no value, and none is read of it."""
        found = value(self._metric, trial)
        self._values.append(0.0 if found is None else found)
        self._screened.append(trial.screened)
        self._audited.append(trial.screened and trial.path != SCREENED)

    def values(self, start: int = 0) -> list[float]:
        """The values from trial `start` on; 0 where there is none."""
        return self._values[start:]

    def flags(self, start: int = 0) -> tuple[list[bool], list[bool]]:
        """(screened, audited) from trial `start` on."""
        return self._screened[start:], self._audited[start:]

    def interval(self, rule: Stopping, population: int | None, audit: float | None) -> Interval:
        """The rule's interval of all of them; what an `audit` share of the screened ones says is in it."""
        if audit is None:
            return rule.interval(self._values, population)
        screened, audited = (np.array(flags, dtype=np.bool_) for flags in self.flags())
        return rule.interval(self._values, population, Screening(screened, audited, audit))


class Prefix:
    """Takes trials in any order; gives them on in order, up to the one at which the rule is met.

    `population` is how many different trials there are, None without end; `audit` the screen's share, None without
    one. The rule is asked at numbers of trials that depend on nothing but the rule (`Stopping.next_look`).
    """

    def __init__(self, rule: Stopping, population: int | None, audit: float | None = None) -> None:
        self._rule, self._population, self._audit = rule, population, audit
        self._plain = None if rule.method == "fixed" or audit is not None else rule.sequence(population)
        self._screened = None if rule.method == "fixed" or audit is None else rule.screened_sequence(audit, population)
        self._held: dict[int, Trial] = {}
        self._tally = Tally(rule.metric)
        self._fed = 0
        self._look = rule.next_look(0)
        self.interval = Interval(0.0, 1.0, float("nan"), 0)
        self.is_met = False

    @property
    def trials(self) -> int:
        """How many trials have been given on."""
        return len(self._tally)

    def take(self, trials: Iterable[Trial]) -> list[Trial]:
        """Those that the prefix grew by, in order; none that lie behind the trial at which the rule is met."""
        self._held.update((trial.trial, trial) for trial in trials)
        grown: list[Trial] = []
        while not self.is_met and self.trials in self._held:
            trial = self._held.pop(self.trials)
            self._tally.add(trial)
            grown.append(trial)
            if self.trials >= self._look:
                self.is_met = self._rule.is_met_by(self.latest(), self._population)
                self._look = self._rule.next_look(self.trials)
        return grown

    def latest(self) -> Interval:
        """The interval of all trials given on: to be shown. Whoever looks does not change where the rule is met."""
        if self.trials > self.interval.trials:
            self._update()
        return self.interval

    def _update(self) -> None:
        values, start = self._tally.values(self._fed), self._fed
        self._fed = self.trials
        if self._plain is not None:
            self._plain.update(values)
            self.interval = self._plain.interval()
        elif self._screened is not None:
            self._screened.update(values, *self._tally.flags(start))
            self.interval = self._screened.interval()
        else:
            self.interval = self._tally.interval(self._rule, self._population, self._audit)
