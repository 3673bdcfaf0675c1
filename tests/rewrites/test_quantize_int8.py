# SPDX-License-Identifier: Apache-2.0
"""Networks of integers: equal to integer arithmetic written down by itself, without faults and with every one."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from bitward.classic._hsi_unet import hsi_unet
from bitward.engine.pytorch import TorchEngine
from bitward.errors import ConfigError, FormatError, ModelError
from bitward.faults import Fault
from bitward.formats import Int
from bitward.rewrites.torch_networks import drift, fold_batch_norm, quantize_int8
from bitward.rewrites.torch_networks._integers import Grid, Requantize, multiplier
from bitward.schemes import InPlaceSecded, Plain, Tmr

pytestmark = pytest.mark.usefixtures("one_thread")

BANDS, CLASSES, SIDE = 3, 4, 8


def images(count=6, seed=0, channels=BANDS, side=SIDE):
    return np.random.default_rng(seed).standard_normal((count, channels, side, side)).astype(np.float32)


@cache
def unet(activation="relu", filters=2, depth=1):
    """With batch norms that have seen images, and gammas of both signs."""
    torch.manual_seed(0)
    network = hsi_unet(BANDS, CLASSES, filters, depth, activation)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, -2, 2)
            nn.init.normal_(module.bias, 0.0, 0.5)
    network.train()
    with torch.no_grad():
        for seed in range(6):
            network(torch.from_numpy(images(seed=seed)))
    return network.eval()


# ---- the same in integers, as Jacob et al. write it, with zero points and without torch's convolutions --------------


def grid(low, high):
    """(scale, zero point) of 8 bits over the range and 0."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / 255
    return scale, int(np.clip(np.round(-128 - low / scale), -128, 127))


def shifted(sums, factor, zero):
    """round(sums * factor) + zero in 8 bits, the factor as 22 bits and a shift, halves up, by whole numbers alone."""
    mantissa, exponent = np.frexp(factor)
    whole, shift = round(float(mantissa) * 2**22), 22 - int(exponent)
    moved = (sums * whole + (1 << (shift - 1))) >> shift  # of at most 55 bits: int64 holds them
    return np.clip(moved + zero, -128, 127)


def convolved(values, weights, biases):
    """3x3 or 1x1, zeros around, in int64."""
    size = weights.shape[-1]
    around = size // 2
    padded = np.pad(values, ((0, 0), (0, 0), (around, around), (around, around)))
    sums = np.zeros((len(values), len(weights), *values.shape[2:]), np.int64)
    for row in range(size):
        for column in range(size):
            part = padded[:, :, row : row + values.shape[2], column : column + values.shape[3]]
            sums += np.einsum("nchw,oc->nohw", part, weights[:, :, row, column])
    return sums + biases[:, None, None]


def doubled(values, weights, biases):
    """A transposed 2x2 convolution of stride 2, in int64."""
    sums = np.zeros((len(values), weights.shape[1], 2 * values.shape[2], 2 * values.shape[3]), np.int64)
    for row in range(2):
        for column in range(2):
            sums[:, :, row::2, column::2] = np.einsum("nchw,co->nohw", values, weights[:, :, row, column])
    return sums + biases[:, None, None]


