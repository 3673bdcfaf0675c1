# SPDX-License-Identifier: Apache-2.0
"""Training on: some more epochs of a float network that is there, as after its channels were pruned."""

from __future__ import annotations

import copy
from functools import partial

import torch
from torch import nn

from bitward.datasets import Dataset, normalised
from bitward.errors import ConfigError
from bitward.train._pixels import check_labels_follow
from bitward.train._segmentation import pixel_loop
from bitward.train._stage import float_loop, one_thread
from bitward.train.recipe import Recipe


def fine_tune(network: nn.Module, dataset: Dataset, recipe: Recipe, seed: int = 0, device: str = "cpu") -> nn.Module:
    """A network of its own, trained for the recipe's float epochs more, in evaluation mode, on the CPU.

    It takes `normalised` images. Where pixels are labelled, unlabelled ones count nothing in the loss, and with the
    recipe's `class_weights` rare classes more. The seed decides the order of the images. ConfigError: a recipe without
    float epochs, or one that shifts images whose pixels are labelled.
    """
    if recipe.method != "float" or recipe.float_epochs < 1:
        raise ConfigError(
            f"recipe must be of method 'float', with float_epochs, to train on, got {recipe.method!r} and "
            f"{recipe.float_epochs}: mend the recipe"
        )

    if dataset.labelled == "pixel":
        check_labels_follow(dataset, recipe)

    def start() -> nn.Module:
        return copy.deepcopy(network).requires_grad_(True)

    with one_thread(), torch.random.fork_rng():
        loop = float_loop(start, dataset, recipe, seed, prepare=partial(normalised, dataset), device=device)
        (pixel_loop(loop, recipe) if dataset.labelled == "pixel" else loop).run(lambda: None)
    made = loop.model.cpu().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    found: nn.Module = made.eval().requires_grad_(False)
    return found
