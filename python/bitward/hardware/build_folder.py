# SPDX-License-Identifier: Apache-2.0
"""A build's folder: written by one at a time, and there as a whole or as it was before."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bitward.errors import ConfigError, ToolError
from bitward.tools import output_directory, writing_to


@contextmanager
def sole_builder(out: Path) -> Iterator[None]:
    """No other build writes `out` meanwhile. Raises ConfigError at once where one does."""
    output_directory(out.parent)
    path = out.with_name(f".{out.name}.lock")
    with writing_to(path):
        lock = open(path, "a")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_ours = os.path.samestat(os.fstat(lock.fileno()), os.stat(path))
        except (BlockingIOError, FileNotFoundError):
            is_ours = False
        if not is_ours:  # held, or given back and removed just now
            raise ConfigError(
                f"out must be a folder that one build writes at a time, got {out}, where another one is at work: wait "
                "for it to end, or name another folder."
            )
        try:
            yield
        finally:
            path.unlink(missing_ok=True)  # while it is held: nobody can hold a lock that others do not see


@contextmanager
def replaced(out: Path) -> Iterator[Path]:
    """Yields an empty folder beside `out` that takes its place if the body succeeds and is removed if it fails.

    Where a tool failed it stays until the next build, as the error names a log in it.
    """
    work, old = out.with_name(f".{out.name}.partial"), out.with_name(f".{out.name}.old")
    _put_back(old, out)
    if out.exists() and not (out / "manifest.json").is_file() and any(out.iterdir()):
        raise ConfigError(f"out must be a new folder or an earlier build, got {out}, which holds other files.")
    shutil.rmtree(work, ignore_errors=True)
    output_directory(work)
    try:
        yield work
        shutil.rmtree(old, ignore_errors=True)
        if out.exists():
            out.rename(old)
        work.rename(out)
        shutil.rmtree(old, ignore_errors=True)
    except ToolError:
        raise
    except BaseException:
        _put_back(old, out)
        shutil.rmtree(work, ignore_errors=True)
        raise


def _put_back(old: Path, out: Path) -> None:
    """The earlier build is in its place again, where it was cut off that another one takes it."""
    if old.exists() and not out.exists():
        old.rename(out)
