# SPDX-License-Identifier: Apache-2.0
"""Folders that one process at a time works in: a run's, a campaign's. Whoever only looks can see that it is at work."""

from __future__ import annotations

import fcntl
import time
from pathlib import Path
from typing import IO

from bitward.tools import writing_to

FILE = "lock"  # of the folder; its content says nothing
LOOKED_S = 0.2  # longer than anybody who looks holds it
AGAIN_S = 0.02


def hold(folder: Path) -> IO[str] | None:
    """The folder is this process's until the file is closed or the process dies, in whatever way; None: another's.

    OutputError where the folder cannot be written.
    """
    with writing_to(folder):
        lock = open(folder / FILE, "w")
    ends = time.monotonic() + LOOKED_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() > ends:
                lock.close()
                return None
            time.sleep(AGAIN_S)
        else:
            return lock


def is_held(folder: Path) -> bool:
    """Whether a process is at work in the folder."""
    try:
        with open(folder / FILE) as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
