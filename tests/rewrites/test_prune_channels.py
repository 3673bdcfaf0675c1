# SPDX-License-Identifier: Apache-2.0
"""Channels go with all that reads them; rounds take those that matter least, stop at the limit and are found again."""

from __future__ import annotations

import copy
import re
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn
from torch_networks import Residual

from bitward.classic._hsi_unet import hsi_unet
from bitward.engine.pytorch import TorchEngine
from bitward.engine.pytorch.cost import cost
from bitward.errors import ConfigError, ModelError
from bitward.rewrites.torch_networks import (
    allowed_ratios,
    load_pruned,
    prune_channels,
    sensitivities,
    with_state,
)
from bitward.rewrites.torch_networks._channels import cut_copy

pytestmark = pytest.mark.usefixtures("one_thread")

BANDS, CLASSES, SIDE, FILTERS, DEPTH = 3, 4, 8, 4, 2
SHAPE = (BANDS, SIDE, SIDE)
LAYERS = [
    "enc1.conv1", "enc1.conv2", "enc2.conv1", "enc2.conv2", "base.conv1", "base.conv2", "up2", "dec2.conv1",
    "dec2.conv2", "up1", "dec1.conv1", "dec1.conv2",
]  # fmt: skip


def images(count=4, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((count, *SHAPE)).astype(np.float32))


