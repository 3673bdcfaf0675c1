# SPDX-License-Identifier: Apache-2.0
"""The classic networks have the usual sizes and names, and checkpoints of the usual forms load."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from bitward.classic import classic_names, find_classic, load_weights
from bitward.engine.pytorch.program import trace
from bitward.errors import ConfigError, ModelError

PARAMETERS = {"resnet18": 11_173_962, "vgg11_bn": 28_149_514}
NAMES = {
    "resnet18": ("layer2.0.downsample.1.running_var", "fc.bias"),
    "vgg11_bn": ("features.25.weight", "classifier.6.weight"),
    "googlenet": ("inception4c.branch3.1.conv.weight", "fc.weight"),
    "alexnet": ("features.0.weight", "classifier.6.bias"),
}


def test_these_are_the_networks():
    found = {name for name in classic_names() if find_classic(name).labelled == "image"}
    assert {name for name in found if not name.startswith("imagenet_")} == set(NAMES)
    with pytest.raises(ConfigError, match="^network must be a known name, got 'resnet81'; "):
        find_classic("resnet81")


@pytest.mark.parametrize("name", sorted(NAMES))
def test_names_sizes_and_scores(name):
    classic = find_classic(name)
    network = classic.build(10, 3, 0.125)
    assert set(NAMES[name]) <= set(network.state_dict())
    for size in {classic.size, 32}:
        assert network.eval()(torch.zeros(2, 3, size, size)).shape == (2, 10)
    assert len(trace(network).steps) > 10, "torch.fx must follow it"
    if name in PARAMETERS:
        with torch.device("meta"):
            full = classic.build(10, 3, 1.0)
        assert sum(each.numel() for each in full.parameters()) == PARAMETERS[name]


def test_checkpoints_of_other_forms_load(tmp_path):
    build = find_classic("resnet18").build
    torch.manual_seed(1)
    source, network = build(10, 3, 0.125), build(10, 3, 0.125)
    state = {
        "module." + name.replace("downsample", "shortcut").replace("fc.", "linear."): value
        for name, value in source.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    torch.save({"net": state, "acc": 95.0}, tmp_path / "other.pth")
    load_weights(network, tmp_path / "other.pth")
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(network.eval()(images), source.eval()(images))


def test_checkpoints_that_are_none_are_refused(tmp_path):
    network = find_classic("alexnet").build(10, 1, 0.125)
    path = tmp_path / "weights.pth"

    def refusal(saved, sentence):
        torch.save(saved, path)
        with pytest.raises(ModelError, match=sentence):
            load_weights(network, path)

    where = f"^{re.escape(str(path))} must "
    state = network.state_dict()
    refusal([1, 2], where + "hold a state_dict, got list: save network.state_dict")
    refusal({k: v for k, v in state.items() if k != "features.0.bias"}, where + "have the tensors of the network, got ")
    refusal({**state, "extra": torch.zeros(1)}, where + "have the tensors of the network alone, got one called 'extra'")
    other = nn.Linear(3, 10).state_dict()["weight"]
    refusal({**state, "classifier.6.weight": other}, r"^tensor classifier\.6\.weight of .* must have shape \(10, 512\)")
    path.write_text("no checkpoint")
    with pytest.raises(ModelError, match=where + "be a checkpoint of torch, got "):
        load_weights(network, path)
