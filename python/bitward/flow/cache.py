# SPDX-License-Identifier: Apache-2.0
"""Stages that ran are not run again: each is keyed by the content of its settings, its inputs and its source code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import bitward
from bitward.errors import ConfigError
from bitward.hardware.build import versions
from bitward.locks import hold
from bitward.tools import atomic_write, resource

RECORD = "stages.json"


def digest_files(paths: Iterable[Path]) -> str:
    """sha256 over names and contents; folders count with all files in them."""
    digest = hashlib.sha256()
    for path in paths:
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file() and p.suffix != ".pyc")
        for file in files:
            digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


# What computes results: everything but what only shows them. One set for all stages: a finer one misses something.
_SHOWS_ONLY = ("cli", "report", "doctor.py", "__main__.py")


@cache
def code_digest() -> str:
    """sha256 over the code that results depend on, and the versions of the packages below it."""
    package = Path(bitward.__file__).parent
    parts = sorted(path for path in package.iterdir() if path.name not in _SHOWS_ONLY and path.name != "__pycache__")
    code = digest_files([*parts, resource("hls"), resource("board")])
    return hashlib.sha256(json.dumps([code, versions()], sort_keys=True).encode()).hexdigest()


def stage_key(settings: Mapping[str, Any], inputs: Iterable[Path]) -> str:
    """The content hash of a stage: what it was told, what it reads, and the code it runs."""
    facts = {"settings": settings, "inputs": digest_files(inputs), "code": code_digest()}
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """This process alone uses the run's folder. Raises ConfigError when another one does."""
    if (lock := hold(folder)) is None:
        raise ConfigError(
            f"the run {folder} must be used by one process at a time, got a second one: wait for it, or end it"
        )
    with lock:
        yield


class StageRecord:
    """What is known of the stages of a run: `stages.json` in its folder."""

    def __init__(self, run: Path) -> None:
        self._path = run / RECORD
        self._stages: dict[str, dict[str, Any]] = {}
        if self._path.is_file():
            try:
                self._stages = json.loads(self._path.read_text())
            except ValueError:
                self._stages = {}  # a damaged record only costs time: every stage runs again

    def result(self, stage: str, key: str) -> dict[str, Any] | None:
        """What the stage found when it last ran with this key; None if it must run."""
        known = self._stages.get(stage)
        return known["result"] if known is not None and known["key"] == key else None

    def keep(self, stage: str, key: str, wall_s: float, result: dict[str, Any]) -> None:
        """The stage has run."""
        self._stages[stage] = {"key": key, "wall_s": round(wall_s, 2), "result": result}
        self._save()

    def forget(self, stages: Iterable[str]) -> None:
        """These stages must run again."""
        for stage in stages:
            self._stages.pop(stage, None)
        self._save()

    def has(self, stage: str) -> bool:
        """Whether anything is known of the stage."""
        return stage in self._stages

    def wall_s(self, stage: str) -> float:
        """Seconds the stage took when it ran."""
        return float(self._stages[stage]["wall_s"])

    def _save(self) -> None:
        atomic_write(self._path, json.dumps(self._stages, indent=1) + "\n")
