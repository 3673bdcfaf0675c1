# SPDX-License-Identifier: Apache-2.0
"""The progress of long work on a terminal: steps done, steps a second, time to go."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def showing(console: Console, title: str, noun: str = "trials") -> Iterator[Callable[[int, int], None]]:
    """Yields `progress(done, total)`, shown as a bar that vanishes when done; nothing is shown where nobody watches.

    The rate, in `noun` a second, counts what this run did: a resumed campaign's earlier trials are left out.
    """
    if not console.is_terminal:
        yield lambda done, total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bars:
        task = bars.add_task(title, total=None, rate="")
        began: list[tuple[int, float]] = []

        def progress(done: int, total: int) -> None:
            now = time.monotonic()
            began.append((done, now)) if not began else None
            first, start = began[0]
            rate = f"{(done - first) / (now - start):.1f} {noun}/s" if done > first and now > start else ""
            bars.update(task, completed=done, total=total, rate=rate)

        yield progress
