# SPDX-License-Identifier: Apache-2.0
"""Rewrites of torch networks keep the function, or measurably bound how it moves; what they cannot do they refuse."""

from __future__ import annotations

import copy
import math
import re
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from bitward.classic._hsi_unet import hsi_unet
from bitward.engine.pytorch import TorchEngine
from bitward.errors import ConfigError, ModelError
from bitward.faults import Fault
from bitward.rewrites import PROTECTION_TARGETS, ProtectionTarget, at_risk
from bitward.rewrites.torch_networks import (
    Clipped,
    absorb_biases,
    clip_activations,
    drift,
    equalize_layers,
    fold_batch_norm,
    protect_network,
    prune_risky,
    recondition_batch_norm,
)
from bitward.rewrites.torch_networks._graph import Graph

pytestmark = pytest.mark.usefixtures("one_thread")

ROUNDING = 1e-5  # of the largest score


def images(channels=5, count=6, side=16, seed=0):
    return np.random.default_rng(seed).standard_normal((count, channels, side, side)).astype(np.float32)


def calibrated(network, channels=5, side=16, seed=1, offset=0.0):
    """Norms with parameters of every kind (gammas of both signs, near 1 and far) and the statistics of some images."""
    torch.manual_seed(seed)
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.uniform_(module.weight, 0.4, 1.9)
            module.weight.data[::3] *= -1
            nn.init.normal_(module.bias, offset, 0.5)
    network.train()
    with torch.no_grad():
        for step in range(12):
            network(torch.from_numpy(images(channels, side=side, seed=seed + step)))
    return network.eval()


@cache
def unet(activation="relu", **options):
    """One for all tests: rewrites leave it as it is."""
    torch.manual_seed(3)
    return calibrated(hsi_unet(5, 4, **{"filters": 4, "depth": 2, **options}, activation=activation))


class Mixed(nn.Module):
    """Functions by name, a transposed convolution and a dense layer with norms, a convolution without bias, a sum."""

    def __init__(self):
        super().__init__()
        self.stem, self.stem_norm = nn.Conv2d(5, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.depthwise = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.up, self.up_norm = nn.ConvTranspose2d(6, 4, 2, stride=2), nn.BatchNorm2d(4)
        self.left, self.right = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.fc, self.fc_norm, self.last = nn.Linear(4, 7), nn.BatchNorm1d(7), nn.Linear(7, 3)

    def forward(self, x):
        x = F.relu(self.stem_norm(self.stem(x)))
        x = F.leaky_relu(self.up_norm(self.up(F.relu(self.depthwise(x)))), 0.1)
        x = self.left(x) + self.right(x)
        x = F.relu(self.fc_norm(self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))))
        return self.last(x)


class Twins(nn.Module):
    """A value that is concatenated twice, around another."""

    def __init__(self):
        super().__init__()
        self.first, self.other = nn.Conv2d(5, 3, 1), nn.Conv2d(5, 2, 1)
        self.last = nn.Conv2d(8, 4, 1)

    def forward(self, x):
        one = torch.relu(self.first(x))
        return self.last(torch.cat([one, torch.relu(self.other(x)), one], dim=1))


def mixed():
    torch.manual_seed(4)
    return calibrated(Mixed())


def is_same(before, after, among=None):
    """Within rounding, and with no decision changed."""
    found = drift(before, after, images(seed=99) if among is None else among)
    return found.relative < ROUNDING and found.changed_decisions == 0


# ---- the measure ----------------------------------------------------------------------------------------------------


class Given(nn.Module):
    """Its scores, whatever the images."""

    def __init__(self, scores):
        super().__init__()
        self.scores = nn.Parameter(torch.tensor(scores))

    def forward(self, x):
        return self.scores[: len(x)]


def test_drift_by_hand():
    before = Given([[1.0, 2.0, -8.0], [0.0, 0.5, 0.25]])
    after = Given([[1.0, 0.5, -8.0], [0.0, 0.5, 0.25]]).train()
    found = drift(before, after, np.zeros((2, 1)))
    assert (found.largest_difference, found.largest_score) == (1.5, 8.0)
    assert (found.changed_decisions, found.decisions, found.relative) == (1, 2, 1.5 / 8)
    assert after.training
    same = drift(before, before, np.zeros((2, 1)))
    assert (same.largest_difference, same.relative, same.changed_decisions) == (0, 0, 0)


