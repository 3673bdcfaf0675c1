# SPDX-License-Identifier: Apache-2.0
"""Every network, untrained: what it takes and gives, what its quantizers allow, and signs of both kinds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from brevitas.core.scaling import ConstScaling, ParameterScaling
from PIL import Image
from torch import nn

from bitward.datasets import load_dataset
from bitward.errors import ConfigError
from bitward.networks import find_network, network_names
from bitward.networks._quantizers import ShortScale

NETWORKS = network_names()
CIFAR_CLASSES = 10


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of noise, as the pictures of a dataset lie that is given by path."""
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for part in ("train", "test"):
        for label in range(CIFAR_CLASSES):
            path = folder / part / f"class{label}" / "0.png"
            path.parent.mkdir(parents=True)
            Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
    return folder


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_takes_its_datasets_images_and_gives_a_score_for_each_class(name, pictures):
    network = find_network(name)
    dataset = load_dataset(network.dataset, pictures)
    assert network.name == name and network.input_shape == dataset.image_shape
    assert network.input_bits == dataset.pixel_bits
    outputs = network.build().eval()(torch.from_numpy(dataset.test_images[:3]))
    assert outputs.shape == (3, dataset.classes, *dataset.test_labels.shape[1:])


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_are_integers_of_the_whole_range(name):
    network = find_network(name)
    for layer in network.build().modules():
        if hasattr(layer, "weight_quant"):
            with torch.no_grad():
                # A power of two: short scales take it as it is.
                layer.weight.view(-1)[0] = -(2.0 ** (4 + torch.ceil(torch.log2(layer.weight.abs().max()))))
                quantized = layer.quant_weight()
            assert quantized.bit_width == network.weight_bits and quantized.signed
            assert quantized.int().min() == -(2 ** (network.weight_bits - 1))  # not narrow


@pytest.mark.parametrize("name", NETWORKS)
def test_activations_are_of_the_stated_width_and_unsigned_unless_said(name, pictures):
    network = find_network(name)
    model = network.build().eval()
    seen = []
    for layer in model.modules():
        if hasattr(layer, "act_quant"):
            layer.register_forward_hook(lambda layer, _, output: seen.append((layer, output)))
    model(torch.from_numpy(load_dataset(network.dataset, pictures).test_images[:32]))
    assert len(seen) >= 2
    for layer, values in seen:
        levels, bits = np.unique(values.detach().numpy()), int(layer.act_quant.bit_width())
        assert bits == network.activation_bits or f"INT{bits}" in network.notes
        assert len(levels) <= 2**bits and (levels.min() >= 0 or layer.act_quant.is_signed)
    signed = [values.min() for layer, values in seen if layer.act_quant.is_signed]
    assert bool(signed) == ("INT" in network.notes) and (not signed or min(signed) < 0)


def norms_of(network):
    """The batch norms of a network that was just built."""
    return [layer for layer in network.build().modules() if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d))]


@pytest.mark.parametrize("name", NETWORKS)
def test_every_batch_norm_starts_with_gammas_of_the_stated_signs(name):
    network = find_network(name)
    assert norms_of(network)
    for norm in norms_of(network):
        assert (norm.weight > 0).any() and (norm.weight < 0).any() == (network.gammas == "both")


@pytest.mark.parametrize("name", [name for name in NETWORKS if find_network(name).family])
def test_the_float_network_of_a_family_has_every_weight_of_its_members(name):
    network = find_network(name)
    floats, member = network.build_float().state_dict(), network.build().state_dict()
    assert not any(hasattr(layer, "act_quant") for layer in network.build_float().modules())
    assert {key for key in member if key not in floats and "quant" not in key} == set()
    assert {key: member[key].shape for key in floats} == {key: value.shape for key, value in floats.items()}


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_short_scale_is_the_nearest_of_so_many_bits(bits):
    found = ShortScale(bits)(scales := torch.from_numpy(np.geomspace(1e-6, 1e6, 2000)))
    short = torch.tensor(sorted({k * 2.0**n for k in range(1, 2**bits) for n in range(-32, 32)}), dtype=torch.float64)
    assert torch.isin(found, short).all()
    nearest = (scales[:, None] - short).abs().min(dim=1).values
    assert torch.equal((found - scales).abs(), nearest)


@pytest.mark.parametrize("start", [0.3, torch.tensor([[0.3], [-0.7]])], ids=["number", "tensor"])
def test_scales_that_start_at_a_given_value_are_short_too(start):
    """As Brevitas' own modules use it, where no statistics decide."""
    shape = None if isinstance(start, float) else tuple(start.shape)
    constant, learned = ConstScaling(start, ShortScale(2)), ParameterScaling(start, shape, ShortScale(2))
    nearest = {0.3: 0.25, -0.7: 0.75}  # k * 2^n with k of 1, 2 and 3
    expected = [nearest[round(each, 3)] for each in torch.as_tensor(start).flatten().tolist()]
    given = torch.zeros(1)
    assert constant(given).flatten().tolist() == learned(given).flatten().tolist() == expected


def test_the_gradient_of_a_short_scale_is_that_of_the_scale():
    scale = torch.tensor([-0.3, 0.7, 5.3], requires_grad=True)
    ShortScale(2)(scale).sum().backward()
    assert scale.grad.tolist() == [-1, 1, 1]


def test_an_unknown_network_is_named():
    with pytest.raises(ConfigError, match=r"^network must be a known name, got 'digits_cn'; did you mean"):
        find_network("digits_cn")
