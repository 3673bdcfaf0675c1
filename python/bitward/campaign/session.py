# SPDX-License-Identifier: Apache-2.0
"""One target and the trials it does, from opening to read-back."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from bitward.campaign.judge import Judge, Planned
from bitward.campaign.plan import Campaign, digest
from bitward.campaign.trial import Status, Trial
from bitward.errors import BitwardError, BoardError, LostBoardError, ToolError
from bitward.targets import Outcome, Target
from bitward.targets.deadline import DeadlineError, deadline
from bitward.words import beat_of

Item = TypeVar("Item")
TargetFactory = Callable[[], Target]
SEND_TRIALS = 64  # trials that a worker sends at a time, at most
FLIPS_AT_ONCE = 100_000  # faults of the trials that a target is given at a time, about 20 MB
SEND_S = 0.5  # how often a worker speaks to its parent
BY_FAULT = (BitwardError, ArithmeticError, RuntimeError, TimeoutError, DeadlineError)
"""Errors that a fault may have caused, so a trial's verdict. Others (wrong types, missing names) are bugs."""


@dataclass(frozen=True)
class Ready:
    """A target is open, golden, and computes `golden_sha256` without faults. Of a board: which one, and what it is."""

    golden_sha256: str
    repaired: tuple[str, ...]
    board: str | None = None
    name: str | None = None


@dataclass(frozen=True)
class Began:
    """A trial that has a time limit is beginning; `screened` as in `Trial`. Whoever watches may end the process."""

    number: int
    screened: bool


@dataclass(frozen=True)
class Trials:
    """Trials that a target has done."""

    trials: tuple[Trial, ...]


@dataclass(frozen=True)
class Restored:
    """A target has done all its trials; `unrestored` rows differ from the golden image."""

    unrestored: tuple[str, ...]


@dataclass(frozen=True)
class SetAside:
    """A board is not used any more; `why` is a sentence. What it left is the others' to do, where there are some."""

    board: str
    why: str


Event = Ready | Began | Trials | Restored | SetAside
Events = Generator[Event, None, None]


class Session:
    """An open target that is golden and right without faults; BoardError where it is not.

    A trial that fails is a row of its own. Only when the target, opened anew, is wrong without faults, does it end.
    """

    def __init__(self, campaign: Campaign, factory: TargetFactory) -> None:
        self._campaign = campaign
        self._factory = factory
        self._target, self.ready, golden = self._open()
        self._judge = Judge(campaign, golden, self._target.address)

    @property
    def board(self) -> str:
        """Which board it is, or that it is none."""
        return self._target.address or self._campaign.target

    def close(self) -> None:
        """The target is closed."""
        self._target.close()

    def trials(self, numbers: Iterable[int], stopped: Callable[[], bool] = lambda: False) -> Iterator[Began | Trial]:
        """The rows of these trials, as they are done; fewer when `stopped()` says so, which is asked after each.

        With a time limit, each that is run is announced.
        """
        for planned in self._chunks(numbers):
            audited = self._campaign.screen.is_audited if self._campaign.screen else lambda number: True
            is_run = [not each.screened or audited(each.number) for each in planned]
            yield from (self._judge.left_out(each) for each, runs in zip(planned, is_run, strict=True) if not runs)
            for event in self._run([each for each, runs in zip(planned, is_run, strict=True) if runs]):
                yield event
                if isinstance(event, Trial) and stopped():
                    return

    def unrestored(self) -> tuple[str, ...]:
        """Rows that differ from the golden image."""
        return _names(self._target.differing(self._campaign.golden))

    def _chunks(self, numbers: Iterable[int]) -> Iterator[list[Planned]]:
        """The trials that the target is given at a time: fewer where each has so many faults that memory matters.

        With a time limit they go one by one: the limit is a trial's, and a target may compute many at once.
        """
        chunk: list[Planned] = []
        flips, most = 0, self._target.chunk_trials if self._campaign.timeout_s is None else 1
        for number in numbers:
            chunk.append(Planned(number, self._campaign.model.trial(number)))
            flips += len(chunk[-1].faults)
            if len(chunk) >= most or flips >= FLIPS_AT_ONCE:
                yield self._screened(chunk)
                chunk, flips = [], 0
        if chunk:
            yield self._screened(chunk)

    def _screened(self, chunk: list[Planned]) -> list[Planned]:
        """The trials with the word of the screen, if the plan has one."""
        if self._campaign.screen is None:
            return chunk
        named = self._target.screened(self._campaign.images, [each.faults for each in chunk])
        return [replace(each, screened=bool(is_named)) for each, is_named in zip(chunk, named, strict=True)]

    def _run(self, chunk: Sequence[Planned]) -> Iterator[Began | Trial]:
        left = deque(chunk)
        while left:
            outcomes = self._target.outcomes(self._campaign.images, [each.faults for each in left])
            while left:
                if self._campaign.timeout_s is not None:
                    yield Began(left[0].number, left[0].screened)
                started = time.perf_counter()
                found = self._next(outcomes)
                planned, again = left.popleft(), self._target.first_failure
                if isinstance(found, Outcome):
                    yield self._judge.done(planned, found, again, self._target.aftermath)
                    continue
                status: Status = "timed-out" if isinstance(found, (TimeoutError, DeadlineError)) else "failed"
                seconds = time.perf_counter() - started
                yield self._judge.failed(planned, status, str(found) or status, seconds, again)
                self._recover()
                break

    def _next(self, outcomes: Iterator[Outcome]) -> Outcome | Exception:
        """What the next trial gives, or what it raises; ToolError where the target has left it out."""
        try:
            with deadline(None if self._target.limits_attempts else self._campaign.timeout_s):
                outcome = next(outcomes, None)
        except LostBoardError:
            raise  # no trial's outcome: the campaign ends here, and goes on with another board
        except BY_FAULT as error:
            return error
        if outcome is None:
            raise ToolError(
                f"target {self._campaign.target} must give an outcome for every trial, got too few: mend its outcomes()"
            )
        return outcome

    def _recover(self) -> None:
        """After a failed trial the target is golden and right again, opened anew if need be; BoardError if not."""
        try:
            with deadline(self._campaign.timeout_s):
                if not _repair(self._target, self._campaign) and self._is_right():
                    return
        except BY_FAULT:
            pass  # it does not even answer: opening it anew is the next thing to try
        self._target.close()
        self._target, _, golden = self._open()
        if not np.array_equal(golden, self._judge.golden, equal_nan=True):
            raise BoardError(
                f"target {self._campaign.target} must compute after a failed trial what it did before, got other "
                "outputs without faults: start again to go on"
            )

    def _is_right(self) -> bool:
        return np.array_equal(self._target.infer(self._campaign.images), self._judge.golden, equal_nan=True)

    def _open(self) -> tuple[Target, Ready, npt.NDArray[Any]]:
        """The target, what it says of itself, and its outputs without faults; closed again where it is wrong."""
        target = self._factory()
        target.limit_s = self._campaign.timeout_s
        try:
            target.open()
            repaired = _repair(target, self._campaign)
            golden = np.asarray(target.infer(self._campaign.images))
            _check_expected(self._campaign, golden)
            name = target.name
        except BaseException:
            target.close()
            raise
        return target, Ready(digest(golden), repaired, target.address, name), golden