@cache
def unet(activation="relu", depth=DEPTH):
    """Weights so large that every channel matters, and norms of all kinds."""
    torch.manual_seed(1)
    network = hsi_unet(BANDS, CLASSES, FILTERS, depth, activation)
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            module.weight.data *= 4
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.3, 2)
            nn.init.normal_(module.bias, 0.0, 0.5)
            nn.init.normal_(module.running_mean, 0.0, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return network.eval()


def small():
    """Of one level, so that rounds are quick."""
    return unet(depth=1)


def answers(network, some=None):
    with torch.no_grad():
        return network(images() if some is None else some)


def agreement(network):
    """The share of pixels whose class is that of the whole network: 1 for that one."""
    golden = answers(small()).argmax(dim=1)
    return {"agreement": float((answers(network).argmax(dim=1) == golden).double().mean())}


class Counted:
    """A function that counts its calls, and may be cut off after some."""

    def __init__(self, function, most=10**9):
        self.function, self.most, self.calls = function, most, 0

    def __call__(self, network):
        self.calls += 1
        if self.calls > self.most:
            raise KeyboardInterrupt
        return self.function(network)


# ---- cutting --------------------------------------------------------------------------------------------------------


def outputs_first(layer):
    return layer.weight.detach().transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else layer.weight.detach()


def norm_of(network, layer):
    """The batch norm behind the layer, None behind a transposed convolution."""
    return None if layer.startswith("up") else network.get_submodule(layer.replace("conv", "bn"))


def kept_channels(network, made, layer):
    """Which channels of the layer are left, by their biases, which are all different."""
    before, after = (each.get_submodule(layer).bias.tolist() for each in (network, made))
    assert len(set(before)) == len(before)
    return [before.index(value) for value in after]


@pytest.mark.parametrize("activation", ["relu", "sigmoid"])
@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_loses_filters_and_what_reads_them_takes_the_others(layer, activation):
    """Equal to the whole network with the channels' values held at 0 where the layer's readers take them."""
    network = unet(activation)
    made = cut_copy(network, SHAPE, {layer: 0.5})
    kept = kept_channels(network, made, layer)
    count = network.get_submodule(layer).out_channels
    assert len(kept) == count // 2 == made.get_submodule(layer).out_channels and kept == sorted(kept)

    def hold(module, inputs, output):
        mask = torch.zeros(output.shape[1])
        mask[kept] = 1
        return output * mask[:, None, None]

    whole = copy.deepcopy(network)
    read = layer if layer.startswith("up") else layer.replace("conv", "act")
    whole.get_submodule(read).register_forward_hook(hold)
    torch.testing.assert_close(answers(made), answers(whole), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(answers(made), answers(network), rtol=1e-3, atol=1e-3)
    others = [name for name in LAYERS if name != layer]
    assert all(
        made.get_submodule(name).out_channels == network.get_submodule(name).out_channels for name in [*others, "head"]
    )


def test_dead_channels_go_first_and_the_function_stays():
    network = copy.deepcopy(unet())
    dead = dict.fromkeys(LAYERS, 1)
    for layer, channel in dead.items():
        module = network.get_submodule(layer)
        with torch.no_grad():
            outputs_first(module)[channel] = 0
            module.bias[channel] = 0
            if (norm := norm_of(network, layer)) is not None:
                for tensor in (norm.weight, norm.bias, norm.running_mean):
                    tensor[channel] = 0
    made = cut_copy(network, SHAPE, {layer: 1.2 / network.get_submodule(layer).out_channels for layer in LAYERS})
    assert [made.get_submodule(layer).out_channels for layer in LAYERS] == [
        network.get_submodule(layer).out_channels - 1 for layer in LAYERS
    ]
    torch.testing.assert_close(answers(made), answers(network), rtol=1e-4, atol=1e-5)


def test_one_channel_is_left_and_the_network_given_stays():
    network = unet()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    made = cut_copy(network, SHAPE, dict.fromkeys(LAYERS, 1.0))
    assert all(made.get_submodule(layer).out_channels == 1 for layer in LAYERS)
    assert answers(made).shape == answers(network).shape
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    by_hand = sum(
        outputs * (inputs * taps + 1 + 4 * norm)  # weights and bias; gamma, beta, mean and variance
        for inputs, outputs, taps, norm in (
            (BANDS, 1, 9, 1), (1, 1, 9, 1), (1, 1, 9, 1), (1, 1, 9, 1), (1, 1, 9, 1), (1, 1, 9, 1),
            *[(1, 1, 4, 0), (2, 1, 9, 1), (1, 1, 9, 1)] * 2, (1, CLASSES, 1, 0),
        )
    )  # fmt: skip
    found = cost(made, SHAPE)
    assert found.parameters + found.statistics == by_hand


def test_what_is_added_is_cut_together():
    network = Residual().eval()
    zeros = torch.randn(2, 3, 16, 16)
    made = cut_copy(network, (3, 16, 16), {"shortcut.0": 0.5})
    assert made.conv2.out_channels == made.shortcut[0].out_channels == 6 and made.fc.in_features == 24
    with torch.no_grad():
        assert made(zeros).shape == network(zeros).shape


# ---- rounds ---------------------------------------------------------------------------------------------------------


def test_sensitivities_are_the_falls_of_single_layers():
    found = sensitivities(small(), SHAPE, agreement)
    assert list(found) == [name for name in LAYERS if "2" not in name.split(".")[0]]
    for layer in ("enc1.conv2", "base.conv1", "up1"):
        for tenth, fall in enumerate(found[layer], start=1):
            made = cut_copy(small(), SHAPE, {layer: tenth / 10})
            assert fall == pytest.approx(1 - agreement(made)["agreement"])
    assert found["up1"][0] == 0.0 and max(found["up1"]) > 0.02  # a tenth of 4 channels is none


def test_ratios_go_up_to_the_first_tenth_that_costs_too_much():
    falls = {"a": (0.0,) * 9, "b": (0.2, *(0.0,) * 8), "c": (0.0, 0.1, 0.2, 0.1, *(0.3,) * 5)}
    assert allowed_ratios(falls, 0.0) == {"a": 0.9, "c": 0.1}
    assert allowed_ratios(falls, 0.1) == {"a": 0.9, "c": 0.2}
    assert allowed_ratios(falls, 0.2) == {"a": 0.9, "b": 0.9, "c": 0.4}


def test_rounds_take_their_share_of_the_operations_and_not_much_more():
    found = prune_channels(small(), SHAPE, agreement, lambda network: network, shares=(0.3, 0.3), allowed=1.0)
    operations = [found.operations, *(each.operations for each in found.rounds)]
    assert operations[0] == cost(small(), SHAPE).operations and operations[-1] == cost(found.network, SHAPE).operations
    for before, after in zip(operations, operations[1:], strict=False):
        assert 0.2 * before < after <= 0.7 * before
    assert found.kept is found.rounds[-1] and found.rounds[-1].parameters == cost(found.network, SHAPE).parameters
    assert found.scores == {"agreement": 1.0} and found.rounds[0].cut == agreement(
        cut_copy(small(), SHAPE, found.rounds[0].ratios)
    )
    assert TorchEngine(found.network).infer(images()).shape == (4, CLASSES, SIDE, SIDE)  # contiguous, as it asks for


def test_a_round_that_costs_too_much_is_not_kept_and_the_next_begins_where_it_began(tmp_path):
    score = Counted(agreement)
    found = prune_channels(
        small(), SHAPE, score, lambda network: network, shares=(0.6, 0.7, 0.05), allowed=0.1, folder=tmp_path
    )
    assert [each.is_kept for each in found.rounds] == [False, False, True] and found.kept is found.rounds[2]
    assert len({str(each.sensitivity) for each in found.rounds}) == 1
    assert len(list(tmp_path.glob("*sensitivities.json"))) == 1
    torch.testing.assert_close(
        answers(found.network), answers(cut_copy(small(), SHAPE, found.rounds[2].ratios)), rtol=0, atol=0
    )
    none = prune_channels(small(), SHAPE, agreement, lambda network: network, shares=(0.6,), allowed=0.0)
    assert none.kept is None
    torch.testing.assert_close(answers(none.network), answers(small()), rtol=0, atol=0)


def test_training_on_decides_what_is_kept():
    """What `tune` gives back is scored and kept."""

    def halved(network):
        made = copy.deepcopy(network)
        with torch.no_grad():
            made.head.weight.mul_(0.5)
        return made

    found = prune_channels(small(), SHAPE, agreement, halved, shares=(0.3,), allowed=1.0)
    plain = cut_copy(small(), SHAPE, found.rounds[0].ratios)
    torch.testing.assert_close(found.network.head.weight, plain.head.weight / 2)
    assert found.rounds[0].tuned == agreement(found.network)


def test_finished_rounds_and_sensitivities_are_not_done_again(tmp_path):
    score, tune = Counted(agreement), Counted(lambda network: network)
    whole = prune_channels(small(), SHAPE, score, tune, allowed=1.0, folder=tmp_path / "whole")
    assert tune.calls == 2
    again = Counted(agreement)
    found = prune_channels(small(), SHAPE, again, Counted(None, 0), allowed=1.0, folder=tmp_path / "whole")
    assert again.calls == 1 and found == whole  # only of the network given
    torch.testing.assert_close(answers(found.network), answers(whole.network), rtol=0, atol=0)
    with pytest.raises(KeyboardInterrupt):
        prune_channels(small(), SHAPE, agreement, Counted(tune, 1), allowed=1.0, folder=tmp_path / "cut")
    left, tune = Counted(agreement), Counted(lambda network: network)
    pieced = prune_channels(small(), SHAPE, left, tune, allowed=1.0, folder=tmp_path / "cut")
    assert pieced == whole and tune.calls == 1 and left.calls == 3  # at first, cut, tuned
    other = Counted(lambda network: network)
    prune_channels(small(), SHAPE, agreement, other, allowed=0.99, folder=tmp_path / "cut")
    assert other.calls == 2  # another question


def test_a_pruned_network_is_loaded_again(tmp_path):
    found = prune_channels(small(), SHAPE, agreement, lambda network: network, allowed=1.0, folder=tmp_path)
    (path,) = tmp_path.glob("*round2.pt")
    torch.manual_seed(9)
    done, network = load_pruned(hsi_unet(BANDS, CLASSES, FILTERS, 1), path)
    assert done == found.rounds[1]
    torch.testing.assert_close(answers(network), answers(found.network), rtol=0, atol=0)
    assert network.get_submodule("dec1.conv1").in_channels == network.get_submodule("dec1.conv1").weight.shape[1]
    network.train()(images())  # norms know their sizes too


def test_depthwise_and_dense_layers_are_resized():
    big = nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(32, 5)).eval()
    small = nn.Sequential(nn.Conv2d(6, 6, 3, groups=6), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(24, 5)).eval()
    made = with_state(big, small.state_dict())
    some = torch.randn(2, 6, 4, 4)
    torch.testing.assert_close(made(some), small(some))


# ---- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, float("nan")])
def test_shares_are_shares(share):
    with pytest.raises(ConfigError, match=rf"^shares must be above 0 and below 1 each, got {share!r}: 0\.5 halves"):
        prune_channels(unet(), SHAPE, agreement, lambda network: network, shares=(0.5, share))


def test_there_is_something_to_prune():
    with pytest.raises(ModelError, match=r"^a network must have layers behind which others come, got none: nothing"):
        prune_channels(nn.Sequential(nn.Conv2d(3, 2, 1)), SHAPE, agreement, lambda network: network)


def test_parameters_of_another_network_are_refused(tmp_path):
    state = dict(unet().state_dict())
    del state["head.bias"]
    message = "parameters must be those of the network, got 'head.bias' in one of them alone: take its own"
    with pytest.raises(ModelError, match=f"^{re.escape(message)}$"):
        with_state(unet(), state)
    state = {**unet().state_dict(), "head.weight": torch.zeros(4, 4, 3, 3)}
    message = (
        "weights of head must be of shape (4, 4, 1, 1) but for channels, got (4, 4, 3, 3): take those of the same "
        "network"
    )
    with pytest.raises(ModelError, match=f"^{re.escape(message)}$"):
        with_state(unet(), state)
    with pytest.raises(ModelError, match=r"^a pruned network must be a file, got .*none\.pt, which is none: prune it"):
        load_pruned(unet(), tmp_path / "none.pt")
