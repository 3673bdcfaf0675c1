# SPDX-License-Identifier: Apache-2.0
"""Training of the classic float networks by seed, at any width, on the CPU or where torch has a GPU."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from rich.progress import Progress
from torch import nn

from bitward.classic import Classic, find_classic, load_weights
from bitward.datasets import Dataset, load_dataset, normalised
from bitward.errors import ConfigError
from bitward.train import _checkpoints
from bitward.train._segmentation import finish_pixels, pixel_loop, pixel_scores
from bitward.train._stage import Ticks, accuracy, finish, float_loop, one_thread
from bitward.train.recipe import RECIPES, ClassicRun, Recipe, TrainResult, check_seeds


def train_classic_seeds(
    name: str,
    dataset: str | Dataset,
    *,
    width: float,
    seeds: tuple[int, ...],
    cache: Path,
    data: Path | None,
    weights: Path | None,
    recipe: Recipe | None,
    device: str,
    progress: Progress | None,
) -> ClassicRun:
    """Every seed is trained (or found in `cache`) and tested; or the one network with the weights in a file is."""
    classic = find_classic(name)
    source = load_dataset(dataset, data) if isinstance(dataset, str) else dataset
    _check(classic, source, width)
    on = _device(device)
    told = _recipe(classic, recipe, on)
    one = _Classic(classic, source, width, cache, on)
    if weights is not None:
        return one.run(None, (one.given(weights),))
    tick = Ticks(
        progress, progress.add_task(f"train {name}", total=len(seeds) * told.float_epochs) if progress else None
    )
    return one.run(told, tuple(one.trained(told, seed, tick) for seed in check_seeds(seeds)))


class _Classic:
    """One classic network on one dataset, at one width."""

    def __init__(self, classic: Classic, dataset: Dataset, width: float, cache: Path, device: str) -> None:
        self.classic, self.dataset, self.width, self.cache, self.device = classic, dataset, width, cache, device
        self.build = partial(classic.build, dataset.classes, dataset.image_shape[0], width)
        self.prepare = partial(normalised, dataset)

    def run(self, recipe: Recipe | None, results: tuple[TrainResult, ...]) -> ClassicRun:
        """The results, together."""
        dataset = self.dataset
        return ClassicRun(
            self.classic.name, dataset.name, self.width, dataset.image_shape[0], dataset.classes, recipe, results
        )

    def trained(self, recipe: Recipe, seed: int, tick: Ticks) -> TrainResult:
        """The seed, trained now or found in the cache."""
        name = self.classic.name
        print_ = _checkpoints.classic_fingerprint(name, self.width, self.dataset, recipe, seed, self.device)
        if (found := _checkpoints.find(self.cache, name, seed, print_)) is not None:
            tick(recipe.float_epochs)
            return found
        with one_thread(), torch.random.fork_rng():
            loop = float_loop(self.build, self.dataset, recipe, seed, prepare=self.prepare, device=self.device)
            if self.dataset.labelled == "pixel":
                result = finish_pixels(pixel_loop(loop, recipe), name, print_, self.cache, tick)
            else:
                result = finish(loop, name, print_, self.cache, tick)
        _checkpoints.keep(self.cache, result)
        return result

    def given(self, weights: Path) -> TrainResult:
        """The network with the weights in that file, its accuracy measured now or found in the cache."""
        model: nn.Module = self.build()
        load_weights(model, weights)
        print_ = _checkpoints.file_fingerprint(self.classic.name, self.width, self.dataset, weights)
        if (found := _checkpoints.find(self.cache, self.classic.name, 0, print_)) is not None:
            return found
        with one_thread():
            model.to(self.device)
            share, scores = self._tested(model)
        state = model.cpu().state_dict()
        result = TrainResult(self.classic.name, 0, share, 0.0, print_, cached=False, state=state, scores=scores)
        _checkpoints.keep(self.cache, result)
        return result

    def _tested(self, model: nn.Module) -> tuple[float, dict[str, float] | None]:
        """The accuracy, and the scores of maps of classes."""
        if self.dataset.labelled == "pixel":
            scores = pixel_scores(model, self.dataset, self.prepare)
            return scores["accuracy"], scores
        return accuracy(model, self.dataset.test_images, self.dataset.test_labels, self.prepare), None


def _check(classic: Classic, dataset: Dataset, width: float) -> None:
    """The dataset has what the network takes, and the width is one."""
    if dataset.labelled != classic.labelled:
        raise ConfigError(
            f"dataset must have one label per {classic.labelled} for {classic.name}, got {dataset.name} with one per "
            f"{dataset.labelled}: choose another dataset"
        )
    if any(side % classic.multiple for side in dataset.image_shape[1:]):
        raise ConfigError(
            f"dataset must have images whose sides are multiples of {classic.multiple} for {classic.name}, got "
            f"{dataset.name} with {'x'.join(map(str, dataset.image_shape[1:]))}: cut them, or take fewer levels"
        )
    if (side := min(dataset.image_shape[1:])) < classic.least:
        raise ConfigError(
            f"dataset must have images of at least {classic.least} pixels a side for {classic.name}, got "
            f"{dataset.name} with {side}: choose another dataset or network"
        )
    if not 0 < width <= 16:
        raise ConfigError(f"width must be above 0 and at most 16, got {width!r}: 1 is the network's usual size")


def _device(wanted: str) -> str:
    """The kind of device to train on: "cpu", or "cuda" where torch has it."""
    has_cuda = torch.cuda.is_available()
    if wanted == "auto":
        return "cuda" if has_cuda else "cpu"
    if wanted not in ("cpu", "cuda"):
        raise ConfigError(f"device must be auto, cpu or cuda, got {wanted!r}: leave it out for auto")
    if wanted == "cuda" and not has_cuda:
        raise ConfigError("device must be one that torch has, got cuda, which it has not: use cpu or auto")
    return wanted


def _recipe(classic: Classic, given: Recipe | None, device: str) -> Recipe:
    """The recipe given, or the network's own: the short one on a CPU, the full one on a GPU."""
    recipe = given or RECIPES[classic.recipe + ("-full" if device == "cuda" else "")]
    if recipe.method != "float" or recipe.float_epochs < 1:
        raise ConfigError(
            f"recipe must be of method 'float', with float_epochs, for {classic.name}, which is not quantized in "
            f"training, got {recipe.method!r} and {recipe.float_epochs}: mend the recipe or leave it out"
        )
    return recipe
