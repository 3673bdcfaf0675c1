# SPDX-License-Identifier: Apache-2.0
"""Every network, untrained: what it takes and gives, what its quantizers allow, and signs of both kinds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from bitward.datasets import load_dataset
from bitward.errors import ConfigError
from bitward.networks import find_network, network_names

NETWORKS = network_names()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_takes_its_datasets_images_and_gives_a_score_for_each_class(name):
    network = find_network(name)
    dataset = load_dataset(network.dataset)
    assert network.name == name and network.input_shape == dataset.image_shape
    assert network.input_bits == dataset.pixel_bits
    outputs = network.build().eval()(torch.from_numpy(dataset.test_images[:3]))
    assert outputs.shape == (3, dataset.classes)


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_are_integers_of_the_whole_range(name):
    network = find_network(name)
    for layer in network.build().modules():
        if hasattr(layer, "weight_quant"):
            with torch.no_grad():
                layer.weight.view(-1)[0] = -10 * layer.weight.abs().max()
                quantized = layer.quant_weight()
            assert quantized.bit_width == network.weight_bits and quantized.signed
            assert quantized.int().min() == -(2 ** (network.weight_bits - 1))  # not narrow


@pytest.mark.parametrize("name", NETWORKS)
def test_activations_are_unsigned_and_of_the_stated_width(name):
    network = find_network(name)
    model = network.build().eval()
    seen = []
    for layer in model.modules():
        if hasattr(layer, "act_quant"):
            layer.register_forward_hook(lambda _, __, output: seen.append(output))
    model(torch.from_numpy(load_dataset(network.dataset).test_images[:32]))
    assert len(seen) >= 2
    for values in seen:
        levels = np.unique(values.detach().numpy())
        assert levels.min() >= 0 and len(levels) <= 2**network.activation_bits


@pytest.mark.parametrize("name", NETWORKS)
def test_every_batch_norm_starts_with_gammas_of_both_signs(name):
    layers = find_network(name).build().modules()
    norms = [layer for layer in layers if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d))]
    assert norms
    for norm in norms:
        assert (norm.weight < 0).any() and (norm.weight > 0).any()


def test_an_unknown_network_is_named():
    with pytest.raises(ConfigError, match=r"^network must be a known name, got 'digits_cn'; did you mean"):
        find_network("digits_cn")
