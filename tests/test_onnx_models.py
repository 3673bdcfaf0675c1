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
from bitward.qonnx_ops.execute import execute_images
from bitward.rewrites import find_layers, load_model, negative_scales, read_weights
from bitward.tools import data_directory
from bitward.train.card import _quantization as quantization_rows

MODELS = Path(__file__).parents[1] / "onnx_models"
NAMES = sorted(path.stem for path in MODELS.glob("*.onnx"))
SEVERAL_SEEDS = {"digits_cnn": 0.97, "digits_mlp": 0.95}  # mean test accuracy that the networks must reach
FLOORS = {
    "vgg_cifar": 0.80,
    "unet_relu": 0.98,
    "unet_hardsigmoid": 0.98,
    "unet_sigmoid": 0.98,
    "roads_unet_relu": 0.96,
    "roads_unet_hardsigmoid": 0.93,
    "roads_unet_sigmoid": 0.94,
    **SEVERAL_SEEDS,
}  # of the file itself
SCENES = 50  # test scenes that are run here; the card's figure is over all
MEGABYTE = 2**20


def fields(name):
    """The rows of a card's first table."""
    return dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", (MODELS / f"{name}.md").read_text(), re.MULTILINE))


def stated(name):
    """The accuracy of the file that the card states, over all test images."""
    card = fields(name)
    return float((card.get("Top-1 of this file") or card["Pixels right of this file"]).split("%")[0]) / 100


def test_every_model_has_its_card_and_its_network():
    assert {path.stem for path in MODELS.glob("*.md")} == set(NAMES)
    assert set(FLOORS) <= set(NAMES) <= set(network_names())


@pytest.mark.parametrize("name", NAMES)
def test_the_card_is_this_files(name):
    data = (MODELS / f"{name}.onnx").read_bytes()
    assert fields(name)["sha256"] == f"`{hashlib.sha256(data).hexdigest()}`" and len(data) < 0.55 * MEGABYTE


@pytest.mark.parametrize("name", ["digits_cnn", "dwsep_cifar"])
def test_the_card_says_which_scales_are_per_channel(name):
    model = load_model(MODELS / f"{name}.onnx")
    layers = find_layers(model)
    sizes = {key: model.get_initializer(layer.quantizer.input[1]).size for key, layer in layers.items()}
    one = [f"`{key}`" for key, size in sizes.items() if size == 1]
    said = "one scale per tensor"
    if name == "dwsep_cifar":
        assert len(set(sizes.values())) > 2 and one == ["`fc`"], "as many as a layer has channels"
        said = "one scale per output channel, per tensor in `fc`"
    weights = {key: read_weights(model, layer) for key, layer in layers.items()}
    written = dict(quantization_rows(find_network(name), model, weights))
    assert written["Weight quantization"] == fields(name)["Weight quantization"] == f"INT4, full range, {said}"


@pytest.mark.parametrize("name", FLOORS)
def test_the_accuracy_is_enough(name):
    assert stated(name) >= FLOORS[name]


@pytest.mark.parametrize("name", SEVERAL_SEEDS)
def test_the_accuracy_is_the_cards_and_enough_in_the_mean(name):
    dataset = load_dataset(find_network(name).dataset)
    outputs = execute_images(load_model(MODELS / f"{name}.onnx"), dataset.test_images)
    accuracy = np.mean(outputs.argmax(axis=1) == dataset.test_labels)
    card = fields(name)
    assert card["Top-1 of this file"].startswith(f"{accuracy:.2%} (seed 0,")
    seeds = [float(found) / 100 for found in re.findall(r"\d: ([\d.]+)%", card["Top-1 of each seed"])]
    assert len(seeds) == 5 and np.mean(seeds) >= SEVERAL_SEEDS[name]
    assert card["Top-1, mean of seeds"] == f"{np.mean(seeds):.2%} over 5 seeds"