class Integers:
    """A U-Net of one level, quantized here from its folded floats and the ranges that hooks see."""

    FUNCTIONS = {  # noqa: RUF012 - of doubles, and steps from 0 to 1
        "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), 256), "hardsigmoid": (lambda x: np.clip(x / 6 + 0.5, 0, 1), 255),
    }  # fmt: skip

    def __init__(self, network, activation, seen):
        self.activation, self.words, self.scales = activation, {}, {}
        folded, _ = fold_batch_norm(network)
        self.ranges = {"images": (seen.min(), seen.max())}
        for name, module in folded.named_modules():
            module.register_forward_hook(self._see(name))
        with torch.no_grad():
            folded(torch.from_numpy(seen))
        for name, module in folded.named_modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                weights = module.weight.detach().numpy().astype(np.float64)
                self.scales[name] = np.abs(weights).max() / 127
                self.words[f"{name}.weight"] = np.rint(weights / self.scales[name]).astype(np.int64)
                self.words[f"{name}.bias"] = module.bias.detach().numpy().astype(np.float64)

    def _see(self, name):
        def hook(module, inputs, output):
            self.ranges[name] = float(output.min()), float(output.max())

        return hook

    def _layer(self, name, values, scale, operation):
        """(sums, what one of them stands for); biases become integers here."""
        step = scale * self.scales[name]
        biases = self.words[f"{name}.bias"]
        if biases.dtype != np.int64:
            self.words[f"{name}.bias"] = biases = np.rint(biases / step).astype(np.int64)
        return operation(values, self.words[f"{name}.weight"], biases), step

    def _activated(self, name, values, scale):
        """conv, norm and activation number `name`: (q - zero, scale)."""
        part, number = name
        sums, step = self._layer(f"{part}.conv{number}", values, scale, convolved)
        if self.activation == "relu":
            to, zero = grid(0, self.ranges[f"{part}.act{number}"][1])
            return shifted(sums, step / to, zero) - zero, to
        to, zero = grid(*self.ranges[f"{part}.conv{number}"])
        function, steps = self.FUNCTIONS[self.activation]
        before = shifted(sums, step / to, zero)
        return np.clip(np.floor(function((before - zero) * to) * steps + 0.5), 0, 255).astype(np.int64), 1 / steps

    def scores(self, given):
        scale, zero = grid(*self.ranges["images"])
        values = np.clip(np.rint(given.astype(np.float64) / scale) + zero, -128, 127).astype(np.int64) - zero
        for number in (1, 2):
            values, scale = self._activated(("enc1", number), values, scale)
        skip, skip_scale = values, scale
        count, channels, height, width = values.shape
        values = values.reshape(count, channels, height // 2, 2, width // 2, 2).max(axis=(3, 5))
        for number in (1, 2):
            values, scale = self._activated(("base", number), values, scale)
        sums, step = self._layer("up1", values, scale, doubled)
        both = [self.ranges["enc1.act2"], self.ranges["up1"]]
        to, zero = grid(min(low for low, _ in both), max(high for _, high in both))
        sides = [shifted(skip, skip_scale / to, zero), shifted(sums, step / to, zero)]
        values, scale = np.concatenate(sides, axis=1) - zero, to
        for number in (1, 2):
            values, scale = self._activated(("dec1", number), values, scale)
        sums, step = self._layer("head", values, scale, convolved)
        to, zero = grid(*self.ranges["head"])
        return shifted(sums, step / to, zero) - zero, to


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "hardsigmoid"])
def test_a_network_of_integers_equals_integer_arithmetic(activation):
    network, seen = unet(activation), images()
    made = quantize_int8(network, seen)
    oracle = Integers(network, activation, seen)
    new = images(count=20, seed=9)
    whole, scale = oracle.scores(new)
    with torch.no_grad():
        found = made.network(torch.from_numpy(new)).double().numpy()
    np.testing.assert_array_equal(np.rint(found / scale), whole)
    np.testing.assert_allclose(found, whole * scale, rtol=1e-6)
    assert len(np.unique(whole)) > 20  # they are not all at the ends
    state = made.network.state_dict()
    for name, words in oracle.words.items():
        np.testing.assert_array_equal(state[name].numpy(), words)
    assert made.is_exact and made.grids["head"].scale == pytest.approx(scale)


