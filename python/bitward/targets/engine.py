# SPDX-License-Identifier: Apache-2.0
"""The engine as a target: the software prediction of the hardware."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bitward.engine import HardwareEngine
from bitward.errors import ConfigError
from bitward.manifest import Manifest
from bitward.targets import Target


class EngineTarget(Target):
    """The design in a build directory, executed by `bitward.engine`."""

    def __init__(self, build_dir: str | Path) -> None:
        self._build_dir = Path(build_dir)
        self._engine: HardwareEngine | None = None

    def open(self) -> None:
        self._engine = HardwareEngine.load(self._build_dir)

    def close(self) -> None:
        self._engine = None

    @property
    def manifest(self) -> Manifest:
        return self._open.manifest

    def read(self, memory: str, word: int) -> int:
        return self._open.read(memory, word)

    def write(self, memory: str, word: int, value: int) -> None:
        self._open.write(memory, word, value)

    def golden(self, memory: str, word: int) -> int:
        return self._open.golden(memory, word)

    def infer(self, images: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int64]:
        return self._open.infer(images)

    @property
    def _open(self) -> HardwareEngine:
        if self._engine is None:
            raise ConfigError(f"the engine of {self._build_dir} must be open, got a closed one; call open() first")
        return self._engine
