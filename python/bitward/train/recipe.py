# SPDX-License-Identifier: Apache-2.0
"""What training is told and what it gives back; no torch here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from bitward.errors import ConfigError


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: Adam with a one-cycle learning rate over a fixed number of epochs.

    Fixed in advance and equal for every network and seed: nothing is chosen by looking at validation or test images,
    and the last epoch's weights are the result.
    """

    epochs: int = 60
    batch_size: int = 64
    learning_rate: float = 0.01

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(
                    f"Recipe.{name} must be a whole number of at least 1, got {value!r}; leave it out for the default"
                )
        if not self.learning_rate > 0:
            raise ConfigError(
                f"Recipe.learning_rate must be above 0, got {self.learning_rate!r}; leave it out for the default"
            )


@dataclass(frozen=True)
class TrainResult:
    """One seed, trained: `accuracy` over the test images, 0 to 1; `state` is torch's state_dict of the network."""

    network: str
    seed: int
    accuracy: float
    train_s: float
    fingerprint: str
    cached: bool
    state: dict[str, Any] = field(repr=False, compare=False)


@dataclass(frozen=True)
class TrainingRun:
    """All seeds of one network. The exported one is the first seed by rule, whatever its accuracy."""

    network: str
    dataset: str
    recipe: Recipe
    results: tuple[TrainResult, ...]

    @property
    def exported(self) -> TrainResult:
        """The seed that is exported: the first."""
        return self.results[0]

    @property
    def mean_accuracy(self) -> float:
        """Mean test accuracy over the seeds, 0 to 1."""
        return sum(result.accuracy for result in self.results) / len(self.results)

    @property
    def train_s(self) -> float:
        """Seconds of training, summed over the seeds; cached ones count with what they once took."""
        return sum(result.train_s for result in self.results)
