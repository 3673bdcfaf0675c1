# SPDX-License-Identifier: Apache-2.0
"""The networks for ImageNet have the tensors of the common public checkpoints, name by name."""

from __future__ import annotations

import hashlib
import re

import pytest
import torch

from bitward.classic import classic_names, find_classic, load_weights
from bitward.engine.pytorch import TorchEngine
from bitward.faults import Fault

PUBLISHED = {
    "imagenet_alexnet": (16, 61_100_840, "25c71b0a8ccd1962eb983e966250035b0f3909510528cf58fc7bb93d36ea4e5e"),
    "imagenet_resnet18": (122, 11_689_512, "f77af260c2dbd0eccca06d4d95e026ff44f80b75b346f2d34d66779b98a412f3"),
    "imagenet_resnet50": (320, 25_557_032, "a9e37deb781a9d89ad940f44b26b352088f9b802a6f1a949cd26813f28975b75"),
    "imagenet_densenet169": (1015, 14_149_480, "007fbf80ba43fca55ea7dfa60de09d3d890874539062d68f6c3692985925a793"),
}
"""Tensors, parameters, sha256 over "NAME SHAPE" lines in order, shapes as 64x3x7x7, of torchvision 0.29's models."""
SOME = {
    "imagenet_alexnet": ("features.10.weight", "classifier.6.bias"),
    "imagenet_resnet18": ("layer2.0.downsample.1.running_var", "fc.weight"),
    "imagenet_resnet50": ("layer4.2.bn3.num_batches_tracked", "layer1.0.downsample.0.weight"),
    "imagenet_densenet169": ("features.denseblock3.denselayer32.conv2.weight", "features.transition3.norm.weight"),
}


def test_these_are_the_networks():
    assert {name for name in classic_names() if name.startswith("imagenet_")} == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_names_and_shapes_are_the_published_ones(name):
    with torch.device("meta"):
        network = find_classic(name).build(1000, 3, 1.0)
    state = network.state_dict()
    lines = "\n".join(f"{key} {'x'.join(map(str, value.shape))}" for key, value in state.items())
    found = (len(state), sum(each.numel() for each in network.parameters()), hashlib.sha256(lines.encode()).hexdigest())
    assert found == PUBLISHED[name]
    assert set(SOME[name]) <= set(state)


@pytest.mark.parametrize("name", PUBLISHED)
def test_scores_and_the_engine(name):
    """At a fraction of the width: a score for each class, and the engine computes what the network does."""
    classic = find_classic(name)
    torch.manual_seed(0)
    network = classic.build(7, 3, 0.125).eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected = network(images)
    assert expected.shape == (2, 7)
    engine = TorchEngine(network)
    memory = next(memory for memory in engine.manifest.memories if memory.role == "weight")
    fault = (Fault(memory.name, 5, 28),)
    ((outputs, _, _),) = engine.outcomes(images.numpy(), [fault])
    engine.inject(fault)
    assert torch.allclose(torch.from_numpy(outputs), torch.from_numpy(engine.infer(images.numpy())), atol=1e-4)
    assert len(engine.program.steps) > 10


def test_old_dotted_names_of_densenet_load(tmp_path):
    build = find_classic("imagenet_densenet169").build
    torch.manual_seed(3)
    source, network = build(5, 3, 0.125), build(5, 3, 0.125)
    state = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", key): value
             for key, value in source.state_dict().items()}  # fmt: skip
    assert "features.denseblock1.denselayer1.norm.1.weight" in state
    torch.save(state, tmp_path / "old.pth")
    load_weights(network, tmp_path / "old.pth")
    images = torch.rand(1, 3, 64, 64)
    assert torch.equal(network.eval()(images), source.eval()(images))