def test_every_upset_of_every_stored_bit_equals_integer_arithmetic():
    """Weights of 8 bits, biases of 32, all of them, on the torch engine: those beyond 2^24 too."""
    network, seen = unet("hardsigmoid", filters=1), images()
    made = quantize_int8(network, seen)
    oracle = Integers(network, "hardsigmoid", seen)
    some = images(count=1, seed=5, side=4)
    oracle.scores(some)  # the biases are integers from now on
    engine = TorchEngine(made.network, made.stored())
    sizes = {memory.name: (memory.depth, memory.width) for memory in engine.manifest.memories}
    assert set(sizes) == set(oracle.words)
    trials = [
        Fault(name, word, bit)
        for name, (depth, width) in sizes.items()
        for word in range(depth)
        for bit in range(width)
    ]
    changed = 0
    golden = oracle.scores(some)[0]
    for fault, (outputs, _, _) in zip(trials, engine.outcomes(some, [[fault] for fault in trials]), strict=True):
        words, width = oracle.words[fault.memory], sizes[fault.memory][1]
        flat = words.reshape(-1)
        before = flat[fault.word]
        flat[fault.word] = ((int(before) ^ (1 << fault.bit)) + (1 << (width - 1)) & ((1 << width) - 1)) - (
            1 << (width - 1)
        )
        whole, scale = oracle.scores(some)
        flat[fault.word] = before
        changed += bool(np.any(whole != golden))
        np.testing.assert_array_equal(np.rint(outputs / scale), whole, err_msg=str(fault))
    assert 100 < changed < 0.9 * len(trials)


def test_a_wrong_multiplier_would_be_seen():
    network, seen = unet(), images()
    made = quantize_int8(network, seen).network
    module = next(each for each in made.modules() if isinstance(each, Requantize))
    module.factors *= 1.01
    whole, scale = Integers(network, "relu", seen).scores(seen)
    with torch.no_grad():
        assert np.any(np.rint(made(torch.from_numpy(seen)).numpy() / scale) != whole)


# ---- what is stored -------------------------------------------------------------------------------------------------


