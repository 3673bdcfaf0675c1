# SPDX-License-Identifier: Apache-2.0
"""Where a signal's handler may raise: not in the midst of code that holds locks, which would then be held for ever.

Python calls a handler between any two bytecodes. An exception raised there while the main thread is inside gRPC or
`threading` can leave a condition locked: every later call of that channel then waits without end. A library in C++ that
calls Python while it is loaded may abort the process on one.
"""

from __future__ import annotations

import threading
from importlib.machinery import ExtensionFileLoader
from types import FrameType

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