def test_drift_of_numbers_that_are_none():
    whole, broken = Given([[1.0, 2.0]]), Given([[math.nan, 2.0]])
    assert drift(whole, broken, np.zeros((1, 1))).largest_difference == math.inf
    assert drift(broken, broken, np.zeros((1, 1))).largest_difference == 0
    infinite = Given([[math.inf, 2.0]])
    assert drift(infinite, infinite, np.zeros((1, 1))).largest_difference == 0
    assert drift(infinite, whole, np.zeros((1, 1))).largest_difference == math.inf


def test_drift_counts_pixels_over_many_images():
    before, after = nn.Conv2d(1, 3, 1), nn.Conv2d(1, 3, 1)
    many = images(1, 70, 4)
    found = drift(before, after, many)
    with torch.no_grad():
        left, right = (each(torch.from_numpy(many)).numpy() for each in (before, after))
    assert found.decisions == 70 * 16 and found.changed_decisions == np.sum(left.argmax(1) != right.argmax(1)) > 0
    assert found.largest_difference == pytest.approx(np.abs(left - right).max(), rel=1e-6)


def test_drift_needs_scores_of_one_shape():
    with pytest.raises(ModelError, match=r"^networks must give scores of one shape, got \(6, 3, 16, 16\) and \(6, 2, "):
        drift(nn.Conv2d(5, 3, 1), nn.Conv2d(5, 2, 1), images())


# ---- folding --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [unet, mixed, lambda: unet("sigmoid"), lambda: unet("hardsigmoid", depth=3)])
def test_folding_keeps_the_function(make):
    network = make()
    state = copy.deepcopy(network.state_dict())
    norms = [name for name, module in network.named_modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    folded, changed = fold_batch_norm(network)
    assert is_same(network, folded)
    assert sorted(changed) == sorted(norms) and not any(
        isinstance(module, nn.modules.batchnorm._BatchNorm) for module in folded.modules()
    )
    assert all(torch.equal(state[name], value) for name, value in network.state_dict().items()), "the given one stays"
    assert set(dict(folded.named_modules())) == set(dict(network.named_modules()))


def test_folding_says_which_layer_took_which_norm():
    assert fold_batch_norm(mixed())[1] == {"stem_norm": "stem", "up_norm": "up", "fc_norm": "fc"}
    assert fold_batch_norm(unet())[1]["dec1.bn2"] == "dec1.conv2"


def test_a_wrong_fold_is_seen():
    """Negative control: with another eps the function is another."""
    network = unet()
    wrong = copy.deepcopy(network)
    wrong.get_submodule("enc1.bn1").eps = 0.01
    assert not is_same(network, fold_batch_norm(wrong)[0])


def test_a_norm_without_gamma_and_beta_is_folded():
    network = calibrated_plain()
    assert is_same(network, fold_batch_norm(network)[0])


def calibrated_plain():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(5, 4, 3), nn.BatchNorm2d(4, affine=False), nn.ReLU())
    network(torch.from_numpy(images()))
    return network.eval()


def broken_statistics():
    network = copy.deepcopy(unet())
    network.get_submodule("base.bn1").running_var.fill_(-1.0)
    return network


class Branched(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(5, 5, 1), nn.BatchNorm2d(5)

    def forward(self, x):
        x = self.conv(x)
        return x + self.norm(x)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: nn.Sequential(nn.MaxPool2d(2), nn.BatchNorm2d(5)), "batch norm 1 must alone read what .* got 0 w"),
        (Branched, "batch norm norm must alone read what a convolution or dense layer gives, got conv with 2 "),
        (
            lambda: nn.Sequential(nn.Conv2d(5, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)),
            "batch norm 1 must have statistics of its own, got none: train it with them",
        ),
        (broken_statistics, "batch norm base.bn1 must have finite parameters, got others: train it again"),
        (
            lambda: nn.Sequential(nn.ConvTranspose2d(6, 4, 2, groups=2), nn.BatchNorm2d(4)),
            "layer 0 must have one group to be rescaled, got 2: leave this rewrite out",
        ),
    ],
)
def test_norms_that_cannot_be_folded(make, sentence):
    with pytest.raises(ModelError, match=f"^{sentence}"):
        fold_batch_norm(make())


