# SPDX-License-Identifier: Apache-2.0
"""Networks so small that every stored bit of them can be flipped: random, untrained, with what is hardest to lower.

Every batch norm has gammas of both signs, and every layer a weight of -2^(b-1) in a channel whose gamma is positive (a
channel with a negative one cannot have it: it has no negative).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from brevitas.nn import QuantConv2d, QuantIdentity, QuantLinear, QuantReLU
from torch import nn

from bitward.networks import Network
from bitward.networks._blocks import Activation4, PixelScale, Weight4, with_both_signs
from bitward.rewrites import save_model
from bitward.train._foldable import keep_negatable, normed_layers
from bitward.train.export import to_qonnx

LOWEST = -8


@dataclass(frozen=True)
class SmallNetwork:
    """An exported network; `folded` holds each layer's integers by name, shaped as torch has them, signs folded."""

    path: Path
    input_shape: tuple[int, ...]
    folded: dict[str, np.ndarray]

    def images(self, count: int, seed: int = 0) -> np.ndarray:
        """Random pixels, as the ONNX graph takes them."""
        random = np.random.default_rng(seed)
        return random.integers(0, 256, (count, *self.input_shape)).astype(np.float32)


def dense() -> tuple[tuple[int, ...], nn.Module]:
    """12 - 6 - 4, dense."""
    layers = OrderedDict(
        flatten=nn.Flatten(),
        scale=PixelScale(),
        quant=QuantIdentity(act_quant=Activation4),
        fc1=QuantLinear(12, 6, bias=False, weight_quant=Weight4),
        bn1=with_both_signs(nn.BatchNorm1d(6)),
        relu1=QuantReLU(act_quant=Activation4),
        fc2=QuantLinear(6, 4, bias=False, weight_quant=Weight4),
    )
    return (1, 3, 4), nn.Sequential(layers)


def convolutional() -> tuple[tuple[int, ...], nn.Module]:
    """Conv 3x3 (1 to 4 channels, padded), max pool, dense to 3."""
    layers = OrderedDict(
        scale=PixelScale(),
        quant=QuantIdentity(act_quant=Activation4),
        conv=QuantConv2d(1, 4, kernel_size=3, padding=1, bias=False, weight_quant=Weight4),
        bn=with_both_signs(nn.BatchNorm2d(4)),
        relu=QuantReLU(act_quant=Activation4),
        pool=nn.MaxPool2d(2),
        flatten=nn.Flatten(),
        fc=QuantLinear(16, 3, bias=False, weight_quant=Weight4),
    )
    return (1, 4, 4), nn.Sequential(layers)


def two_convolutions() -> tuple[tuple[int, ...], nn.Module]:
    """Conv 3x3 (2 to 4 channels, not padded), conv 2x2 (to 6), dense to 2; no pooling."""
    layers = OrderedDict(
        scale=PixelScale(),
        quant=QuantIdentity(act_quant=Activation4),
        conv1=QuantConv2d(2, 4, kernel_size=3, bias=False, weight_quant=Weight4),
        bn1=with_both_signs(nn.BatchNorm2d(4)),
        relu1=QuantReLU(act_quant=Activation4),
        conv2=QuantConv2d(4, 6, kernel_size=2, bias=False, weight_quant=Weight4),
        bn2=with_both_signs(nn.BatchNorm2d(6)),
        relu2=QuantReLU(act_quant=Activation4),
        flatten=nn.Flatten(),
        fc=QuantLinear(24, 2, bias=False, weight_quant=Weight4),
    )
    return (2, 5, 5), nn.Sequential(layers)


def export(design: tuple[tuple[int, ...], nn.Module], path: Path, seed: int) -> SmallNetwork:
    """The network with random parameters drawn from `seed`, calibrated on random pixels, as QONNX at `path`."""
    input_shape, network = design
    torch.manual_seed(seed)
    _randomise(network)
    with torch.no_grad():
        for _ in range(30):  # scales of activations come from what is seen first
            network.train()(torch.randint(0, 256, (32, *input_shape)).float())
    network.eval()
    described = Network("small", "small", "random", input_shape, 8, 4, 4, lambda: network)
    save_model(to_qonnx(network, described), path)
    return SmallNetwork(path, input_shape, dict(_folded(network)))


@torch.no_grad()
def _randomise(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, (QuantConv2d, QuantLinear)):
            module.weight.copy_(torch.randn_like(module.weight))
            module.weight.view(-1)[1] = -1.5 * module.weight.abs().max()  # -8, in channel 0
        elif isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            sign = torch.where(torch.arange(len(module.weight)) % 2 == 0, 1.0, -1.0)
            module.weight.copy_(sign * (0.5 + torch.rand(len(module.weight))))
            module.bias.copy_(0.3 * torch.randn(len(module.bias)))
    keep_negatable(list(normed_layers(network)), 4)


def _folded(network: nn.Module) -> Iterable[tuple[str, np.ndarray]]:
    """(layer, integers), rows of channels with a negative gamma negated: the oracle of sign folding and lowering."""
    pairs = {id(layer): norm for layer, norm in normed_layers(network)}
    for name, module in network.named_modules():
        if isinstance(module, (QuantConv2d, QuantLinear)):
            integers = module.quant_weight().int().numpy().astype(np.int64)
            assert integers.min() == LOWEST
            norm = pairs.get(id(module))
            if norm is not None:
                sign = np.sign(norm.weight.detach().numpy()).astype(np.int64)
                assert -1 in sign and LOWEST not in integers[sign < 0]
                integers = integers * sign.reshape(-1, *[1] * (integers.ndim - 1))
            yield name, integers
