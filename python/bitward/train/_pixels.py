# SPDX-License-Identifier: Apache-2.0
"""Quantized networks of pixels that not everybody labelled: the loss, the scores and the key of their training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import nn

from bitward.datasets import Dataset
from bitward.errors import ConfigError
from bitward.train import _checkpoints
from bitward.train._loop import Loop
from bitward.train._segmentation import PixelLoop, finish_pixels, pixel_loop, pixel_scores
from bitward.train._stage import accuracy, finish, pixels
from bitward.train.recipe import Recipe, TrainResult


def counts_pixels(dataset: Dataset) -> bool:
    """Are pixels labelled, and some of them not?"""
    return dataset.labelled == "pixel" and dataset.ignore is not None


def check_labels_follow(dataset: Dataset, recipe: Recipe) -> None:
    """Images are not shifted and flipped where the maps of their classes are not; ConfigError otherwise."""
    if recipe.augment:
        raise ConfigError(
            f"Recipe.augment must be False for {dataset.name}, whose pixels are labelled, got True: labels would stay "
            "where they are"
        )


def by_labels(loop: Loop, recipe: Recipe) -> Loop:
    """The training as it is, or, where some pixels are unlabelled, with a loss that leaves them out.

    ConfigError: images that are shifted and flipped while the maps of their classes are not.
    """
    if not counts_pixels(loop.dataset):
        return loop
    check_labels_follow(loop.dataset, recipe)
    return pixel_loop(loop, recipe)


def finish_by_labels(loop: Loop, name: str, print_: str, cache: Path | None, tick: Callable[[], None]) -> TrainResult:
    """The loop has run and its network is tested: over labelled pixels, with scores, where some are unlabelled."""
    if not isinstance(loop, PixelLoop):
        return finish(loop, name, print_, cache, tick)
    with TemporaryDirectory(prefix="bitward-training-") if cache is None else nullcontext(cache) as folder:
        return finish_pixels(loop, name, print_, Path(folder), tick)


def tested(model: nn.Module, dataset: Dataset) -> tuple[float, dict[str, float] | None]:
    """The accuracy over the test images, and the scores of maps where some pixels are unlabelled."""
    if counts_pixels(dataset):
        scores = pixel_scores(model, dataset, pixels)
        return scores["accuracy"], scores
    return accuracy(model, dataset.test_images, dataset.test_labels), None


def by_labels_print(print_: str, dataset: Dataset) -> str:
    """The key of a training: where some pixels are unlabelled, of the loss and of the label that says so too."""
    if not counts_pixels(dataset):
        return print_
    here = Path(__file__).parent
    files = (*_checkpoints.PIXELS, Path(__file__).name)
    facts = {"print": print_, "ignore": dataset.ignore, "sources": [_checkpoints._code(here / name) for name in files]}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