class Choosy(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Again(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(5, 5, 1)

    def forward(self, x):
        return self.conv(self.conv(x))


def tied():
    network = nn.Sequential(nn.Conv2d(5, 5, 1), nn.ReLU(), nn.Conv2d(5, 5, 1))
    network[2].weight = network[0].weight
    return network


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (Choosy, "a network must be one that torch.fx follows, got .*: see its documentation"),
        (Again, "layer conv must be used once, got twice: give each place its own layer"),
        (tied, "layer 2 must be used once, got twice: give each place its own layer"),
    ],
)
def test_networks_that_cannot_be_followed(make, sentence):
    with pytest.raises(ModelError, match=f"^{sentence}"):
        fold_batch_norm(make())


# ---- equalizing -----------------------------------------------------------------------------------------------------


def unequal(network):
    """The folded network, with channels of very different ranges before and behind every 3x3 convolution."""
    folded = fold_batch_norm(network)[0]
    random = np.random.default_rng(5)
    for name, module in folded.named_modules():
        if name.endswith("conv1"):
            module.weight.mul_(torch.from_numpy(10 ** random.uniform(-1, 1, (len(module.weight), 1, 1, 1))).float())
    return folded


@pytest.mark.parametrize("powers_of_two", [False, True])
def test_equalizing_keeps_the_function_and_makes_ranges_alike(powers_of_two):
    network = unequal(unet())
    equal, scales = equalize_layers(network, powers_of_two)
    found = drift(network, equal, images(seed=9))
    if powers_of_two:
        assert found.largest_difference == 0, "bit by bit"
        assert all(np.array_equal(np.log2(each), np.rint(np.log2(each))) for each in scales.values())
    else:
        assert found.relative < ROUNDING and found.changed_decisions == 0
    weights = {name: module.weight for name, module in equal.named_modules() if hasattr(module, "weight")}
    before = weights["enc1.conv1"].abs().amax(dim=(1, 2, 3))
    behind = weights["enc1.conv2"].abs().amax(dim=(0, 2, 3))
    ratio = (before / behind).log2().abs().max()
    assert ratio < (1.01 if powers_of_two else 0.01)
    original = network.get_submodule("enc1.conv1").weight.abs().amax(dim=(1, 2, 3))
    behind = network.get_submodule("enc1.conv2").weight.abs().amax(dim=(0, 2, 3))
    assert (original / behind).log2().abs().max() > 1.5, "it was another before"
    assert "head" not in scales and {"enc1.conv2", "up1", "base.conv1", "dec1.conv2"} <= set(scales)


def test_a_skip_is_read_by_both_its_readers():
    """enc1.conv2 goes through pooling to enc2, and in front of up1's channels into dec1."""
    network = unequal(unet())
    equal, scales = equalize_layers(network)
    for name, first in (("enc2.conv1", 0), ("dec1.conv1", 0)):
        ratio = equal.get_submodule(name).weight[:, first : first + 4] / network.get_submodule(name).weight[:, :4]
        expected = torch.from_numpy(scales["enc1.conv2"]).float()
        own = torch.from_numpy(scales[name]).float()
        assert torch.allclose(ratio.mean(dim=(2, 3)), expected[None] / own[:, None], rtol=1e-4)
    ratio = equal.get_submodule("dec1.conv1").weight[:, 4:] / network.get_submodule("dec1.conv1").weight[:, 4:]
    expected = torch.from_numpy(scales["up1"])[None] / torch.from_numpy(scales["dec1.conv1"])[:, None]
    assert torch.allclose(ratio.mean(dim=(2, 3)).double(), expected, rtol=1e-4)


def test_a_wrong_scale_is_seen():
    """Negative control: one channel of one reader scaled once more."""
    network = unequal(unet())
    equal = equalize_layers(network)[0]
    equal.get_submodule("dec1.conv1").weight[:, 5] *= 1.05
    assert not is_same(network, equal)


def test_functions_depthwise_layers_and_what_is_concatenated_twice():
    folded = fold_batch_norm(mixed())[0]
    equal, scales = equalize_layers(folded)
    assert is_same(folded, equal)
    assert set(scales) == {"stem", "up", "fc"}, "grouped layers, sums, flattened values and the last stay as they are"
    torch.manual_seed(6)
    twins = Twins().eval().requires_grad_(False)
    equal, scales = equalize_layers(twins)
    assert is_same(twins, equal) and set(scales) == {"first", "other"}
    assert not np.allclose(scales["first"], 1)


