# SPDX-License-Identifier: Apache-2.0
"""Stages that ran are not run again: each is keyed by the content of its settings, its inputs and its source code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

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


def stage_key(settings: Mapping[str, Any], inputs: Iterable[Path], sources: Iterable[str]) -> str:
    """The content hash of a stage: what it was told, what it reads, and the code (paths in the repository) it runs."""
    code = digest_files(resource(source) for source in sources)
    text = json.dumps({"settings": settings, "inputs": digest_files(inputs), "code": code}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


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

    @property
    def wall_s(self) -> dict[str, float]:
        """Seconds each stage took when it ran."""
        return {stage: known["wall_s"] for stage, known in self._stages.items()}

    @property
    def results(self) -> dict[str, dict[str, Any]]:
        """What each stage found."""
        return {stage: known["result"] for stage, known in self._stages.items()}

    def _save(self) -> None:
        atomic_write(self._path, json.dumps(self._stages, indent=1) + "\n")
