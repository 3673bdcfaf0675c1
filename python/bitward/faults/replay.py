# SPDX-License-Identifier: Apache-2.0
"""Faults that somebody wrote down: a list, a file, or the trials of a campaign that was."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from bitward.errors import FormatError, reason_of
from bitward.faults.fault import Fault
from bitward.faults.faults import fault_text, parse_trial
from bitward.faults.model import FaultModel, Trial


class Replay(FaultModel):
    """Trial i is entry i of a list: one fault, or several at once. Its order is somebody's, so no sample."""

    name: ClassVar[str] = "replay"
    is_sample: ClassVar[bool] = False

    def __init__(self, trials: Iterable[Fault | Sequence[Fault]]) -> None:
        self.list: tuple[Trial, ...] = tuple((t,) if isinstance(t, Fault) else tuple(t) for t in trials)

    @classmethod
    def read(cls, path: Path) -> Replay:
        """The trials in a text file: one a line, its faults separated by spaces; lines that begin with # are comments.

        FormatError names the line that is none; a file without trials, or that cannot be read, is refused.
        """
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise FormatError(
                f"{path} must be a text file of faults, got {reason_of(error)}: write one trial a line"
            ) from error
        trials: list[Trial] = []
        for number, line in enumerate(lines, start=1):
            if line.strip() and not line.startswith("#"):
                try:
                    trials.append(parse_trial(line))
                except FormatError as error:
                    raise FormatError(f"{path}, line {number}: {error}") from error
        if not trials:
            raise FormatError(f"{path} must have a trial a line, got none: write faults such as conv1:3:17")
        return cls(trials)

    @cached_property
    def sha256(self) -> str:
        """Of the list, as `fault_text` writes each trial, a line each."""
        return hashlib.sha256("\n".join(map(fault_text, self.list)).encode()).hexdigest()

    @property
    def trials(self) -> int:
        return len(self.list)

    def trial(self, number: int) -> Trial:
        self._check(number)
        return self.list[number]

    def to_dict(self) -> dict[str, Any]:
        return {"model": self.name, "trials": self.trials, "sha256": self.sha256}