def attend(
    campaign: Campaign, factory: TargetFactory, numbers: Iterable[int], stopped: Callable[[], bool] = lambda: False
) -> Events:
    """One target from opening to read-back: Ready, then Trials, then Restored, or SetAside and LostBoardError.

    With a time limit, Began before each trial; those that failed are given at once, before the target is mended.
    """
    with closing(Session(campaign, factory)) as session:
        yield session.ready
        try:
            yield from in_batches(session.trials(numbers, stopped))
        except LostBoardError as error:
            yield SetAside(session.board, str(error))
            raise
        yield Restored(session.unrestored())


def in_batches(events: Iterable[Began | Trial]) -> Iterator[Began | Trials]:
    """Trials as one event for several, those that failed at once; what was done before an error comes before it."""
    pending: list[Trial] = []
    sent = time.monotonic()
    try:
        for event in events:
            if isinstance(event, Began):
                yield event
                continue
            pending.append(event)
            if event.status != "done" or len(pending) >= SEND_TRIALS or time.monotonic() - sent >= SEND_S:
                yield Trials(tuple(pending))
                pending, sent = [], time.monotonic()
    except BitwardError:
        yield Trials(tuple(pending))
        raise
    yield Trials(tuple(pending))


def chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """The items in lists of `size`, the last one shorter.

    >>> list(chunks(range(5), 2))
    [[0, 1], [2, 3], [4]]
    """
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk


def _check_expected(campaign: Campaign, golden: npt.NDArray[Any]) -> None:
    if campaign.expected is None or np.array_equal(golden, campaign.expected, equal_nan=True):
        return
    wrong = "another shape"
    if golden.shape == campaign.expected.shape:
        axes = tuple(range(1, golden.ndim))
        wrong = f"{int((golden != campaign.expected).any(axis=axes).sum())} other images of {len(golden)}"
    raise BoardError(
        f"target {campaign.target} must compute the expected outputs without faults, got {wrong}: build the "
        "design again, and compare with bitward infer"
    )


def _repair(target: Target, campaign: Campaign) -> tuple[str, ...]:
    """The memories are golden; returns the rows that were not, as a killed run leaves them on a board that stays on."""
    rows = list(target.differing(campaign.golden))
    for memory, word in rows:
        target.write(memory, word, beat_of(campaign.golden[memory][word]))
    return _names(rows)


def _names(rows: Iterable[tuple[str, int]]) -> tuple[str, ...]:
    return tuple(f"{memory}:{word}" for memory, word in rows)