class Nested(nn.Module):
    """Concatenations within one another, of which the inner holds a norm's channels and a value twice."""

    def __init__(self):
        super().__init__()
        self.one, self.norm, self.two = nn.Conv2d(5, 3, 1), nn.BatchNorm2d(3), nn.Conv2d(5, 4, 1)
        self.three, self.last = nn.Conv2d(5, 2, 1), nn.Conv2d(13, 4, 1)

    def forward(self, x):
        first, second = torch.relu(self.norm(self.one(x))), torch.relu(self.two(x))
        inner = torch.cat([first, second, second], 1)
        return self.last(torch.cat([inner, torch.relu(self.three(x))], 1))


class Renamed(nn.Module):
    """An activation under the name of another."""

    def __init__(self):
        super().__init__()
        self.conv, self.relu, self.last = nn.Conv2d(5, 4, 1), nn.SiLU(), nn.Conv2d(4, 2, 1)

    def forward(self, x):
        return self.last(self.relu(self.conv(x)))


class FlatBeside(nn.Module):
    """Pixels of a convolution in front of a dense layer's values."""

    def __init__(self, flatten):
        super().__init__()
        self.conv, self.dense, self.last = nn.Conv2d(5, 3, 1), nn.Linear(5, 4), nn.Linear(3 * 256 + 4, 2)
        self.flatten = flatten

    def forward(self, x):
        beside = torch.relu(self.dense(F.adaptive_avg_pool2d(x, 1).flatten(1)))
        return self.last(torch.cat([self.flatten(self.conv(x)), beside], 1))


def test_norms_and_concatenations_in_front_of_a_value_are_counted():
    """The norm is one of a value that is not rescaled: it stays."""
    torch.manual_seed(9)
    network = calibrated(Nested()).eval()
    folded = fold_batch_norm(network)[0]
    equal, scales = equalize_layers(folded)
    assert is_same(folded, equal) and set(scales) == {"one", "two", "three"}
    behind = Nested().eval()
    found = Graph(behind)
    (node,) = (node for node, name, _ in found.calls((nn.Conv2d,)) if name == "three")
    assert [(reader.name, reader.offset) for reader in found.reach(node).readers] == [("last", 3 + 2 * 4)]


def test_an_activation_is_what_it_is_and_not_what_it_is_called():
    sentence = r"^activation relu behind layer conv must be positively homogeneous \(ReLU, leaky or not\), got SiLU: "
    with pytest.raises(ModelError, match=sentence):
        equalize_layers(Renamed())


@pytest.mark.parametrize("flatten", [nn.Flatten(), lambda x: x.flatten(1), lambda x: x[:, :]])
def test_channels_behind_a_value_of_another_shape_are_not_guessed(flatten):
    with pytest.raises(ModelError, match=r"^value \w+ must have a known number of channels to be concatenated, got"):
        equalize_layers(FlatBeside(flatten).requires_grad_(False))


def test_a_layer_whose_channels_are_flattened_by_a_module_stays_as_it_is():
    torch.manual_seed(2)
    network = nn.Sequential(nn.Conv2d(5, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Flatten(),
                            nn.Linear(1024, 3)).requires_grad_(False)  # fmt: skip
    equal, scales = equalize_layers(network)
    assert set(scales) == {"0"} and is_same(network, equal)


def test_a_norm_that_cannot_be_folded_is_left_where_asked():
    torch.manual_seed(2)
    network = calibrated(nn.Sequential(nn.BatchNorm2d(5), nn.Conv2d(5, 4, 1), nn.BatchNorm2d(4))).eval()
    folded, done = fold_batch_norm(network, leave=True)
    assert done == {"2": "1"} and [type(each) for each in folded] == [nn.BatchNorm2d, nn.Conv2d, nn.Identity]
    assert is_same(network, folded)


def test_channels_without_weights_keep_their_scale():
    network = nn.Sequential(nn.Conv2d(5, 3, 1), nn.ReLU(), nn.Conv2d(3, 2, 1)).requires_grad_(False)
    network[0].weight[1] = 0
    network[2].weight[:, 2] = 0
    equal, scales = equalize_layers(network)
    assert is_same(network, equal) and scales["0"][1] == scales["0"][2] == 1


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda: fold_batch_norm(unet("sigmoid"))[0],
            "activation enc1.act1 behind layer enc1.conv1 must be positively homogeneous (ReLU, leaky or not), got S",
        ),
        (
            lambda: fold_batch_norm(unet("hardsigmoid"))[0],
            "activation enc1.act1 behind layer enc1.conv1 must be positively homogeneous (ReLU, leaky or not), got H",
        ),
        (
            lambda: nn.Sequential(nn.Conv2d(5, 4, 1), nn.ReLU6(), nn.Conv2d(4, 2, 1)),
            "activation 1 behind layer 0 must be positively homogeneous (ReLU, leaky or not), got ReLU6: leave this",
        ),
        (unet, "batch norm enc1.bn1 must be folded before layers are equalized, got it: fold_batch_norm first"),
        (
            lambda: nn.Sequential(nn.Conv2d(5, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1, groups=2)),
            "layer 2 must have one group to be rescaled, got 2: leave this rewrite out",
        ),
    ],
)
def test_networks_that_cannot_be_equalized(make, sentence):
    with pytest.raises(ModelError, match=f"^{re.escape(sentence)}"):
        equalize_layers(make())


