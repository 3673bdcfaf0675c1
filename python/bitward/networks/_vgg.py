# SPDX-License-Identifier: Apache-2.0
"""VGG-like networks for 32x32 colour images, of any weight width: six 3x3 convolutions, three poolings, dense."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

from torch import nn

from bitward.networks import Network
from bitward.networks._blocks import PixelScale
from bitward.networks._quantizers import FLOAT, Widths, activation, conv, dense

CHANNELS = (16, 16, 32, 32, 64, 64)  # a pooling after every second one
CLASSES = 10


def build(widths: Widths | None) -> nn.Module:
    """Untrained: (n, 3, 32, 32) pixels 0..255 to (n, 10) logits. The 8-bit pixels go straight into conv1."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(scale=PixelScale())
    inputs = 3
    for number, outputs in enumerate(CHANNELS, 1):
        layers[f"conv{number}"] = conv(widths, inputs, outputs)
        layers[f"bn{number}"] = nn.BatchNorm2d(outputs)
        layers[f"act{number}"] = activation(widths)
        if number % 2 == 0:
            layers[f"pool{number // 2}"] = nn.MaxPool2d(2)
        inputs = outputs
    layers["flatten"] = nn.Flatten()
    layers["fc"] = dense(widths, inputs * 4 * 4, CLASSES)
    return nn.Sequential(layers)


def vgg(name: str, weight_bits: int, recipe: str = "cifar10") -> Network:
    """The member of the family with weights of that width; activations have 4 bits in all of them."""
    return Network(
        name=name,
        title="VGG-like CNN for 32x32 colour images: two conv 3x3 (16), pool, two (32), pool, two (64), pool, dense",
        dataset="cifar10",
        input_shape=(3, 32, 32),
        input_bits=8,
        weight_bits=weight_bits,
        activation_bits=4,
        build=partial(build, Widths(weight_bits, 4)),
        recipe=recipe,
        seeds=1,
        gammas="positive",
        family="vgg",
        build_float=partial(build, FLOAT),
    )
