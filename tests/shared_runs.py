# SPDX-License-Identifier: Apache-2.0
"""The runs that all tests share: made once, kept in a folder that git ignores, made again where code changed."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SHARED_RUNS = ROOT / "build" / "tests" / "runs"


@dataclass(frozen=True)
class SharedRun:
    """A flow that `bitward run` has run to its end. Read only: copy what a test changes."""

    flow: Path
    folder: Path

    @property
    def summary(self) -> dict[str, Any]:
        """Its summary.json."""
        return json.loads((self.folder / "summary.json").read_text())

    def build(self, side: str) -> Path:
        """The build directory of the plain or the hardened side."""
        return self.folder / "build" / side

    def campaign(self, name: str) -> Path:
        """The trials of a campaign."""
        return self.folder / "campaigns" / name


@contextmanager
def turn(name: str) -> Iterator[None]:
    """Sessions and xdist's workers take turns with a run: within, no other uses it."""
    SHARED_RUNS.mkdir(parents=True, exist_ok=True)
    with open(SHARED_RUNS / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def shared_run(name: str) -> SharedRun:
    """The flow has run under SHARED_RUNS, once for all."""
    flow = ROOT / "flows" / f"{name}.yaml"
    with turn(name):
        command = [sys.executable, "-m", "bitward", "run", str(flow), "--runs", str(SHARED_RUNS)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return SharedRun(flow, SHARED_RUNS / name)
