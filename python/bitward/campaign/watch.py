# SPDX-License-Identifier: Apache-2.0
"""Trials that overstay: which worker must be ended, what is said of its trial, and what its successor is to do.

A worker ends a trial by itself when its time is up (`deadline`), unless a call into C keeps it from hearing the alarm.
Then the parent ends the process. The trial has timed out, and stays in the denominator; another process goes on.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from bitward.campaign.judge import Judge, Planned
from bitward.campaign.plan import Campaign
from bitward.campaign.session import Began, Event, Trials

GRACE_S = 2.0  # what a worker may take to say itself that a trial's time was up


@dataclass(frozen=True)
class Missing:
    """The numbers of trials that are not stored yet, every `step`-th from `first` on. Small, whatever the plan."""

    planned: int
    stored: frozenset[int]
    first: int = 0
    step: int = 1

    def __iter__(self) -> Iterator[int]:
        return (number for number in range(self.first, self.planned, self.step) if number not in self.stored)

    def __len__(self) -> int:
        return self.planned - len(self.stored)

    def share(self, worker: int, workers: int) -> Missing:
        """What one of several workers does."""
        return Missing(self.planned, self.stored, worker, workers)

    def without(self, numbers: set[int]) -> Missing:
        """What is left when these are done."""
        return replace(self, stored=self.stored | numbers)


class Watch:
    """Of each worker: which trial it is at and since when, and what it has done of its share."""

    def __init__(self, campaign: Campaign, shares: list[Missing], limit_s: float) -> None:
        self._campaign, self._shares, self._limit_s = campaign, shares, limit_s
        self._at: dict[int, tuple[Began, float]] = {}
        self._done: list[set[int]] = [set() for _ in shares]

    def heard(self, worker: int, event: Event) -> None:
        """The worker lives: a trial began, or something came of the last one."""
        if isinstance(event, Began):
            self._at[worker] = (event, time.monotonic())
            return
        numbers = {trial.trial for trial in event.trials} if isinstance(event, Trials) else set()
        self._done[worker] |= numbers
        if worker in self._at and (not isinstance(event, Trials) or self._at[worker][0].number in numbers):
            del self._at[worker]

    def left_s(self, worker: int) -> float | None:
        """Seconds that the worker's present trial may still take; None where it is at none."""
        if worker not in self._at:
            return None
        return self._at[worker][1] + self._limit_s + GRACE_S - time.monotonic()

    def gave_up(self, worker: int) -> tuple[Trials, Missing]:
        """The row of the trial that the worker was ended at, and what another one is to do."""
        began, since = self._at.pop(worker)
        planned = Planned(began.number, self._campaign.model.trial(began.number), began.screened)
        seconds = time.monotonic() - since
        error = f"the trial took longer than {self._limit_s:g} s and did not hear the alarm: its process was ended"
        row = Judge(self._campaign, self._campaign.images).failed(planned, "timed-out", error, seconds)
        self._done[worker].add(began.number)
        return Trials((row,)), self._shares[worker].without(self._done[worker])
