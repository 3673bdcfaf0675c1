# SPDX-License-Identifier: Apache-2.0
"""The torch engine as a target: a network whose parameters are memories, software-only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bitward.errors import ConfigError
from bitward.faults import Trial
from bitward.manifest import Manifest
from bitward.targets import Outcome, Target

if TYPE_CHECKING:
    from torch import nn

    from bitward.engine.pytorch import Choose, TorchEngine


class TorchTarget(Target):
    """A torch network, its parameters stored as `choose` says; float images in, float scores out.

    `make` gives the network, the same each time: workers make their own, so it must be picklable, as must `choose`.
    """

    chunk_trials = 512  # that the engine sorts by the step they hit, and sends through the network together

    def __init__(
        self, make: Callable[[], nn.Module], choose: Choose | None = None, design: str = "network", device: str = "cpu"
    ) -> None:
        self._make, self._choose, self._design, self._device = make, choose, design, device
        self._engine: TorchEngine | None = None

    @property
    def engine(self) -> TorchEngine:
        """The engine; ConfigError before `open`."""
        if self._engine is None:
            raise ConfigError("a target must be opened before it is used, got one that is closed: use `with`")
        return self._engine

    @property
    def manifest(self) -> Manifest:
        return self.engine.manifest

    def open(self) -> None:
        from bitward.engine.pytorch import TorchEngine, as_float32

        if self._engine is None:
            self._engine = TorchEngine(self._make(), self._choose or as_float32, self._design, self._device)

    def close(self) -> None:
        self._engine = None

    def read(self, memory: str, word: int) -> int:
        return self.engine.stored(memory).read(word)

    def write(self, memory: str, word: int, value: int) -> None:
        self.engine.stored(memory).write(word, value)

    def golden(self, memory: str, word: int) -> int:
        return self.engine.stored(memory).golden(word)

    def infer(self, images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        return self.engine.infer(images)

    def outcomes(self, images: npt.NDArray[Any], trials: Sequence[Trial]) -> Iterator[Outcome]:
        for outputs, path, seconds in self.engine.outcomes(images, trials):
            yield Outcome(outputs, path, seconds)

    def screened(self, images: npt.NDArray[Any], trials: Sequence[Trial]) -> npt.NDArray[np.bool_]:
        return self.engine.screened(images, trials)

    def differing(self, golden: Mapping[str, npt.NDArray[np.uint32]]) -> Iterator[tuple[str, int]]:
        for name, image in self.engine.images().items():
            for word in np.flatnonzero((image != golden[name]).any(axis=1)).tolist():
                yield name, word
