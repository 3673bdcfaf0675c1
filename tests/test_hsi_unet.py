# SPDX-License-Identifier: Apache-2.0
"""The segmentation papers' U-Net: its size and cost, training with unlabelled pixels, and faults in it."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

from bitward.classic import find_classic
from bitward.classic._hsi_unet import hsi_unet
from bitward.cli import main
from bitward.datasets import class_weights, normalised
from bitward.datasets._road_spectra import CLASS_NAMES
from bitward.datasets.synthetic_hsi_roads import road_scenes
from bitward.engine.pytorch import TorchEngine
from bitward.engine.pytorch.cost import cost
from bitward.engine.pytorch.program import trace
from bitward.errors import ConfigError
from bitward.faults import Fault
from bitward.flow.software import run_software
from bitward.flow.software_spec import SoftwareFlow
from bitward.metrics import global_iou, iou_per_class, weighted_iou
from bitward.train import Recipe, train_classic
from bitward.train._checkpoints import classic_fingerprint
from bitward.train._segmentation import PixelLoop, pixel_scores, predicted_maps
from bitward.train.recipe import RECIPES

NAMES = [f"hsi_unet{levels}_{function}" for levels in ("", "3") for function in ("relu", "sigmoid", "hardsigmoid")]
QUICK = Recipe(
    batch_size=8, float_epochs=6, float_optimizer="adam", float_learning_rate=0.01, method="float", class_weights=True
)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def scenes():
    return road_scenes(16, 32, train=64, test=16)


@pytest.fixture(scope="module")
def run(scenes, tmp_path_factory):
    """A U-Net of three levels and eight filters, trained for seconds, and the folder that keeps it."""
    cache = tmp_path_factory.mktemp("trained")
    return trained("relu", scenes, cache), cache


def trained(activation, scenes, cache):
    return train_classic(f"hsi_unet3_{activation}", scenes, width=0.25, recipe=QUICK, cache=cache)


# ---- size and cost --------------------------------------------------------------------------------------------------


def test_the_papers_counts_are_these():
    """31.14 M parameters and 34.60 GFLOPS, both within 0.1 %: with 25 bands, six outputs, and 192x384 pixels, the input
    size in the file names of the authors' released code. Two operations per multiplication, one per bias, two per value
    normalized give 34.596 G; multiplications alone give 34.535 G, 0.19 % less than the paper's figure.
    """
    with torch.device("meta"):
        network = find_classic("hsi_unet_relu").build(6, 25, 1.0)
    found = cost(network, (25, 192, 384))
    assert (found.parameters, found.statistics) == (31_113_030, 12_032)
    assert abs((found.parameters + found.statistics) / 31.14e6 - 1) < 0.001
    assert found.operations == 34_595_684_352 and abs(found.operations / 34.60e9 - 1) < 0.001
    assert 2 * found.macs == 34_535_374_848 and abs(2 * found.macs / 34.60e9 - 1) > 0.001
    assert abs(cost(network, (25, 192, 416)).operations / 34.60e9 - 1) > 0.05, "another size is another count"
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 23, "the papers' conv2D to conv2D_22"
    assert len(list(network.parameters())) == 100, "the papers' parameter sets p1 to p100"


def by_hand(bands, classes, filters, depth, height, width):
    """(parameters, multiplications) from the shapes of convolutions, written down once more."""
    parameters = macs = 0

    def layer(inputs, outputs, taps, places, norm):
        nonlocal parameters, macs
        parameters += inputs * outputs * taps + outputs + (2 * outputs if norm else 0)
        macs += inputs * outputs * taps * places

    inputs = bands
    sizes = [(filters * 2**level, height * width // 4**level) for level in range(depth + 1)]
    for outputs, places in sizes:
        layer(inputs, outputs, 9, places, True)
        layer(outputs, outputs, 9, places, True)
        inputs = outputs
    for outputs, places in reversed(sizes[:-1]):
        layer(2 * outputs, outputs, 4, places // 4, False)  # each value of the input meets 4 taps of each filter
        layer(2 * outputs, outputs, 9, places, True)
        layer(outputs, outputs, 9, places, True)
    layer(filters, classes, 1, height * width, False)
    return parameters, macs


@pytest.mark.parametrize(("bands", "classes", "filters", "depth"), [(3, 2, 4, 1), (25, 6, 8, 3), (7, 5, 3, 4)])
@pytest.mark.parametrize("activation", ["relu", "sigmoid", "hardsigmoid"])
def test_any_depth_width_bands_and_classes(bands, classes, filters, depth, activation):
    network = hsi_unet(bands, classes, filters, depth, activation).eval()
    assert network(torch.zeros(2, bands, 32, 16)).shape == (2, classes, 32, 16)
    found = cost(network, (bands, 32, 16))
    assert (found.parameters, found.macs) == by_hand(bands, classes, filters, depth, 32, 16)
    names = [name for name, _ in network.named_parameters()]
    assert {"enc1.conv1.weight", f"dec{depth}.bn2.bias", f"up{depth}.bias", "head.weight"} <= set(names)
    assert len(trace(network).steps) > 10 * depth, "torch.fx must follow it"


def test_the_cost_of_other_layers():
    network = nn.Sequential(
        nn.Conv2d(4, 6, (3, 1), stride=2, padding=(1, 0), groups=2, bias=False), nn.ReLU(), nn.BatchNorm2d(6),
        nn.Flatten(), nn.Linear(24, 5), nn.BatchNorm1d(5),
    ).train()  # fmt: skip
    found = cost(network, (4, 4, 4))
    assert [layer.macs for layer in found.layers] == [6 * 2 * 2 * 2 * 3, 0, 24 * 5, 0]
    assert [layer.elementwise for layer in found.layers] == [0, 2 * 24, 5, 2 * 5]
    assert found.operations == 2 * found.macs + 48 + 5 + 10 and found.statistics == 22
    assert network.training and all(not module._forward_hooks for module in network.modules())
    assert [layer.name for layer in found.layers] == ["0", "2", "4", "5"]


@pytest.mark.parametrize("name", NAMES)
def test_the_registry_has_them(name):
    entry = find_classic(name)
    depth = 3 if "unet3" in name else 5
    assert (entry.labelled, entry.least, entry.multiple) == ("pixel", 2**depth, 2**depth)
    network = entry.build(6, 25, 0.25)
    function = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "hardsigmoid": nn.Hardsigmoid}[name.split("_")[-1]]
    assert isinstance(network.get_submodule("enc1.act1"), function) and network.depth == depth
    assert network.get_submodule("enc1.conv1").weight.shape == (8, 25, 3, 3)
    for recipe in (RECIPES[entry.recipe], RECIPES[f"{entry.recipe}-full"]):
        assert recipe.method == "float" and recipe.class_weights


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((0, 6), r"^bands of a U-Net must be at least 1, got 0: the papers' has 32 filters, depth 5$"),
        ((25, 0), r"^classes of a U-Net must be at least 1, got 0: "),
        ((25, 6, 0), r"^filters of a U-Net must be at least 1, got 0: "),
        ((25, 6, 8, 0), r"^depth of a U-Net must be at least 1, got 0: "),
        ((25, 6, 8, 2, "tanh"), r"^activation of a U-Net must be one of relu, sigmoid, hardsigmoid, got 'tanh': mend"),
    ],
)
def test_unets_that_cannot_be(arguments, sentence):
    with pytest.raises(ConfigError, match=sentence):
        hsi_unet(*arguments)


# ---- training -------------------------------------------------------------------------------------------------------


def test_it_learns_and_says_how_good_its_maps_are(run, scenes):
    result = run[0].results[0]
    network = run[0].network(0)
    with torch.no_grad():
        found = network(torch.from_numpy(normalised(scenes, scenes.test_images))).argmax(1).numpy()
    wanted, counts = scenes.test_labels, scenes.test_labels != 0
    assert result.accuracy == result.scores["accuracy"] == np.mean((found == wanted)[counts]) > 0.7
    assert result.scores["global_iou"] == global_iou(found, wanted, 6, ignore=0)
    assert result.scores["weighted_iou"] == weighted_iou(found, wanted, 6, ignore=0)
    each = iou_per_class(found, wanted, 6, ignore=0)
    assert [result.scores[f"iou {name}"] for name in scenes.class_names[1:]] == each[1:].tolist()
    assert "iou unlabelled" not in result.scores


def test_a_seed_is_trained_once(run, scenes):
    again = train_classic("hsi_unet3_relu", scenes, width=0.25, recipe=QUICK, cache=run[1])
    assert again.results[0].cached and again.results[0].scores == run[0].results[0].scores


def test_weights_from_a_file_are_scored(run, scenes, tmp_path):
    torch.save(run[0].results[0].state, tmp_path / "w.pth")
    given = train_classic("hsi_unet3_relu", scenes, width=0.25, weights=tmp_path / "w.pth", cache=tmp_path)
    assert given.results[0].scores == run[0].results[0].scores


def test_the_command_prints_intersections_over_unions(run, scenes, tmp_path, capsys, monkeypatch):
    """Of weights from a file."""
    monkeypatch.setattr("bitward.datasets.synthetic_hsi_roads.road_scenes", lambda: scenes)
    torch.save(run[0].results[0].state, tmp_path / "w.pth")
    options = ["--dataset", "synthetic_hsi_roads", "--width", "0.25", "--weights", str(tmp_path / "w.pth")]
    assert main(["train", "hsi_unet3_relu", *options, "--cache", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.strip().split("\n")
    assert re.fullmatch(r"\d+\.\d\d%", lines[0])
    names = ["global_iou", "weighted_iou", *(f"iou {name}" for name in CLASS_NAMES[1:])]
    assert [line.split(":")[0] for line in lines[1:]] == [f"  {name}" for name in names]


def test_a_software_flow_is_for_networks_that_label_images(tmp_path):
    flow = SoftwareFlow(name="maps", network="hsi_unet3_relu", dataset="synthetic_hsi_roads")
    with pytest.raises(
        ConfigError, match=r"^network of a software-only flow must label images, got hsi_unet3_relu, wh"
    ):
        run_software(flow, tmp_path, Console(quiet=True))
    assert list(tmp_path.iterdir()) == []


class Held(nn.Module):
    """Scores that are parameters, for one image of 2x2 pixels."""

    def __init__(self):
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(1, 3, 2, 2))

    def forward(self, images):
        return self.scores


def one_step(labels, weights, ignore):
    """The scores after a step of plain gradient descent."""
    model = Held()
    data = replace(road_scenes(16, 16, 1, 1), ignore=ignore)
    loop = PixelLoop(
        model, data, lambda m: torch.optim.SGD(m.parameters(), 1.0), 1.0, 1, 1, 0, False, False, lambda: None,
        lambda images: images, weights=weights,
    )  # fmt: skip
    loop._step(loop.make_optimizer(model), torch.zeros(1, 1, 2, 2), torch.tensor(labels))
    return model.scores.detach()


def test_unlabelled_pixels_teach_nothing_and_rare_classes_more():
    """By hand: at equal scores the gradient of a pixel of class c is w_c * (1/3 - [c]) over the sum of weights."""
    labels, weights = [[[0, 1], [1, 2]]], torch.tensor([5.0, 1.0, 4.0])
    moved = one_step(labels, weights, ignore=0)
    assert torch.all(moved[0, :, 0, 0] == 0), "class 0 is unlabelled"
    assert torch.allclose(moved[0, :, 1, 1], torch.tensor([-1 / 3, -1 / 3, 2 / 3]) * 4 / 6, atol=1e-6)
    assert torch.allclose(moved[0, :, 0, 1], torch.tensor([-1 / 3, 2 / 3, -1 / 3]) / 6, atol=1e-6)
    alike = one_step(labels, None, ignore=None)
    assert torch.allclose(alike[0, :, 0, 0], torch.tensor([2 / 3, -1 / 3, -1 / 3]) / 4, atol=1e-6)
    assert torch.all(one_step([[[0, 0], [0, 0]]], weights, ignore=0) == 0), "no labelled pixel, no step"


def test_the_recipe_says_whether_classes_are_weighted(scenes, tmp_path):
    one = replace(QUICK, float_epochs=1)
    weighted = train_classic("hsi_unet3_relu", scenes, width=0.25, recipe=one, cache=tmp_path).results[0]
    alike = train_classic(
        "hsi_unet3_relu", scenes, width=0.25, recipe=replace(one, class_weights=False), cache=tmp_path
    ).results[0]
    assert weighted.fingerprint != alike.fingerprint
    assert not torch.equal(weighted.state["head.bias"], alike.state["head.bias"])
    assert class_weights(scenes.train_labels, 6, 0)[2] > 2, "marks are rare"


def test_what_a_trained_seed_rests_on(scenes):
    def print_of(data):
        return classic_fingerprint("hsi_unet3_relu", 0.25, data, QUICK, 0, "cpu")

    assert len({print_of(scenes), print_of(replace(scenes, ignore=None))}) == 2


def test_maps_are_predicted_a_few_images_at_a_time(monkeypatch, scenes):
    network = hsi_unet(25, 6, 4, 2).eval()
    images = normalised(scenes, scenes.test_images)
    whole = predicted_maps(network, images, lambda each: each)
    monkeypatch.setattr("bitward.train._segmentation.AT_ONCE_PIXELS", 3 * 16 * 32)
    assert np.array_equal(predicted_maps(network, images, lambda each: each), whole)


def test_classes_without_names_are_numbered(scenes):
    found = pixel_scores(hsi_unet(25, 6, 4, 2), replace(scenes, class_names=()), lambda images: images)
    assert set(found) == {"accuracy", "global_iou", "weighted_iou", *(f"iou {label}" for label in range(1, 6))}


@pytest.mark.parametrize(
    ("name", "size", "sentence"),
    [
        ("hsi_unet3_relu", (20, 32), r"^dataset must have images whose sides are multiples of 8 for hsi_unet3_relu, .*"
         r" with 20x32: cut them, or take fewer levels$"),
        ("hsi_unet_relu", (16, 32), r"^dataset must have images whose sides are multiples of 32 for hsi_unet_relu, "),
        ("alexnet", (32, 32), r"^dataset must have one label per image for alexnet, got .* with one per pixel: choose"),
    ],
)  # fmt: skip
def test_data_that_a_network_cannot_take(name, size, sentence, tmp_path):
    with pytest.raises(ConfigError, match=sentence):
        train_classic(name, road_scenes(*size, 1, 1), cache=tmp_path)


# ---- faults ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "hardsigmoid"])
def test_the_engine_decides_as_the_network_itself_under_single_faults(activation, run, scenes):
    """Every memory, dangerous bits and others: with a fault in each, no pixel's class differs from what the whole
    network gives with the fault in it.
    """
    images = normalised(scenes, scenes.test_images[:2])
    engine = TorchEngine(trained(activation, scenes, run[1]).network(0))
    random = np.random.default_rng(2)
    memories = engine.manifest.memories
    trials = []
    for number in range(len(memories)):
        memory = memories[number]
        bit = int(random.choice([30, 30, 31, 29, 27, 25, 23, 22, 10]))
        trials.append([Fault(memory.name, int(random.integers(memory.depth)), bit)])
    assert {trial[0].memory for trial in trials} == {memory.name for memory in memories}
    golden = engine.infer(images).argmax(axis=1)
    changed = differing = 0
    for trial, (outputs, _, _) in zip(trials, engine.outcomes(images, trials), strict=True):
        found = outputs.argmax(axis=1)
        engine.inject(trial)
        naive = engine.infer(images).argmax(axis=1)
        engine.restore()
        differing += int(np.sum(found != naive))
        changed += bool(np.any(naive != golden))
    assert differing == 0 and changed > 10
