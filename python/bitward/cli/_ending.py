# SPDX-License-Identifier: Apache-2.0
"""How a command is told to end: ctrl-C, SIGTERM, or the terminal that is closed."""

from __future__ import annotations

import _thread
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from bitward.signals import AGAIN_S, PATIENCE_S, TELLING, may_raise

FIRST = (signal.SIG_DFL, signal.default_int_handler)  # what nobody has changed


class Interrupted(KeyboardInterrupt):
    """Raised by a signal; calls `gone` when nobody has it any more, as where a bare `except:` swallowed it.

    Python's own, where it passes through `exec` of a text, makes `python -m` end as by ctrl-C, whatever the exit code.
    """

    def __init__(self, gone: Callable[[], None]) -> None:
        super().__init__()
        self._gone = gone

    def __del__(self) -> None:
        self._gone()


class Ending:
    """Inside, each of the three raises KeyboardInterrupt in the main thread: what was begun is ended in order.

    It is raised where no lock is left held by it, and again where it was swallowed, as in a destructor or by a library
    that is being imported, until `heard`. `told` stays true where another exception was made of it. A signal that is
    ignored (nohup, a shell's background) stays ignored. Outside the main thread, nothing is changed.
    """

    def __init__(self) -> None:
        self._number: int | None = None
        self._is_heard = False
        self._at_latest: float | None = None
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

    def heard(self) -> None:
        """The command has come to its end: no signal raises anything any more."""
        self._is_heard = True

    def _come(self, number: int, frame: FrameType | None) -> None:
        if self._is_heard:
            return
        self._number = self._number or number
        self._at_latest = self._at_latest or time.monotonic() + PATIENCE_S
        if may_raise(frame) or time.monotonic() > self._at_latest:
            self._at_latest = None
            raise Interrupted(self._come_again)
        self._come_again()

    def _come_again(self) -> None:
        """Soon, by a bare thread: to start one of `threading` takes locks that the main thread may hold."""

        def send() -> None:
            time.sleep(AGAIN_S)
            if self._before and not self._is_heard:
                signal.pthread_kill(threading.main_thread().ident or 0, self._number or signal.SIGINT)

        if self._before and not self._is_heard:
            _thread.start_new_thread(send, ())

    def _ignored(self, unraisable: Any) -> None:
        if not issubclass(unraisable.exc_type, Interrupted):  # which comes again by itself
            self._unraisable(unraisable)

    def __enter__(self) -> Ending:
        if threading.current_thread() is threading.main_thread():
            for number in TELLING:
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
