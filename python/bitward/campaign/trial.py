# SPDX-License-Identifier: Apache-2.0
"""One row of a campaign's table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["done", "failed", "timed-out"]
SCREENED = "screened"  # the path of a trial that was left out


@dataclass(frozen=True)
class Trial:
    """The faults of one trial and what came of them.

    With one fault, `memory` to `parameter_bit` say what it hit: `word` and `bit` are the fault's, the rest is what the
    manifest makes of it (None where the bit is dead; a check bit, shared by the parameters of its row, has no
    parameter: its `copy` is -1, `parameter_bit` its number). With none or several faults all these are None.

    Changes count images; without labels `top1_correct` is None. All verdicts are None where there are none: in a trial
    that failed or timed out (`error` says how), and in one that was screened out (path "screened"). `screened` is true
    for those that the screen named, also when they were audited, that is run all the same.

    On boards a trial that fails is run once more; `first_failure` is what the first attempt ended in. Where the second
    attempt is "done", that was the infrastructure's; where it failed too, it is the trial's outcome, a detected
    unrecoverable error (DUE), which stays in every denominator. `aftermath` is what read-back and canary found wrong
    when the trial was over; the board was loaded anew before the next.
    """

    trial: int
    target: str
    memory: str | None
    layer: str | None
    role: str | None
    word: int | None
    bit: int | None
    parameter: int | None
    replica: int | None
    stored_bit: int | None
    copy: int | None
    parameter_bit: int | None
    images: int
    outputs_changed: int | None
    top1_changed: int | None
    top1_correct: int | None
    outputs_sha256: str | None  # see plan.digest: equal on targets that agree
    flips: int = 1
    faults: tuple[str, ...] | None = None  # None where they are too many to keep: the spec's model draws them again
    faults_sha256: str = ""  # of all of them, as a line of text
    status: Status = "done"
    error: str | None = None
    path: str = "full"  # how the outputs were computed
    screened: bool = False
    seconds: float = 0.0
    board: str | None = None  # which of the boards ran it, host:port
    first_failure: str | None = None
    aftermath: str | None = None
