# SPDX-License-Identifier: Apache-2.0
"""Where a signal's handler may raise: not in the midst of code that holds locks, nor while something is being started.

Python calls a handler between any two bytecodes. An exception raised there while the main thread is inside gRPC or
`threading` can leave a condition locked: every later call of that channel then waits without end. A library in C++ that
calls Python while it is loaded may abort the process on one.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ExtensionFileLoader
from types import FrameType
from typing import Any

TELLING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # what tells a process to end
AGAIN_S = 0.01  # after which a handler that might not raise is called again
PATIENCE_S = 2.0  # for so long; then it raises wherever it is
_LOCKING = frozenset({"concurrent", "grpc", "logging", "threading"})  # packages that hold locks
_LOADING = (ExtensionFileLoader.create_module.__code__, ExtensionFileLoader.exec_module.__code__)
_JOINS = getattr(threading.Thread, "_wait_for_tstate_lock", threading.Thread.join)  # until Python 3.12
_WAITING = (threading.Condition.wait.__code__, _JOINS.__code__)  # where they wait, they hold none


def may_raise(frame: FrameType | None) -> bool:
    """Whether an exception raised in this frame of the main thread leaves all locks released, and reaches Python.

    In a destructor it may not be raised either: nobody would hear of it.
    """
    if frame is not None and frame.f_code in _WAITING:
        return True
    while frame is not None:
        package = str(frame.f_globals.get("__name__")).partition(".")[0]
        if package in _LOCKING or frame.f_code in _LOADING or frame.f_code.co_name == "__del__":
            return False
        frame = frame.f_back
    return True


@contextmanager
def whole() -> Iterator[None]:
    """What is started inside is started whole: a signal that comes meanwhile is heard afterwards, in the main thread.

    What is started never hears ctrl-C, which goes to the whole group: we end it in order.
    """
    from multiprocessing import resource_tracker  # a tenth of what `bitward --help` takes

    resource_tracker.ensure_running()  # it unblocks signals when it starts
    come: list[int] = []
    handlers: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():  # a mask does not keep Python's handlers from being run
        heard = [number for number in TELLING if signal.getsignal(number) != signal.SIG_IGN]
        handlers = {number: signal.signal(number, lambda which, _: come.append(which)) for number in heard}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if come:
            signal.raise_signal(come[0])