def test_biases_are_stored_in_32_bits_in_place_or_in_as_many_as_they_need():
    made = quantize_int8(unet(), images())
    memories = {}
    for biases in ("int32", "in-place", "minimal"):
        engine = TorchEngine(quantize_int8(unet(), images()).network, made.stored(biases))
        memories[biases] = {memory.name: memory for memory in engine.manifest.memories}
        assert all(np.array_equal(engine.infer(images()), made.network(torch.from_numpy(images()))) for _ in (0,))
    assert memories["int32"]["head.bias"].format == Int(32) and memories["int32"]["head.bias"].scheme == Plain(32)
    assert memories["in-place"]["head.bias"].scheme == InPlaceSecded(32)
    assert {memory.width for name, memory in memories["in-place"].items() if name.endswith("weight")} == {8}
    for name, memory in memories["minimal"].items():
        if name.endswith("bias"):
            values = made.network.state_dict()[name].numpy()
            half = 1 << (memory.width - 1)
            assert np.all((-half <= values) & (values < half)) and np.any((values < -half // 2) | (values >= half // 2))


def test_a_layer_without_a_bias_has_none_and_adds_nothing():
    torch.manual_seed(1)
    network = nn.Sequential(nn.Conv2d(BANDS, 4, 3, bias=False), nn.ReLU(), nn.Conv2d(4, 2, 1)).eval()
    made = quantize_int8(network, images())
    with torch.no_grad():
        found, expected = made.network(torch.from_numpy(images())), network(torch.from_numpy(images()))
    assert (found - expected).abs().max() < 0.05 * expected.abs().max()
    assert made.bias_bits["0"] == 1 and made.bias_bits["2"] > 1
    weights = made.network.get_submodule("0").weight.detach().double()
    low, high = float(images().min()), float(images().max())
    largest = round((max(0, high) - min(0, low)) / grid(low, high)[0])  # no integer of the grid is larger
    assert 0 < made.largest_sums["0"] <= weights.abs().flatten(1).sum(dim=1).max() * largest
    engine = TorchEngine(made.network, choose := made.stored("minimal"))
    assert [memory.name for memory in engine.manifest.memories] == ["0.weight", "2.weight", "2.bias"]
    assert choose("1.weight", "weight", weights) is None, "of another network"


def test_an_upset_of_a_bias_in_place_is_corrected_and_of_a_plain_one_is_not():
    made = quantize_int8(unet(), images())
    golden = made.network(torch.from_numpy(images())).numpy()
    for biases, is_kept in (("in-place", True), ("int32", False)):
        engine = TorchEngine(quantize_int8(unet(), images()).network, made.stored(biases))
        (kept,) = [
            np.array_equal(each, golden) for each, _, _ in engine.outcomes(images(), [[Fault("head.bias", 0, 24)]])
        ]
        assert kept == is_kept


def test_weights_may_have_a_scheme_too():
    made = quantize_int8(unet(), images())
    engine = TorchEngine(made.network, made.stored(weights=lambda bits: Tmr(bits, 1)))
    assert {m.width for m in engine.manifest.memories if m.role == "weight"} == {10}


def test_biases_that_no_float_has_are_rounded_and_stay_what_they_are():
    """Over 2^24: 24 significant bits; the stored word is that number exactly. Over 31 bits: the end of the range."""
    network = nn.Sequential(nn.Conv2d(1, 3, 1))
    with torch.no_grad():
        network[0].weight[:] = 2e-6
        network[0].bias[:] = torch.tensor([0.5, 1e9, -1e9])
    made = quantize_int8(network, images(channels=1))
    biases = made.network.state_dict()["0.bias"].double().numpy()
    (step,) = made.bias_scales["0"]
    exact = np.rint(np.array([0.5, 1e9, -1e9]) / step)
    assert 2**24 < exact[0] < 2**31 and abs(biases[0] / exact[0] - 1) <= 2.0**-24
    assert biases[1] == 2**31 - 128 and biases[2] == -(2**31) and not made.is_exact
    engine = TorchEngine(made.network, made.stored())
    words = [engine.stored("0.bias").read(word) for word in range(3)]
    assert [word - (word >> 31 << 32) for word in words] == biases.tolist()
    other = quantize_int8(network, images(channels=1))
    with pytest.raises(FormatError, match=r"^words must be values of at most 26 bits under InPlaceSecded\(bits=32\)"):
        TorchEngine(other.network, other.stored("in-place")).images()


# ---- how good it is -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "hardsigmoid"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_the_function_hardly_moves(activation, per_channel):
    network = unet(activation, 4, 2)
    made = quantize_int8(network, images(12), per_channel)
    moved = drift(network, made.network, images(12))
    assert moved.relative < 0.12 and moved.changed_decisions < 0.06 * moved.decisions
    shapes = {name: scales.shape for name, scales in made.weight_scales.items()}
    assert shapes["up1"] == ((4,) if per_channel else (1,)) and shapes["enc1.conv1"] == ((4,) if per_channel else (1,))
    assert all(
        np.abs(value.numpy()).max() == 127 for name, value in made.network.state_dict().items() if "weight" in name
    )


def test_scales_by_channel_are_finer():
    """Where one channel's weights are small: it keeps some of its bits, or hardly one."""
    network = nn.Sequential(nn.Conv2d(BANDS, 2, 3))
    network[0].weight.data[1] *= 0.02
    errors = []
    for per_channel in (False, True):
        made = quantize_int8(network, images(), per_channel)
        found = made.network.state_dict()["0.weight"].numpy() * made.weight_scales["0"][:, None, None, None]
        wanted = network[0].weight.detach().numpy()
        errors.append(np.abs(found - wanted)[1].max() / np.abs(wanted[1]).max())
    assert errors[0] > 0.05 and errors[1] <= 0.5001 / 127


@pytest.mark.parametrize("per_channel", [False, True])
def test_the_engine_follows_faults_of_either_kind(per_channel):
    made = quantize_int8(unet(), images(), per_channel)
    engine = TorchEngine(made.network, made.stored())
    trials = [[Fault(memory.name, 0, memory.width - 2)] for memory in engine.manifest.memories]
    for fault, (outputs, _, _) in zip(trials, engine.outcomes(images(2), trials), strict=True):
        engine.inject(fault)
        np.testing.assert_array_equal(outputs, engine.infer(images(2)))
        engine.restore()


def test_the_network_given_stays_as_it_is():
    network = unet()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    quantize_int8(network, images())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


# ---- grids ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3, 5), (-2, 0), (2, 5), (-5, -2), (-1e-3, 4e5), (0, 0)])
def test_a_grid_has_zero_and_both_ends(low, high):
    found = Grid.over(float(low), float(high))
    numbers = np.arange(found.low, found.high + 1) * found.scale
    assert 0 in numbers and len(numbers) == 256
    for end in (min(low, 0), max(high, 0)):
        assert np.abs(numbers - end).min() <= found.scale / 2 * (1 + 1e-9)


@pytest.mark.parametrize("factor", [1.0, 1 / 3, 0.7, 1e-4, 123.456, 2.0**-29])
def test_multipliers_have_22_bits_and_requantizing_rounds_halves_up(factor):
    found = Fraction(multiplier(factor))
    numerator = found.numerator
    while numerator % 2 == 0:
        numerator //= 2
    assert numerator < 2**22 + 1 and abs(found / Fraction(factor) - 1) < Fraction(1, 2**21)
    sums = np.concatenate([np.random.default_rng(0).integers(-(2**24), 2**24, 500), np.arange(-300, 300)])
    wide = Grid(1.0, 0)
    made = Requantize([factor], wide)(torch.from_numpy(sums.astype(np.float32)))
    half = Fraction(1, 2)
    expected = [max(-128, min(127, (found * int(each) + half).__floor__())) for each in sums]
    assert made.tolist() == expected


# ---- what is refused ------------------------------------------------------------------------------------------------


KINDS = "be a layer, ReLU, Sigmoid, Hardsigmoid, MaxPool2d, Flatten or a concatenation, all as modules"


@pytest.mark.parametrize(
    ("layers", "step", "rule", "kind"),
    [
        ([nn.Conv2d(3, 2, 1), nn.GELU()], "1", KINDS, "GELU"),
        ([nn.Conv2d(3, 2, 1), nn.MaxPool2d(2), nn.ReLU()], "2", "stand right behind a layer", "ReLU"),
    ],
)
def test_other_steps_are_refused(layers, step, rule, kind):
    sentence = f"step {step} must {rule} to be quantized, got {kind}: write it otherwise"
    with pytest.raises(ModelError, match=f"^{re.escape(sentence)}$"):
        quantize_int8(nn.Sequential(*layers), images())


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)

    def forward(self, values):
        values = self.conv(values)
        return values, values


def test_a_layer_is_not_what_it_is_called():
    class Misnamed(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.flatten = nn.Conv2d(BANDS, 2, 1), nn.AvgPool2d(2)

        def forward(self, x):
            return self.flatten(self.conv(x))

    with pytest.raises(ModelError, match=r"^step flatten must be a layer, .*, got AvgPool2d: "):
        quantize_int8(Misnamed().eval(), images())


def test_several_outputs_are_refused():
    with pytest.raises(ModelError, match=r"^step output must be one tensor to be quantized, got output: write it"):
        quantize_int8(Twice(), images())


def test_values_are_finite():
    network = nn.Sequential(nn.Conv2d(3, 2, 1))
    network[0].bias.data[0] = torch.inf
    with pytest.raises(ModelError, match=r"^values of _0 must be finite on the images, got \(.*inf\): look for"):
        quantize_int8(network, images())


def test_images_are_some_and_biases_are_stored_in_a_known_way():
    with pytest.raises(ConfigError, match=r"^images must be at least one, got none: give some"):
        quantize_int8(unet(), images(0))
    with pytest.raises(ConfigError, match=r"^biases must be int32, in-place or minimal, got 'int16': int32 is what"):
        quantize_int8(unet(), images()).stored("int16")
