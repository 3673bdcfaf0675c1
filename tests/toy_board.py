# SPDX-License-Identifier: Apache-2.0
"""The toy network as several boards, each with its own way to fail."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from toy_target import FAULTS, ToyTarget

from bitward.errors import BoardError, LostBoardError, ManifestError
from bitward.targets import Outcome
from bitward.targets.deadline import DeadlineError, deadline

NUMBERS = {fault: number for number, fault in enumerate(FAULTS)}


class ToyBoard(ToyTarget):
    """A board of this name. After `after` trials it `breaks`; every trial takes `delay_s` a time.

    `breaks`: "lost"; "killed", its process; "wrong", it is not right any more after a trial that fails; "closed", it
    does not open; "bug", an error that is no board's; "unread", it cannot be read back. `retries` are the trials that
    fail at the first attempt, `due` those that fail at the second too, `slow` those whose attempts take forever. None
    opens before there are as many in the folder `meet` as its name says.
    """

    limits_attempts = True
    is_wrong = False  # of the process

    def __init__(
        self, name: str, breaks: str = "", after: int = 0, delay_s: float = 0.0, retries: tuple[int, ...] = (),
        due: tuple[int, ...] = (), slow: tuple[int, ...] = (), meet: Path | None = None,
    ) -> None:  # fmt: skip
        super().__init__(delay_s)
        self.called, self.breaks, self.after, self.meet = name, breaks, after, meet
        self.special = {**dict.fromkeys(retries, "retried"), **dict.fromkeys(due, "due"), **dict.fromkeys(slow, "slow")}
        self.done = 0
        self.broken = "differs" if ToyBoard.is_wrong else ""

    @property
    def address(self) -> str:
        return self.called

    def open(self) -> None:
        if self.breaks == "closed":
            raise BoardError(f"the board at {self.called} must answer, got no connection; is its server running?")
        if self.meet is not None and not self.done:
            (self.meet / self.called).touch()
            while len(list(self.meet.iterdir())) < int(self.meet.name):
                time.sleep(0.01)
        super().open()

    def outcomes(self, images: np.ndarray, trials: Sequence) -> Iterator[Outcome]:
        for faults in trials:
            if self.done >= self.after:
                self._break()
            how = self.special.get(NUMBERS.get(faults[0], -1), "")
            self.first_failure = None
            if how == "slow":
                self._twice_too_slow()
            elif how:
                self.first_failure = "the board must answer, got nothing: switch it on"
            if how == "due":
                raise BoardError("the accelerator must end, got no end: load it again")
            (outcome,) = super().outcomes(images, [faults])
            self.done += 1
            yield outcome

    def differing(self, golden: dict) -> Iterator:
        if self.breaks == "unread" and self.done:
            raise BoardError("the board must answer, got nothing: switch it on")
        return super().differing(golden)

    def _break(self) -> None:
        if self.breaks == "lost":
            raise LostBoardError("the board must be golden again within 60 s, got: nothing")
        if self.breaks == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.breaks == "wrong":
            ToyBoard.is_wrong, self.broken = True, "differs"
            raise BoardError("the accelerator must end, got no end: load it again")
        if self.breaks == "bug":
            raise ManifestError("word must be 0 to 3, got 4; see the manifest")

    def _twice_too_slow(self) -> None:
        for _ in range(2):
            try:
                with deadline(self.limit_s):
                    time.sleep(60)
            except DeadlineError as error:
                if self.first_failure is not None:
                    raise
                self.first_failure = str(error)


def boards(**kinds: dict) -> dict[str, partial[ToyBoard]]:
    """Factories by name: `boards(a={}, b={"breaks": "lost"})`."""
    return {name: partial(ToyBoard, name, **options) for name, options in kinds.items()}


def together(folder: Path, **kinds: dict) -> dict[str, partial[ToyBoard]]:
    """The same, none of which begins before all that can are there."""
    meet = folder / str(sum(options.get("breaks") != "closed" for options in kinds.values()))
    meet.mkdir(parents=True, exist_ok=True)
    return boards(**{name: {"delay_s": 0.004, "meet": meet, **options} for name, options in kinds.items()})
