# SPDX-License-Identifier: Apache-2.0
"""The shipped models are what their cards say."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest

from bitward.datasets import load_dataset
from bitward.networks import find_network, network_names
from bitward.rewrites import find_layers, load_model, negative_scales, read_weights
from bitward.train.export import execute

MODELS = Path(__file__).parents[1] / "onnx_models"
FLOORS = {"digits_cnn": 0.97, "digits_mlp": 0.95}  # mean test accuracy that the networks must reach


def fields(name):
    """The rows of a card's first table."""
    return dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", (MODELS / f"{name}.md").read_text(), re.MULTILINE))


def test_every_model_has_its_card_and_its_network():
    assert {path.stem for path in MODELS.glob("*.onnx")} == {path.stem for path in MODELS.glob("*.md")} == set(FLOORS)
    assert set(FLOORS) <= set(network_names())


@pytest.mark.parametrize("name", FLOORS)
def test_the_card_is_this_files(name):
    digest = hashlib.sha256((MODELS / f"{name}.onnx").read_bytes()).hexdigest()
    assert fields(name)["sha256"] == f"`{digest}`"


@pytest.mark.parametrize("name", FLOORS)
def test_the_accuracy_is_the_cards_and_enough(name):
    dataset = load_dataset(find_network(name).dataset)
    outputs = execute(load_model(MODELS / f"{name}.onnx"), dataset.test_images)
    accuracy = np.mean(outputs.argmax(axis=1) == dataset.test_labels)
    card = fields(name)
    assert card["Top-1 of this file"].startswith(f"{accuracy:.2%} (seed 0,")
    seeds = [float(found) / 100 for found in re.findall(r"\d: ([\d.]+)%", card["Top-1 of each seed"])]
    assert len(seeds) == 5 and np.mean(seeds) >= FLOORS[name]
    assert card["Top-1, mean of seeds"] == f"{np.mean(seeds):.2%} over 5 seeds"


@pytest.mark.parametrize("name", FLOORS)
def test_what_is_hard_to_lower_is_in_it(name):
    """Negative gammas, and weights of -8 in every layer."""
    model = load_model(MODELS / f"{name}.onnx")
    assert len(negative_scales(model)) == 2
    for layer in find_layers(model).values():
        weights = read_weights(model, layer)
        assert (weights.bits, weights.signed, weights.integers.min()) == (4, True, -8)
    assert model.get_tensor_datatype(model.graph.input[0].name).name == "UINT8"
