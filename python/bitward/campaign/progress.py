# SPDX-License-Identifier: Apache-2.0
"""The progress of long work on a terminal: steps done, steps a second, what was found so far, time to go."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Showing(Protocol):
    """Called as work goes on: steps done, steps there are, and a few words about what was found."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """The line shows this now."""


@contextmanager
def showing(console: Console, title: str, noun: str = "trials") -> Iterator[Showing]:
    """Yields `progress(done, total, note)`: a bar that vanishes when done; nothing is shown where nobody watches.

    The rate, in `noun` a second, counts what this run did: a resumed campaign's earlier trials are left out.
    """
    if not console.is_terminal:
        yield lambda done, total, note="": None
        return
    columns = [TextColumn(f"{{task.{field}}}") for field in ("description", "fields[rate]", "fields[note]")]
    bars = Progress(columns[0], BarColumn(), MofNCompleteColumn(), *columns[1:], TimeRemainingColumn(),
                    console=console, transient=True)  # fmt: skip
    with bars:
        task = bars.add_task(title, total=None, rate="", note="")
        began: list[tuple[int, float]] = []

        def progress(done: int, total: int, note: str = "") -> None:
            now = time.monotonic()
            began.append((done, now)) if not began else None
            first, start = began[0]
            rate = f"{(done - first) / (now - start):.1f} {noun}/s" if done > first and now > start else ""
            bars.update(task, completed=done, total=total, rate=rate, note=note)

        yield progress
