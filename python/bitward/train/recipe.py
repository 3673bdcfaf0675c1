# SPDX-License-Identifier: Apache-2.0
"""What training is told and what it gives back; no torch here."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from bitward.classic import find_classic
from bitward.errors import ConfigError
from bitward.networks import find_network

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: Adam with a one-cycle learning rate over a fixed number of epochs.

    With `float_epochs` a float network of the same family is trained first (Adam, or SGD with Nesterov momentum and
    weight decay; one cycle up to `float_learning_rate`; with `bfloat16` in torch's autocast to it) and
    quantization-aware training starts from its weights. By the method "ptq" that float network is quantized without
    retraining instead, by "float" it is the result as it is. `augment` flips images sideways and shifts them by up to
    4 pixels, at random. With `class_weights`, where pixels are labelled, rare classes weigh more in the loss. Fixed in
    advance and equal for every seed: nothing is chosen by looking at validation or test images, and the last epoch's
    weights are the result.
    """

    epochs: int = 60
    batch_size: int = 64
    learning_rate: float = 0.01
    float_epochs: int = 0
    float_optimizer: Literal["adam", "sgd"] = "sgd"
    float_learning_rate: float = 0.1
    bfloat16: bool = False
    augment: bool = False
    method: Literal["qat", "ptq", "float"] = "qat"
    class_weights: bool = False

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


def check_seeds(seeds: tuple[int, ...]) -> tuple[int, ...]:
    """The seeds, if they are at least one and all different; ConfigError otherwise."""
    if not seeds or len(set(seeds)) != len(seeds):
        raise ConfigError(f"seeds must be at least one and all different, got {list(seeds)}; the first one is exported")
    return seeds


_CIFAR10 = Recipe(
    epochs=4, batch_size=128, learning_rate=0.002, float_epochs=16, float_learning_rate=0.1, bfloat16=True, augment=True
)
_CLASSIC = Recipe(
    batch_size=128, float_epochs=12, float_learning_rate=0.05, bfloat16=True, augment=True, method="float"
)
_PLAIN = replace(_CLASSIC, float_optimizer="adam", float_learning_rate=0.001)  # without batch norm: smaller steps
_HSI_UNET = Recipe(
    batch_size=16, float_epochs=20, float_optimizer="adam", float_learning_rate=0.005, method="float",
    class_weights=True,
)  # fmt: skip
_ROADS = replace(_HSI_UNET, method="qat", epochs=10, learning_rate=0.005)
RECIPES = {
    "digits": Recipe(),
    "digits-ptq": Recipe(float_epochs=60, float_optimizer="adam", float_learning_rate=0.01, method="ptq"),
    "digit_scenes": Recipe(
        epochs=6, batch_size=32, learning_rate=0.01, float_epochs=8, float_optimizer="adam", float_learning_rate=0.01
    ),
    "roads_unet": _ROADS,
    "cifar10": _CIFAR10,
    "cifar10-short": replace(_CIFAR10, epochs=2),
    "cifar10-depthwise": replace(_CIFAR10, bfloat16=False),  # the CPU's depthwise convolution is slower in bfloat16
    "classic": _CLASSIC,
    "classic-full": replace(_CLASSIC, float_epochs=200, float_learning_rate=0.1),
    "classic-plain": _PLAIN,
    "classic-plain-full": replace(_PLAIN, float_epochs=100),
    "hsi_unet": _HSI_UNET,
    "hsi_unet-full": replace(_HSI_UNET, float_epochs=200, float_learning_rate=0.001),
    "hsi_unet-bounded": replace(_HSI_UNET, float_epochs=30, float_learning_rate=0.01),
    "hsi_unet-bounded-full": replace(_HSI_UNET, float_epochs=1000, float_learning_rate=0.001),
}
"""The recipes that networks name.

The classic ones come in two lengths: on a CPU a short one, for networks scaled down by `width`; where torch has a GPU
the full one (NAME-full). The full ones were not run here. Public trainings of the same forms at full width on CIFAR-10
end at 92.4 % (VGG-11-BN), 93.1 % (ResNet-18) and 92.9 % (GoogLeNet) according to github.com/huyvnphan/PyTorch_CIFAR10.
"""


def recipe_of(network: str, ptq: bool) -> Recipe:
    """The recipe that the network names; with `ptq`, its float part, then quantization without retraining."""
    own = RECIPES[find_network(network).recipe]
    return replace(own, method="ptq") if ptq else own


@dataclass(frozen=True)
class TrainResult:
    """One seed, trained: `accuracy` over the test images (or their pixels), 0 to 1; `state` is torch's state_dict.

    `float_accuracy` is that of the float network it started from, if it did; `train_s` counts that one's training too.
    `steps` says what was done to quantize it without retraining. `scores` has more of how good maps of classes are,
    by name, 0 to 1, where pixels are labelled and that was measured.
    """

    network: str
    seed: int
    accuracy: float
    train_s: float
    fingerprint: str
    cached: bool
    state: dict[str, Any] = field(repr=False, compare=False)
    float_accuracy: float | None = None
    steps: tuple[str, ...] = ()
    scores: dict[str, float] | None = None


def _mean_accuracy(results: tuple[TrainResult, ...]) -> float:
    return sum(result.accuracy for result in results) / len(results)


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
        return _mean_accuracy(self.results)

    @property
    def train_s(self) -> float:
        """Seconds of training, summed over the seeds; cached ones count with what they once took."""
        return sum(result.train_s for result in self.results)


@dataclass(frozen=True)
class ClassicRun:
    """All seeds of one classic float network, of that `width`, on that dataset; on CPU tensors wherever it was trained.

    `recipe` is None where the weights came from a file: nothing was trained, and there is one result, of seed 0.
    """

    name: str
    dataset: str
    width: float
    channels: int
    classes: int
    recipe: Recipe | None
    results: tuple[TrainResult, ...]

    @property
    def mean_accuracy(self) -> float:
        """Mean test accuracy over the seeds, 0 to 1."""
        return _mean_accuracy(self.results)

    def result(self, seed: int) -> TrainResult:
        """The result of that seed; ConfigError when it is none of the run's."""
        for result in self.results:
            if result.seed == seed:
                return result
        known = [result.seed for result in self.results]
        raise ConfigError(f"seed must be one of those of the run, {known}, got {seed}: train it too")

    def network(self, seed: int) -> nn.Module:
        """A new network with the weights of that seed, in evaluation mode; it takes `normalised` images."""
        model = find_classic(self.name).build(self.classes, self.channels, self.width)
        model.load_state_dict(self.result(seed).state)
        return model.eval()
