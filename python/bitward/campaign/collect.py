# SPDX-License-Identifier: Apache-2.0
"""What comes in from targets goes to the store, is counted, and is shown."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta

from bitward.campaign.plan import Campaign
from bitward.campaign.prefix import Prefix, Tally
from bitward.campaign.session import Event, Ready, Restored, SetAside, Trials
from bitward.campaign.store import TrialStore
from bitward.campaign.trial import Trial
from bitward.errors import BoardError
from bitward.statistics import Interval, Stopping

log = logging.getLogger(__name__)

Report = Callable[[int, int, str], None]
QUICK_TRIALS, NOTE_S = 5000, 1.0
SET_ASIDE, RUN_ONCE_MORE, LOADED_ANEW = "set aside", "run once more", "loaded anew"  # what a log says of boards
SHOWN = Stopping("top1_changed", margin=0.025, method="fixed", most=2**63)
"""Whose interval is shown, and is the result, where the plan has no rule: a fixed number of trials."""


class Collector:
    """Stores trials in parts, and knows when the campaign's rule is met (`is_enough`).

    With a rule, trials wait until all before them are there, and those behind the last one it needs are not stored: the
    table is the same whoever was quicker.
    """

    def __init__(
        self, campaign: Campaign, store: TrialStore, report: Report | None, part_trials: int, part_s: float
    ) -> None:
        self._campaign, self._store, self._report = campaign, store, report or (lambda done, total, note: None)
        self._part_trials, self._part_s = part_trials, part_s
        rule = campaign.stopping
        self._audit = None if campaign.screen is None else campaign.screen.audit
        self.prefix = None if rule is None else Prefix(rule, campaign.model.trials, self._audit)
        self.unrestored: list[str] = []
        self.repaired: list[str] = []
        self.boards: Counter[str] = Counter()  # trials that each did
        self.names: dict[str, str] = {}  # what each calls itself
        self.retried = 0
        self._golden: set[str] = set()
        self._pending: list[Trial] = []
        self._written = self._began = time.monotonic()
        self._tally = Tally(SHOWN.metric)
        self._flips, self._are_single = 0, True
        self._text, self._noted = "", -math.inf
        stored = store.trials()
        self._count(self.prefix.take(stored) if self.prefix else stored)
        self.done = self._first = len(stored)
        self.failed = sum(trial.status != "done" for trial in stored)
        self._show()

    @property
    def is_enough(self) -> bool:
        """Whether the rule needs no more trials."""
        return self.prefix is not None and self.prefix.is_met

    @property
    def golden_sha256(self) -> str:
        """Of the outputs without faults."""
        return next(iter(self._golden))

    def take(self, event: Event) -> None:
        """The event is accounted for; BoardError when two targets differ without faults."""
        if isinstance(event, Ready):
            self._golden.add(event.golden_sha256)
            self.repaired += event.repaired
            if event.board is not None:
                self.names[event.board] = event.name or "a board"
            if len(self._golden) > 1:
                raise BoardError("the workers' targets must agree without faults, got two outputs: use one worker")
        elif isinstance(event, Trials):
            self._take_trials(event.trials)
        elif isinstance(event, Restored):
            self.unrestored += event.unrestored
        elif isinstance(event, SetAside):
            log.warning("the board %s is set aside: %s", event.board, event.why)
            self._store.note({"event": SET_ASIDE, "board": event.board, "why": event.why})

    def set_aside(self) -> tuple[str, ...]:
        """Every board that was set aside, and why, since the campaign began."""
        return tuple(f"{each['board']}: {each['why']}" for each in self._store.log() if each["event"] == SET_ASIDE)

    def flush(self) -> None:
        """What came in is in the store; where this is cut off, the same part can be written once more."""
        self._store.append(self._pending)
        self._pending, self._written = [], time.monotonic()

    def _take_trials(self, trials: Sequence[Trial]) -> None:
        for trial in trials:
            of = {"trial": trial.trial, "board": trial.board}
            if trial.first_failure is not None:
                self._store.note({"event": RUN_ONCE_MORE, **of, "why": trial.first_failure, "then": trial.status})
            if trial.aftermath is not None:
                self._store.note({"event": LOADED_ANEW, **of, "why": trial.aftermath})
        fresh = list(trials) if self.prefix is None else self.prefix.take(trials)
        self._pending += fresh
        self.done += len(fresh)
        self.failed += sum(trial.status != "done" for trial in fresh)
        self._count(fresh)
        self._show()
        if len(self._pending) >= self._part_trials or time.monotonic() - self._written >= self._part_s:
            self.flush()

    def _count(self, trials: Iterable[Trial]) -> None:
        for trial in trials:
            self._tally.add(trial)
            self._flips += trial.flips
            self.retried += trial.first_failure is not None and trial.status == "done"
            if trial.board is not None:
                self.boards[trial.board] += 1
            self._are_single &= trial.flips == 1

    def interval(self) -> Interval | None:
        """Of the rule, or else of so many trials as were planned; None where these are no random sample."""
        if self.prefix is not None:
            return self.prefix.latest()
        if not self._campaign.model.is_sample or not len(self._tally):
            return None
        return self._tally.interval(SHOWN, self._campaign.model.trials, self._audit)

    def _show(self) -> None:
        now = time.monotonic()
        if self.done < QUICK_TRIALS or now - self._noted >= NOTE_S:  # else the line would cost more than the trials
            self._text, self._noted = self._note(), now
        self._report(self.done, self._campaign.planned, self._text)

    def _note(self) -> str:
        """Flips a trial where they are several, the metric with its interval, how long the rule will probably take."""
        if self._are_single:
            return self._found()
        return f"{self._flips / len(self._tally):,.3g} flips a trial, {self._found()}"

    def _found(self) -> str:
        rule = self._campaign.stopping
        if self.prefix is None or rule is None:
            if not len(self._tally):
                return ""
            return _text(SHOWN.metric, self._tally.interval(SHOWN, None, self._audit))
        found = self.prefix.interval
        if not found.trials:
            return ""
        text = _text(rule.metric, found)
        return text if rule.method == "fixed" else f"{text} {self._to_margin(found.trials, found.half_width)}"

    def _to_margin(self, trials: int, half_width: float) -> str:
        """Intervals shrink about as one over the square root of the trials."""
        rule = self._campaign.stopping
        fresh, elapsed = self.done - self._first, time.monotonic() - self._began
        if rule is None or not fresh or half_width <= rule.margin:
            return ""
        needed = min(trials * (half_width / rule.margin) ** 2, self._campaign.planned)
        left = timedelta(seconds=math.ceil(max(0.0, needed - self.done) * elapsed / fresh))
        return f"{left} to ±{_percent(rule.margin)}"


def _text(metric: str, found: Interval) -> str:
    return f"{metric} {_percent(found.estimate)} [{_percent(found.low)}, {_percent(found.high)}]"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
