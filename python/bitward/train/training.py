# SPDX-License-Identifier: Apache-2.0
"""Training by seed: a float network first where the recipe says so, then quantization-aware, on one CPU thread.

One thread is the fastest at small sizes, and makes sums independent of the machine's core count.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import Progress
from torch import nn

from bitward.datasets import Dataset, load_dataset
from bitward.errors import ConfigError
from bitward.networks import Network, find_network
from bitward.train import _checkpoints
from bitward.train._foldable import keep_negatable, keep_positive, normed_layers
from bitward.train._loop import Loop
from bitward.train.recipe import RECIPES, Recipe, TrainingRun, TrainResult

PREDICTED_AT_ONCE = 500  # images
FLOAT_WEIGHT_DECAY, MOMENTUM = 5e-4, 0.9


def train_seeds(
    name: str,
    *,
    seeds: tuple[int, ...] | None,
    recipe: Recipe | None,
    cache: Path | None,
    data: Path | None,
    progress: Progress | None,
) -> TrainingRun:
    """Every seed of the network is trained (or found in `cache`) and tested; seeds in the order given."""
    network = find_network(name)
    seeds = tuple(range(network.seeds)) if seeds is None else seeds
    recipe = recipe or RECIPES[network.recipe]
    if not seeds or len(set(seeds)) != len(seeds):
        raise ConfigError(f"seeds must be at least one and all different, got {list(seeds)}; the first one is exported")
    dataset = load_dataset(network.dataset, data)
    epochs = recipe.float_epochs + recipe.epochs
    task = progress.add_task(f"train {name}", total=len(seeds) * epochs) if progress else None
    results = []
    for seed in seeds:
        print_ = _checkpoints.fingerprint(network, dataset, recipe, seed)
        result = _checkpoints.find(cache, name, seed, print_)
        if result is None:
            result = _Seed(network, dataset, recipe, seed, cache, _Ticks(progress, task)).train(print_)
            _checkpoints.keep(cache, result)
        elif progress and task is not None:
            progress.advance(task, epochs)
        results.append(result)
    return TrainingRun(name, dataset.name, recipe, tuple(results))


class _Ticks:
    """One step of a progress bar per call; nothing when there is no bar."""

    def __init__(self, progress: Progress | None, task: int | None) -> None:
        self._progress, self._task = progress, task

    def __call__(self) -> None:
        if self._progress and self._task is not None:
            self._progress.advance(self._task)  # type: ignore[arg-type]


class _Seed:
    """One seed of a network: how it gets its weights."""

    def __init__(
        self, network: Network, dataset: Dataset, recipe: Recipe, seed: int, cache: Path | None, tick: _Ticks
    ) -> None:
        self.network, self.dataset, self.recipe, self.seed = network, dataset, recipe, seed
        self.cache, self.tick = cache, tick

    def train(self, print_: str) -> TrainResult:
        """The network, quantization-aware, from scratch or from its float network's weights; tested."""
        with _one_thread(), torch.random.fork_rng(devices=[]):
            started = self._floats() if self.recipe.float_epochs else None
            torch.manual_seed(self.seed)
            model = self.network.build()
            if started is not None:
                model.load_state_dict(started.state, strict=False)  # the quantizers' scales start anew
                model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            loop = self._loop(model, self._adam, self.recipe.learning_rate, self.recipe.epochs, bfloat16=False)
            result = self._run(loop, self.network.name, print_)
        if started is None:
            return result
        return replace(result, float_accuracy=started.accuracy, train_s=result.train_s + started.train_s)

    def _floats(self) -> TrainResult:
        """The float network of the family, trained or found in the cache."""
        build, name = _float_builder(self.network, self.recipe), f"{self.network.family}-float"
        print_ = _checkpoints.float_fingerprint(self.network, self.dataset, self.recipe, self.seed)
        if (result := _checkpoints.find(self.cache, name, self.seed, print_)) is not None:
            for _ in range(self.recipe.float_epochs):
                self.tick()
            return result
        torch.manual_seed(self.seed)
        model = build().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        make = partial(_float_optimizer, recipe=self.recipe)
        rate, epochs = self.recipe.float_learning_rate, self.recipe.float_epochs
        loop = self._loop(model, make, rate, epochs, self.recipe.bfloat16)
        result = self._run(loop, name, print_)
        _checkpoints.keep(self.cache, result)
        return result

    def _adam(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(model.parameters(), lr=self.recipe.learning_rate)

    def _loop(
        self,
        model: nn.Module,
        make_optimizer: Callable[[nn.Module], torch.optim.Optimizer],
        peak: float,
        epochs: int,
        bfloat16: bool,
    ) -> Loop:
        pairs = list(normed_layers(model))
        if self.network.gammas == "positive":
            after_step = partial(keep_positive, pairs)
        else:
            after_step = partial(keep_negatable, pairs, self.network.weight_bits)
        return Loop(
            model, self.dataset, make_optimizer, peak, epochs, self.recipe.batch_size, self.seed, self.recipe.augment,
            bfloat16, after_step,
        )  # fmt: skip

    def _run(self, loop: Loop, name: str, print_: str) -> TrainResult:
        start = time.perf_counter()
        memo = _checkpoints.Unfinished(self.cache, name, self.seed, print_) if self.cache else None
        loop.run(self.tick, memo)
        found = accuracy(loop.model, self.dataset.test_images, self.dataset.test_labels)
        state = {key: tensor.detach().clone().contiguous() for key, tensor in loop.model.state_dict().items()}
        if memo:
            memo.remove()
        return TrainResult(name, self.seed, found, time.perf_counter() - start, print_, cached=False, state=state)


def _float_builder(network: Network, recipe: Recipe) -> Callable[[], nn.Module]:
    if network.build_float is None:
        raise ConfigError(
            f"Recipe.float_epochs must be 0 for {network.name}, which has no float network, got {recipe.float_epochs}; "
            "leave it out"
        )
    return network.build_float


def _float_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    rate = recipe.float_learning_rate
    if recipe.float_optimizer == "adam":
        return torch.optim.Adam(model.parameters(), lr=rate)
    return torch.optim.SGD(
        model.parameters(), lr=rate, momentum=MOMENTUM, nesterov=True, weight_decay=FLOAT_WEIGHT_DECAY
    )


def restore(result: TrainResult) -> nn.Module:
    """The trained network, in evaluation mode."""
    model = find_network(result.network).build()
    model.load_state_dict(result.state)
    return model.eval()


def predict(model: nn.Module, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The network's outputs, one row (or map) per image, in evaluation mode."""
    model.eval()
    with torch.no_grad():
        outputs = [model(part) for part in torch.from_numpy(images).split(PREDICTED_AT_ONCE)]
    array: npt.NDArray[np.float32] = torch.cat(outputs).numpy()
    return array


def accuracy(model: nn.Module, images: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> float:
    """The share of images (of pixels, where these are labelled) whose largest output is the label's, 0 to 1."""
    return float(np.mean(predict(model, images).argmax(axis=1) == labels))


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