def test_a_concatenated_input_is_refused():
    class Skipping(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.last = nn.Conv2d(5, 4, 1), nn.Conv2d(9, 2, 1)

        def forward(self, x):
            return self.last(torch.cat([x, torch.relu(self.conv(x))], 1))

    with pytest.raises(ModelError, match=r"^value x must have a known number of channels to be concatenated, got "):
        equalize_layers(Skipping())


# ---- absorbing ------------------------------------------------------------------------------------------------------


def high_offsets(padding=0):
    """A norm whose outputs are far above 0 on every image, and layers that read them with and without a bias."""
    torch.manual_seed(8)
    network = nn.Sequential(
        nn.Conv2d(5, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 3, 3, padding=padding, bias=False),
    )  # fmt: skip
    calibrated(network)
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([0.5, -0.4, 0.25, 1.0]))
        network[1].bias.copy_(torch.tensor([9.0, 8.0, 4.0, 0.1]))
    return network


def test_absorbing_keeps_the_function_where_its_assumption_holds():
    network = high_offsets()
    moved, lowered = absorb_biases(network, sigmas=6)
    assert {name: amounts.tolist() for name, amounts in lowered.items()} == {"1": pytest.approx([6, 5.6, 2.5, 0])}
    assert is_same(network, moved)
    assert moved[1].bias.tolist() == pytest.approx([3, 2.4, 1.5, 0.1])
    by_hand = network[4].weight.detach().sum(dim=(2, 3)) @ torch.tensor([6, 5.6, 2.5, 0])
    assert torch.allclose(moved[4].bias, by_hand, atol=1e-5)


def test_absorbing_moves_borders_and_what_is_below():
    """Negative controls: zeros that padding adds are not lowered, and too much is absorbed with sigmas of 0."""
    padded, network = high_offsets(padding=1), high_offsets()
    assert not is_same(padded, absorb_biases(padded, 6)[0])
    assert not is_same(network, absorb_biases(network, 0)[0])


def test_absorbing_in_a_unet_leaves_transposed_convolutions_alone():
    torch.manual_seed(3)
    network = calibrated(hsi_unet(5, 4, filters=4, depth=2), side=64, offset=9.0)
    moved, lowered = absorb_biases(network, sigmas=5)
    assert {"enc1.bn1", "enc1.bn2", "base.bn1", "dec2.bn1"} <= set(lowered)
    assert "base.bn2" not in lowered and "dec2.bn2" not in lowered
    assert drift(network, moved, images(seed=4)).relative > 0.01, "borders of a small image reach far"
    with torch.no_grad():
        left, right = (each(torch.from_numpy(images(seed=4, side=64)))[:, :, 28:36, 28:36] for each in (network, moved))
    assert float((left - right).abs().max() / left.abs().max()) < 1e-3, "far from them it is the same"


def test_a_norm_without_offsets_has_nothing_to_absorb():
    network = high_offsets()
    nn.init.zeros_(network[1].bias)
    moved, lowered = absorb_biases(network)
    assert lowered == {} and is_same(network, moved)


def test_what_cannot_be_absorbed():
    with pytest.raises(ModelError, match=r"^activation enc1\.act1 behind layer enc1\.bn1 must be a ReLU, got Sigmoid"):
        absorb_biases(unet("sigmoid"))
    with pytest.raises(ConfigError, match=r"^sigmas must be a number of at least 0, got -1: 3 is usual$"):
        absorb_biases(unet(), -1)


# ---- reconditioning -------------------------------------------------------------------------------------------------


