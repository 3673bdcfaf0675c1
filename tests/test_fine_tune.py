# SPDX-License-Identifier: Apache-2.0
"""Training on from a network that is there: it gets better, and its copy alone."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from bitward.classic._hsi_unet import hsi_unet
from bitward.datasets import load_dataset, normalised
from bitward.datasets.synthetic_hsi_roads import road_scenes
from bitward.errors import ConfigError
from bitward.train import Recipe
from bitward.train._segmentation import pixel_scores
from bitward.train.tuning import fine_tune

RECIPE = Recipe(
    batch_size=8, float_epochs=8, float_optimizer="adam", float_learning_rate=0.01, method="float", class_weights=True
)
SCENES = road_scenes(16, 16, 24, 8)


def untrained():
    torch.manual_seed(0)
    return hsi_unet(25, SCENES.classes, 4, 1).eval().requires_grad_(False)


def test_a_network_gets_better_and_the_one_given_stays():
    network, before = untrained(), {name: value.clone() for name, value in untrained().state_dict().items()}
    made = fine_tune(network, SCENES, RECIPE)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    prepare = partial(normalised, SCENES)
    gained = pixel_scores(made, SCENES, prepare)["global_iou"] - pixel_scores(network, SCENES, prepare)["global_iou"]
    assert gained > 0.08
    assert not made.training and not any(each.requires_grad for each in made.parameters())
    assert all(each.is_contiguous() for each in made.parameters())


def test_the_seed_decides_and_torchs_own_random_numbers_stay():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    short = replace(RECIPE, float_epochs=1)
    states = [fine_tune(untrained_kept(), SCENES, short, seed).state_dict() for seed in (0, 0, 1)]
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert not torch.equal(states[0]["head.weight"], states[2]["head.weight"])


def untrained_kept():
    """Made without a change of torch's own random numbers."""
    with torch.random.fork_rng():
        return untrained()


def test_images_with_one_label_each_do_too():
    digits = load_dataset("digits")
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    made = fine_tune(network, digits, replace(RECIPE, batch_size=64))
    found = made(torch.from_numpy(normalised(digits, digits.test_images))).argmax(dim=1).numpy()
    assert np.mean(found == digits.test_labels) > 0.85


def test_recipes_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match=r"^recipe must be of method 'float', with float_epochs, to train on, got"):
        fine_tune(untrained(), SCENES, Recipe(float_epochs=2))
    with pytest.raises(ConfigError, match=r"^recipe must be of method 'float', with float_epochs, .* and 0: mend the"):
        fine_tune(untrained(), SCENES, replace(RECIPE, float_epochs=0))
    with pytest.raises(ConfigError, match=r"^Recipe\.augment must be False for .*, whose pixels are labelled"):
        fine_tune(untrained(), SCENES, replace(RECIPE, augment=True))
