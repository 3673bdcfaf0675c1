# SPDX-License-Identifier: Apache-2.0
"""The engine as a target: the software prediction of the hardware."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from bitward.engine import HardwareEngine
from bitward.errors import ConfigError
from bitward.faults import Trial
from bitward.manifest import Manifest
from bitward.targets import Outcome, Target


class EngineTarget(Target):
    """The design in a build directory, executed by `bitward.engine`."""

    chunk_trials: ClassVar[int] = 256  # that the engine sorts by the node they hit

    def __init__(self, build_dir: str | Path) -> None:
        self._build_dir = Path(build_dir)
        self._engine: HardwareEngine | None = None

    def open(self) -> None:
        self._engine = HardwareEngine.load(self._build_dir)

    def close(self) -> None:
        self._engine = None

    @property
    def manifest(self) -> Manifest:
        return self.engine.manifest

    def read(self, memory: str, word: int) -> int:
        return self.engine.read(memory, word)

    def write(self, memory: str, word: int, value: int) -> None:
        self.engine.write(memory, word, value)

    def golden(self, memory: str, word: int) -> int:
        return self.engine.golden(memory, word)

    def infer(self, images: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int64]:
        return self.engine.infer(images)

    def outcomes(self, images: npt.NDArray[Any], trials: Sequence[Trial]) -> Iterator[Outcome]:
        for outputs, path, seconds in self.engine.outcomes(images, trials):
            yield Outcome(outputs, path, seconds)

    @property
    def engine(self) -> HardwareEngine:
        """The engine; ConfigError before `open`."""
        if self._engine is None:
            raise ConfigError(f"the engine of {self._build_dir} must be open, got a closed one; call open() first")
        return self._engine