def gammas(network):
    return {
        name: module.weight.detach().numpy() for name, module in network.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
    }  # fmt: skip


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "hardsigmoid"])
def test_no_gamma_is_at_risk_and_the_function_is_kept(activation):
    network = unet(activation)
    risky = {name: int(at_risk(values).sum()) for name, values in gammas(network).items() if at_risk(values).any()}
    assert len(risky) > 5
    made, moved = recondition_batch_norm(network)
    assert moved == risky
    assert not any(at_risk(values).any() for values in gammas(made).values())
    assert is_same(network, made)
    assert drift(network, made, images()).relative < 1e-5


def test_no_upset_of_a_reconditioned_gamma_is_infinite_or_nan():
    """Exhaustive over all gammas and exponent bits; before, there were such upsets."""

    def bad_upsets(network):
        words = np.concatenate(list(gammas(network).values())).view(np.uint32)
        upset = words[:, None] ^ (np.uint32(1) << np.arange(23, 31, dtype=np.uint32))
        return int(np.sum(~np.isfinite(upset.view(np.float32))))

    network = unet("sigmoid")
    assert bad_upsets(network) > 20 and bad_upsets(recondition_batch_norm(network)[0]) == 0


def test_into_the_next_weights_it_is_the_same_bit_by_bit():
    network = unet()
    made, moved = recondition_batch_norm(network, "next")
    assert drift(network, made, images()).largest_difference == 0 and sum(moved.values()) > 10
    assert not any(at_risk(values).any() for values in gammas(made).values())
    assert torch.equal(made.get_submodule("enc1.bn1").running_var, network.get_submodule("enc1.bn1").running_var)
    assert not torch.equal(made.get_submodule("enc1.conv2").weight, network.get_submodule("enc1.conv2").weight)


def test_a_wrong_variance_is_seen():
    """Negative control."""
    network = unet()
    made = recondition_batch_norm(network)[0]
    made.get_submodule("enc1.bn1").running_var[0] *= 1.1
    assert not is_same(network, made)


def test_the_variance_is_taken_out_of_risk_where_there_is_a_choice():
    """A gamma of 1.5 may be halved or doubled. Of a variance of 2.5, a quarter would be out of risk, of 5 at risk."""
    network = nn.Sequential(nn.Conv2d(5, 2, 1), nn.BatchNorm2d(2)).eval()
    with torch.no_grad():
        network[1].weight.fill_(1.5)
        network[1].running_var.copy_(torch.tensor([2.5, 5.0]))
    made = recondition_batch_norm(network)[0]
    assert made[1].weight.tolist() == [0.75, 3.0]
    assert made[1].running_var.tolist() == pytest.approx([0.625, 20.0], rel=1e-4)
    assert not at_risk(made[1].running_var.numpy()).any()


def test_a_variance_of_nearly_nothing_is_not_made_negative():
    network = nn.Sequential(nn.Conv2d(5, 2, 1), nn.BatchNorm2d(2)).eval()
    with torch.no_grad():
        network[1].weight.fill_(1.5)
        network[1].running_var.fill_(1e-6)
    made = recondition_batch_norm(network)[0]
    assert made[1].weight.tolist() == [3.0, 3.0] and bool((made[1].running_var > 0).all()) and is_same(network, made)


def test_norms_out_of_risk_stay_bit_by_bit():
    network = nn.Sequential(nn.Conv2d(5, 2, 1), nn.BatchNorm2d(2), nn.ReLU(), nn.BatchNorm2d(2, affine=False)).eval()
    with torch.no_grad():
        network[1].weight.fill_(0.75)
    for into in ("statistics", "next"):
        made, moved = recondition_batch_norm(network, into)
        before, after = network.state_dict(), made.state_dict()
        assert moved == {} and all(torch.equal(after[name], value) for name, value in before.items())


def test_norms_that_cannot_be_reconditioned():
    with pytest.raises(ModelError, match=r"^activation enc1\.act1 behind layer enc1\.bn1 must be positively homogene"):
        recondition_batch_norm(unet("sigmoid"), "next")
    last = nn.Sequential(nn.Conv2d(5, 2, 1), nn.BatchNorm2d(2)).eval()
    with pytest.raises(ModelError, match=r"^batch norm 1 must be read by layers alone to be rescaled with them, got"):
        recondition_batch_norm(last, "next")
    with pytest.raises(ConfigError, match=r"^into must be 'statistics' or 'next', got 'there': the first takes any"):
        recondition_batch_norm(last, "there")
    last[1].running_var.fill_(-last[1].eps)
    with pytest.raises(ModelError, match=r"^gamma 0 of batch norm 1 must be one that a factor of two takes out of ri"):
        recondition_batch_norm(last)


