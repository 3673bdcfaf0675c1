# SPDX-License-Identifier: Apache-2.0
"""What software-only flows of all kinds share: their stages by name, the time these take, where a network runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from rich.console import Console

from bitward.errors import ConfigError, nearest_of_these

Result = TypeVar("Result")


def check_stage(kind: str, where: str, name: str | None, known: tuple[str, ...]) -> None:
    """A stage of that kind of flow, or none, was asked for by the option `where`; ConfigError otherwise."""
    if name is not None and name not in known:
        raise ConfigError(
            f"--{where} must be one of {', '.join(known)} in a {kind} flow, got {name!r}; "
            f"{nearest_of_these(name, known)}"
        )


def timed(console: Console, name: str, work: Callable[[], Result]) -> Result:
    """What the work gives; the console says how long it took."""
    started = time.monotonic()
    found = work()
    console.print(f"{name:<10} {time.monotonic() - started:6.1f} s")
    return found


def device_of(wanted: str) -> str:
    """Where a network runs: for "auto" cuda where torch has it."""
    import torch

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return wanted
