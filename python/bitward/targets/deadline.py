# SPDX-License-Identifier: Apache-2.0
"""A time limit for what runs in this process's main thread."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from bitward.signals import AGAIN_S, PATIENCE_S, may_raise


class DeadlineError(Exception):
    """The time is up. Caught by whoever set the limit; no user sees it."""


@contextmanager
def deadline(seconds: float | None) -> Iterator[None]:
    """Inside, DeadlineError is raised when `seconds` have passed; None sets no limit.

    A call into C is not cut short: the error comes when it returns. Where it does not, `bitward.campaign.watch` ends
    the process. Only the main thread can set a limit.
    """
    if seconds is None:
        yield
        return

    at_latest = time.monotonic() + seconds + PATIENCE_S

    def expire(number: int, frame: FrameType | None) -> None:
        if not may_raise(frame) and time.monotonic() < at_latest:
            signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
            return
        raise DeadlineError(f"the trial must end within {seconds:g} s, got no end: give it a longer time limit")

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