# ---- clipping -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outside", ["bound", "zero"])
def test_clipping_is_the_same_on_its_images(outside):
    network = unet()
    clipped, ranges = clip_activations(network, images(), outside)
    assert drift(network, clipped, images()).largest_difference == 0
    assert len(ranges) == 10 and all(low == 0 < high for low, high in ranges.values())
    seen = []
    network.get_submodule("base.act2").register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        network(torch.from_numpy(images()))
    assert ranges["base.act2"] == (float(seen[0].min()), float(seen[0].max()))
    assert drift(network, clipped, 3 * images(seed=5)).largest_difference > 0, "other images go beyond"


def test_what_is_outside_and_what_is_no_number():
    values = torch.tensor([-1.0, 0.5, 2.0, 9.0, math.inf, -math.inf, math.nan])
    bound, zero = (Clipped(nn.Identity(), -0.5, 2.0, outside) for outside in ("bound", "zero"))
    assert bound(values).tolist() == [-0.5, 0.5, 2, 2, 2, -0.5, -0.5]
    assert zero(values).tolist() == [0, 0.5, 2, 0, 0, 0, 0]
    assert repr(bound).startswith("Clipped(\n  -0.5 to 2, outside: bound")


def test_a_fault_does_less_where_activations_are_clipped():
    """The largest exponent bit of a weight in the first layer: unclipped it reaches everywhere."""
    network = unet()
    some = images()
    clipped = clip_activations(network, some)[0]
    changed = {}
    for name, each in (("plain", network), ("clipped", clipped)):
        engine = TorchEngine(copy.deepcopy(each))
        golden = engine.infer(some).argmax(axis=1)
        faults = [[Fault("enc1.conv1.weight", word, 30)] for word in range(0, 180, 9)]
        outcomes = [outputs for outputs, _, _ in engine.outcomes(some, faults)]
        changed[name] = sum(int(np.sum(outputs.argmax(axis=1) != golden)) for outputs in outcomes)
        for fault, outputs in zip(faults, outcomes, strict=True):
            engine.inject(fault)
            assert np.array_equal(engine.infer(some).argmax(axis=1), outputs.argmax(axis=1))
            engine.restore()
    assert 0 < changed["clipped"] < 0.8 * changed["plain"]


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.act, self.spare = nn.Conv2d(5, 2, 1), nn.ReLU(), nn.Sigmoid()

    def forward(self, x):
        return self.act(self.conv(x))


def test_activations_that_cannot_be_clipped():
    with pytest.raises(ModelError, match=r"^a network must have activations that are modules of torch, got none: wr"):
        clip_activations(mixed(), images())
    with pytest.raises(ModelError, match=r"^activation spare must have finite values on the images, got no value: is"):
        clip_activations(Unused(), images())
    with pytest.raises(ModelError, match=r"^activation act must have finite values on the images, got .*(nan|inf)"):
        clip_activations(Unused(), np.full((1, 5, 2, 2), np.inf, np.float32))
    with pytest.raises(ConfigError, match=r"^outside must be 'bound' or 'zero', got 'nan': Ranger's is 'bound', Clip"):
        clip_activations(unet(), images(), "nan")
    with pytest.raises(ConfigError, match=r"^images must be at least one, got none: give some that the network was"):
        clip_activations(unet(), images()[:0])


# ---- protecting -----------------------------------------------------------------------------------------------------


def numbers(network):
    return {name: value.numpy() for name, value in network.state_dict().items() if value.is_floating_point()}


@pytest.mark.parametrize("name", PROTECTION_TARGETS)
def test_every_parameter_is_protected_and_counted(name):
    network = unet()
    target = PROTECTION_TARGETS[name]
    made, moved = protect_network(network, name)
    before, after = numbers(network), numbers(made)
    assert set(moved) == set(before)
    for tensor, values in before.items():
        assert moved[tensor] == np.sum(values.view(np.uint32) != after[tensor].view(np.uint32))
        share = np.max(np.abs(after[tensor] / np.where(values == 0, 1, values) - 1)[values != 0])
        assert share <= max(target.lower - 1, 2 / target.upper - 1) + 1e-6
        mantissas = 1 + (after[tensor].view(np.uint32) & 0x7FFFFF) / 2**23
        assert not np.any(at_risk(after[tensor]) & (mantissas <= target.lower)), "no empty one is left"


