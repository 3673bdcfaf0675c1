# SPDX-License-Identifier: Apache-2.0
"""How a command is told to end: ctrl-C, SIGTERM, or the terminal that is closed."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

FIRST = (signal.SIG_DFL, signal.default_int_handler)  # what nobody has changed


class Ending:
    """Inside, each of the three raises KeyboardInterrupt in the main thread: what was begun is ended in order.

    `told` stays true where a library swallowed the exception or made another one of it. A signal that is ignored
    (nohup, a shell's background) stays ignored. Outside the main thread, nothing is changed.
    """

    NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self._number: int | None = None
        self._before: dict[int, Any] = {}

    @property
    def told(self) -> bool:
        """Whether a signal has come."""
        return self._number is not None

    @property
    def exit_code(self) -> int:
        """As shells have it: 130 for ctrl-C, 143 for SIGTERM."""
        return 128 + (self._number or signal.SIGINT)

    def _come(self, number: int, _: FrameType | None) -> None:
        self._number = self._number or number
        raise KeyboardInterrupt

    def __enter__(self) -> Ending:
        if threading.current_thread() is threading.main_thread():
            for number in self.NUMBERS:
                if signal.getsignal(number) in FIRST:
                    self._before[number] = signal.signal(number, self._come)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
