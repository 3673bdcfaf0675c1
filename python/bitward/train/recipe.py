# SPDX-License-Identifier: Apache-2.0
"""What training is told and what it gives back; no torch here."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from bitward.errors import ConfigError


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: Adam with a one-cycle learning rate over a fixed number of epochs.

    With `float_epochs` a float network of the same family is trained first (Adam, or SGD with Nesterov momentum and
    weight decay; one cycle up to `float_learning_rate`; with `bfloat16` in torch's autocast to it) and
    quantization-aware training starts from its weights. `augment` flips images sideways and shifts them by up to 4
    pixels, at random. Fixed in advance and equal for every seed: nothing is chosen by looking at validation or test
    images, and the last epoch's weights are the result.
    """

    epochs: int = 60
    batch_size: int = 64
    learning_rate: float = 0.01
    float_epochs: int = 0
    float_optimizer: Literal["adam", "sgd"] = "sgd"
    float_learning_rate: float = 0.1
    bfloat16: bool = False
    augment: bool = False

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 1), ("float_epochs", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigError(
                    f"Recipe.{name} must be a whole number of at least {least}, got {value!r}; leave it out for the "
                    "default"
                )
        for name in ("learning_rate", "float_learning_rate"):
            if not getattr(self, name) > 0:
                raise ConfigError(
                    f"Recipe.{name} must be above 0, got {getattr(self, name)!r}; leave it out for the default"
                )


_CIFAR10 = Recipe(
    epochs=4, batch_size=128, learning_rate=0.002, float_epochs=16, float_learning_rate=0.1, bfloat16=True, augment=True
)
RECIPES = {
    "digits": Recipe(),
    "digit_scenes": Recipe(
        epochs=6, batch_size=32, learning_rate=0.01, float_epochs=8, float_optimizer="adam", float_learning_rate=0.01
    ),
    "cifar10": _CIFAR10,
    "cifar10-short": replace(_CIFAR10, epochs=2),
    "cifar10-depthwise": replace(_CIFAR10, bfloat16=False),  # the CPU's depthwise convolution is slower in bfloat16
}
"""The recipes that networks name."""


@dataclass(frozen=True)
class TrainResult:
    """One seed, trained: `accuracy` over the test images (or their pixels), 0 to 1; `state` is torch's state_dict.

    `float_accuracy` is that of the float network it started from, if it did; `train_s` counts that one's training too.
    """

    network: str
    seed: int
    accuracy: float
    train_s: float
    fingerprint: str
    cached: bool
    state: dict[str, Any] = field(repr=False, compare=False)
    float_accuracy: float | None = None


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