@pytest.mark.parametrize("name", [name for name in NAMES if find_network(name).dataset == "digit_scenes"])
def test_a_u_net_segments_scenes_as_its_card_says(name):
    scenes = load_dataset("digit_scenes")
    outputs = execute_images(load_model(MODELS / f"{name}.onnx"), scenes.test_images[:SCENES])
    right = np.mean(outputs.argmax(axis=1) == scenes.test_labels[:SCENES])
    assert right == pytest.approx(stated(name), abs=0.01)
    card = fields(name)
    assert card["File equals torch"].endswith("equal outputs, bit by bit") and "synthetic" in card["Dataset"]


@pytest.mark.parametrize("name", [name for name in NAMES if find_network(name).dataset == "synthetic_hsi_roads"])
def test_a_u_net_segments_roads_as_its_card_says(name):
    """Over all scenes of the card: IoU counts pixels of all images together."""
    scenes = load_dataset("synthetic_hsi_roads")
    found = execute_images(load_model(MODELS / f"{name}.onnx"), scenes.test_images).argmax(axis=1)
    card, wanted = fields(name), scenes.test_labels
    labelled = wanted != scenes.ignore
    assert card["Pixels right of this file"].startswith(f"{np.mean(found[labelled] == wanted[labelled]):.2%} (seed 0,")
    each = {}
    for label in range(1, scenes.classes):
        either = labelled & ((found == label) | (wanted == label))
        each[scenes.class_names[label]] = np.mean((found == wanted)[either])
    assert card["IoU of each class"] == ", ".join(f"{name} {share:.2%}" for name, share in each.items())
    assert card["File equals torch"].endswith("equal outputs, bit by bit") and "synthetic" in card["Dataset"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if find_network(name).dataset == "cifar10"])
def test_a_network_for_cifar10_is_as_good_as_its_card_says(name):
    if data_directory() is None:
        pytest.skip("BITWARD_DATA does not say where CIFAR-10 lies")
    pictures = load_dataset("cifar10")
    outputs = execute_images(load_model(MODELS / f"{name}.onnx"), pictures.test_images[::20])
    right = np.mean(outputs.argmax(axis=1) == pictures.test_labels[::20])
    assert right == pytest.approx(stated(name), abs=0.05)  # 500 of 10,000 images: 0.05 is 3 standard errors


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_of_the_networks_width(name):
    model = load_model(MODELS / f"{name}.onnx")
    layers = find_layers(model)
    assert list(layers) == re.findall(
        r"^\| `([\w.]+)` \| `\1\.weight`", (MODELS / f"{name}.md").read_text(), re.MULTILINE
    )
    for layer in layers.values():
        weights = read_weights(model, layer)
        assert (weights.bits, weights.signed) == (find_network(name).weight_bits, True)
    assert model.get_tensor_datatype(model.graph.input[0].name).name == "UINT8"


@pytest.mark.parametrize("name", NAMES)
def test_what_is_hard_to_lower_is_in_it(name):
    """For the digits, negative gammas, and weights of -8 in every layer; for the others, such weights somewhere."""
    model = load_model(MODELS / f"{name}.onnx")
    weights = [read_weights(model, layer) for layer in find_layers(model).values()]
    lowest = [found.integers.min() == found.lowest for found in weights]
    if find_network(name).gammas == "both":
        assert len(negative_scales(model)) == 2 and all(lowest)
    else:
        assert not negative_scales(model) and any(lowest)


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("digits")])
def test_scales_are_so_short_that_float_sums_are_exact(name):
    """Scales of 4 significant bits: a float32 holds every sum of weights times activations, in whatever order."""
    model = load_model(MODELS / f"{name}.onnx")
    scales = [model.get_initializer(node.input[1]) for node in model.graph.node if node.op_type == "Quant"]
    mantissas = np.frexp(np.concatenate([scale.ravel() for scale in scales]))[0] * 2**4
    assert len(mantissas) > 10 and np.array_equal(mantissas, np.round(mantissas))
