# SPDX-License-Identifier: Apache-2.0
"""One division at the logits: the function stays, bit by bit for powers of two."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch_networks
from torch import nn

from bitward.classic import find_classic
from bitward.errors import ConfigError, ModelError
from bitward.formats import Float32
from bitward.rewrites import WeightScaling
from bitward.rewrites.torch_networks import divide_logits


def trained_like(name, channels=3, seed=0):
    """A classic network whose batch norms have statistics and whose biases are not small."""
    torch.manual_seed(seed)
    classic = find_classic(name)
    network = classic.build(10, channels, 0.125)
    images = torch.randn(8, channels, classic.size, classic.size)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
        network.train()(images)
    return network.eval(), images


@pytest.mark.parametrize("name", ["alexnet", "vgg11_bn", "resnet18", "googlenet"])
def test_powers_of_two_leave_every_logit_as_it_is(name):
    network, images = trained_like(name)
    divided = divide_logits(network, WeightScaling(power_of_two=True), Float32())
    layers = [key for key, module in network.named_modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    assert sorted(divided.factors) == sorted(layers)
    assert max(divided.factors.values()) > 1
    with torch.no_grad():
        assert torch.equal(divided.network(images), network(images))


@pytest.mark.parametrize("name", ["alexnet", "resnet18"])
def test_any_factors_leave_them_but_for_rounding(name):
    network, images = trained_like(name)
    divided = divide_logits(network, WeightScaling(), Float32())
    with torch.no_grad():
        expected, found = network(images), divided.network(images)
    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    assert torch.equal(found.argmax(1), expected.argmax(1))
    for layer in divided.factors:
        assert float(divided.network.get_submodule(layer).weight.detach().abs().max()) == pytest.approx(
            1.9999, rel=1e-5
        )
    if name == "alexnet":  # nothing takes a factor away: all of them meet at the logits
        assert divided.divisor == pytest.approx(np.prod(list(divided.factors.values())))


def test_a_batch_norm_takes_the_factor_from_a_bounded_activation():
    """Of the chain's layers before a Hardsigmoid each has a batch norm: nothing reaches it but what always did."""
    network, images = torch_networks.calibrated("chain"), torch_networks.images()
    divided = divide_logits(network, WeightScaling(power_of_two=True), Float32())
    with torch.no_grad():
        assert torch.equal(divided.network(images), network.eval()(images))


def test_biases_that_are_not_scaled_change_the_function():
    """The negative control, and a likely reason for the paper's loss of 2.4 points."""
    network, images = trained_like("alexnet")
    divided = divide_logits(network, WeightScaling(), Float32())
    with torch.no_grad():
        for layer in divided.factors:
            divided.network.get_submodule(layer).bias.copy_(network.get_submodule(layer).bias)
        expected, found = network(images), divided.network(images)
    assert not torch.allclose(found, expected, rtol=1e-2, atol=1e-2 * float(expected.abs().max()))


def test_the_given_network_is_left_alone():
    network, _ = trained_like("alexnet")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    divide_logits(network, WeightScaling(), Float32())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        return self.fc(torch.relu(self.fc(x)))


class Uneven(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        return self.fc(x) + x


class Constant(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        return self.fc(x) + 1.0


class NormTwice(nn.Module):
    """One batch norm behind a layer and behind the images, in either order."""

    def __init__(self, layer_first):
        super().__init__()
        self.fc, self.norm, self.layer_first = nn.Linear(4, 4), nn.BatchNorm1d(4), layer_first

    def forward(self, x):
        return self.norm(torch.relu(self.norm(self.fc(x)))) if self.layer_first else self.norm(self.fc(self.norm(x)))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: NormTwice(True), r"^norm must be used once to take a scale away, got two uses: divide weights$"),
        (lambda: NormTwice(False), r"^norm must be used once to take a scale away, got two uses: divide weights$"),
        (lambda: nn.Sequential(nn.Linear(4, 4), nn.Sigmoid(), nn.Linear(4, 2)), r"^1 must let .* got Sigmoid: divide"),
        (lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU6()), r"^1 must let .* got ReLU6"),
        (Twice, r"^fc must be used once to have its weights scaled, got two uses"),
        (Uneven, r"^add must have inputs of one scale to have logits divided, got \[1\.0, "),
        (Constant, r"^add must let a positive factor through"),
    ],
    ids=["norm before", "norm behind", "sigmoid", "relu6", "twice", "uneven", "constant"],
)
def test_networks_that_let_no_factor_through_are_refused(make, match):
    with pytest.raises(ModelError, match=match):
        divide_logits(make(), WeightScaling(t=1.5), Float32())


def test_factors_by_channel_are_refused():
    with pytest.raises(ConfigError, match=r"^scaling must be by layer where logits are divided, got per_channel"):
        divide_logits(Twice(), WeightScaling(per_channel=True), Float32())
