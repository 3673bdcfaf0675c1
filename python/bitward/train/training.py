# SPDX-License-Identifier: Apache-2.0
"""Training by seed: a float network first where the recipe says so, then quantization-aware, on one CPU thread.

One thread is the fastest at small sizes, and makes sums independent of the machine's core count.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from rich.progress import Progress
from torch import nn

from bitward.datasets import Dataset, load_dataset
from bitward.errors import ConfigError
from bitward.networks import Network, find_network
from bitward.train import _checkpoints
from bitward.train._foldable import keep_negatable, keep_positive, normed_layers
from bitward.train._loop import Loop
from bitward.train._pixels import by_labels, by_labels_print, finish_by_labels, tested
from bitward.train._stage import Ticks, float_loop, one_thread, pixels
from bitward.train.recipe import RECIPES, Recipe, TrainingRun, TrainResult, check_seeds


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
    seeds = check_seeds(tuple(range(network.seeds)) if seeds is None else seeds)
    recipe = recipe or RECIPES[network.recipe]
    _check_method(network, recipe)
    dataset = load_dataset(network.dataset, data)
    epochs = recipe.float_epochs + (recipe.epochs if recipe.method == "qat" else 1)
    tick = Ticks(progress, progress.add_task(f"train {name}", total=len(seeds) * epochs) if progress else None)
    results = []
    for seed in seeds:
        print_ = by_labels_print(_checkpoints.fingerprint(network, dataset, recipe, seed), dataset)
        result = _checkpoints.find(cache, name, seed, print_)
        if result is None:
            result = _Seed(network, dataset, recipe, seed, cache, tick).train(print_)
            _checkpoints.keep(cache, result)
        else:
            tick(epochs)
        results.append(result)
    return TrainingRun(name, dataset.name, recipe, tuple(results))


class _Seed:
    """One seed of a network: how it gets its weights."""

    def __init__(
        self, network: Network, dataset: Dataset, recipe: Recipe, seed: int, cache: Path | None, tick: Ticks
    ) -> None:
        self.network, self.dataset, self.recipe, self.seed = network, dataset, recipe, seed
        self.cache, self.tick = cache, tick

    def train(self, print_: str) -> TrainResult:
        """The network, quantization-aware, from scratch or from its float network's weights; tested."""
        with one_thread(), torch.random.fork_rng(devices=[]):
            started = self._floats() if self.recipe.float_epochs else None
            if started is not None and self.recipe.method == "ptq":
                return self._quantized(started, print_)
            torch.manual_seed(self.seed)
            model = self.network.build()
            if started is not None:
                model.load_state_dict(started.state, strict=False)  # the quantizers' scales start anew
                model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            result = finish_by_labels(self._loop(model), self.network.name, print_, self.cache, self.tick)
        if started is None:
            return result
        return replace(result, float_accuracy=started.accuracy, train_s=result.train_s + started.train_s)

    def _quantized(self, started: TrainResult, print_: str) -> TrainResult:
        """The network, quantized from those floats without retraining; tested."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Brevitas tells of libraries that nothing here needs
            from bitward.train import _ptq
        start = time.perf_counter()
        floats = _float_builder(self.network, self.recipe)()
        floats.load_state_dict(started.state)
        model = self.network.build()
        steps = _ptq.quantize(floats, model, self.dataset, self.seed)
        found, scores = tested(model, self.dataset)
        self.tick()
        train_s = started.train_s + time.perf_counter() - start
        state = {key: tensor.detach().clone() for key, tensor in model.state_dict().items()}
        return TrainResult(
            self.network.name, self.seed, found, train_s, print_, cached=False, state=state,
            float_accuracy=started.accuracy, steps=steps, scores=scores,
        )  # fmt: skip

    def _floats(self) -> TrainResult:
        """The float network of the family, trained or found in the cache."""
        build, name = _float_builder(self.network, self.recipe), f"{self.network.family}-float"
        print_ = by_labels_print(
            _checkpoints.float_fingerprint(self.network, self.dataset, self.recipe, self.seed), self.dataset
        )
        if (result := _checkpoints.find(self.cache, name, self.seed, print_)) is not None:
            self.tick(self.recipe.float_epochs)
            return result
        loop = float_loop(build, self.dataset, self.recipe, self.seed, after_step=self._after_step)
        result = finish_by_labels(by_labels(loop, self.recipe), name, print_, self.cache, self.tick)
        _checkpoints.keep(self.cache, result)
        return result

    def _adam(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(model.parameters(), lr=self.recipe.learning_rate)

    def _after_step(self, model: nn.Module) -> Callable[[], None]:
        pairs = list(normed_layers(model))
        if self.network.gammas == "positive":
            return partial(keep_positive, pairs)
        return partial(keep_negatable, pairs, self.network.weight_bits)

    def _loop(self, model: nn.Module) -> Loop:
        recipe = self.recipe
        loop = Loop(
            model, self.dataset, self._adam, recipe.learning_rate, recipe.epochs, recipe.batch_size, self.seed,
            recipe.augment, bfloat16=False, after_step=self._after_step(model), prepare=pixels,
        )  # fmt: skip
        return by_labels(loop, recipe)


def _check_method(network: Network, recipe: Recipe) -> None:
    if recipe.method == "float":
        raise ConfigError(
            f"Recipe.method must be 'qat' or 'ptq' for {network.name}, which is quantized, got 'float': leave it out"
        )
    if recipe.method == "ptq" and (network.build_float is None or not recipe.float_epochs):
        floats = "none" if network.build_float is None else f"one, trained for {recipe.float_epochs} epochs"
        raise ConfigError(
            f"{network.name} must have a trained float network to be quantized from, got {floats}: train it with "
            "quantization in mind, or choose one of a family with a recipe with float_epochs"
        )


def _float_builder(network: Network, recipe: Recipe) -> Callable[[], nn.Module]:
    if network.build_float is None:
        raise ConfigError(
            f"Recipe.float_epochs must be 0 for {network.name}, which has no float network, got {recipe.float_epochs}; "
            "leave it out"
        )
    return network.build_float


def restore(result: TrainResult) -> nn.Module:
    """The trained network, in evaluation mode."""
    model = find_network(result.network).build()
    model.load_state_dict(result.state)
    return model.eval()
