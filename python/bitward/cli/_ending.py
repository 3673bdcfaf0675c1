# SPDX-License-Identifier: Apache-2.0
"""How a command is told to end: ctrl-C, SIGTERM, or the terminal that is closed."""

from __future__ import annotations

import _thread
import signal
import sys
import threading
import time
from types import FrameType, TracebackType
from typing import Any

from bitward.signals import AGAIN_S, PATIENCE_S, may_raise

FIRST = (signal.SIG_DFL, signal.default_int_handler)  # what nobody has changed


class Ending:
    """Inside, each of the three raises KeyboardInterrupt in the main thread: what was begun is ended in order.

    It is raised where no lock is left held by it, and again where nobody heard it, as in a destructor. `told` stays
    true where a library swallowed the exception or made another one of it. A signal that is ignored (nohup, a shell's
    background) stays ignored. Outside the main thread, nothing is changed.
    """

    NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self._number: int | None = None
        self._at_latest = 0.0
        self._before: dict[int, Any] = {}
        self._unraisable = sys.unraisablehook

    @property
    def told(self) -> bool:
        """Whether a signal has come."""
        return self._number is not None

    @property
    def exit_code(self) -> int:
        """As shells have it: 130 for ctrl-C, 143 for SIGTERM."""
        return 128 + (self._number or signal.SIGINT)

    def _come(self, number: int, frame: FrameType | None) -> None:
        if self._number is None:
            self._number, self._at_latest = number, time.monotonic() + PATIENCE_S
        if may_raise(frame) or time.monotonic() > self._at_latest:
            raise KeyboardInterrupt
        self._come_again(number)

    def _come_again(self, number: int) -> None:
        """Soon, by a bare thread: to start one of `threading` takes locks that the main thread may hold."""

        def send() -> None:
            time.sleep(AGAIN_S)
            if self._before:
                signal.pthread_kill(threading.main_thread().ident or 0, number)

        _thread.start_new_thread(send, ())

    def _ignored(self, unraisable: Any) -> None:
        if self._number is not None and issubclass(unraisable.exc_type, KeyboardInterrupt):
            self._come_again(self._number)
        else:
            self._unraisable(unraisable)

    def __enter__(self) -> Ending:
        if threading.current_thread() is threading.main_thread():
            for number in self.NUMBERS:
                if signal.getsignal(number) in FIRST:
                    self._before[number] = signal.signal(number, self._come)
            self._unraisable, sys.unraisablehook = sys.unraisablehook, self._ignored
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        before, self._before = self._before, {}
        for number, handler in before.items():
            signal.signal(number, handler)
        if sys.unraisablehook == self._ignored:
            sys.unraisablehook = self._unraisable