def test_higher_targets_move_more_and_the_function_further():
    network = unet()
    moved = {name: sum(protect_network(network, name)[1].values()) for name in PROTECTION_TARGETS}
    assert list(moved.values()) == sorted(moved.values()) and moved["PT4"] > 4 * moved["PT1"] >= 0
    drifts = {name: drift(network, protect_network(network, name)[0], images()).relative for name in PROTECTION_TARGETS}
    assert drifts["PT1"] < 1e-3 and drifts["PT1"] < drifts["PT3"] < 1
    wide = protect_network(network, ProtectionTarget(1.0, 2.0))
    assert drift(network, wide[0], images()).relative < ROUNDING, "only powers of two move, by half a unit in the last"


def test_statistics_may_stay_as_the_papers_leave_them():
    network = unet()
    made, moved = protect_network(network, "PT4", statistics=False)
    assert not any("running" in name for name in moved) and "enc1.bn1.weight" in moved
    statistics = [name for name in numbers(made) if "running" in name]
    assert all(np.array_equal(numbers(network)[name], numbers(made)[name]) for name in statistics)


def test_a_target_is_a_known_one():
    with pytest.raises(ConfigError, match=r"^target must be one of PT1, PT2, PT3, PT4, got 'PT5'; did you mean 'PT"):
        protect_network(unet(), "PT5")


# ---- pruning --------------------------------------------------------------------------------------------------------


def weights_of(network):
    return {name: value for name, value in numbers(network).items() if value.ndim > 1}


def test_pruning_takes_weights_at_risk_and_leaves_all_others():
    network = unet()
    some = images(count=4)
    pruned, counts = prune_risky(network, some, 0.01)
    found = drift(network, pruned, some)
    assert 0 < found.changed_decisions <= 0.01 * found.decisions
    before, after = weights_of(network), weights_of(pruned)
    gone = {name: (after[name] == 0) & (before[name] != 0) for name in before}
    assert counts == {name: int(each.sum()) for name, each in gone.items()}
    risky = sum(int(at_risk(values).sum()) for values in before.values())
    assert 0.02 * risky < sum(counts.values()) < risky
    for name, values in before.items():
        assert np.all(at_risk(values)[gone[name]]) and np.array_equal(values[~gone[name]], after[name][~gone[name]])


def test_more_is_pruned_where_more_may_change():
    network, some = unet(), images(count=4)
    none, half = (prune_risky(network, some, allowed) for allowed in (0.0, 0.05))
    assert sum(half[1].values()) > sum(none[1].values())
    found = drift(network, half[0], some)
    assert 0 < found.changed_decisions <= 0.05 * found.decisions
    every = prune_risky(network, some, 1.0)
    assert not any(at_risk(values).any() for values in weights_of(every[0]).values())


def test_relevance_is_the_first_order_change_of_the_loss():
    """By hand, of a dense layer: the weight at risk of an input that is always 0 goes first, the others matter."""
    network = nn.Sequential(nn.Linear(3, 2, bias=False)).requires_grad_(False)
    network[0].weight.copy_(torch.tensor([[1.0, 1.25, 1.5], [-1.0, 3.0, -1.5]]))
    some = np.array([[1, 0, 1], [2, 0, 1], [-1, 0, -1]], np.float32)
    pruned, counts = prune_risky(network, some, 0.0)
    assert pruned[0].weight[:, 1].tolist() == [0, 3.0] and counts["0.weight"] >= 1
    assert drift(network, pruned, some).changed_decisions == 0


def test_an_upset_of_a_pruned_weight_is_2_at_most():
    words = np.zeros(1, np.uint32) ^ (np.uint32(1) << np.arange(32, dtype=np.uint32))
    assert np.max(np.abs(words.view(np.float32))) == 2


def test_what_cannot_be_pruned():
    with pytest.raises(ConfigError, match=r"^allowed must be a share of decisions, 0 to 1, got 2: 0 keeps all of them"):
        prune_risky(unet(), images(), 2)
    with pytest.raises(ConfigError, match=r"^images must be at least one, got none: give some that the network was"):
        prune_risky(unet(), images()[:0])
