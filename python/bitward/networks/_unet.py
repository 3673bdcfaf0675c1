# SPDX-License-Identifier: Apache-2.0
"""U-Nets of two levels for 32x32 grey scenes, with any activation function whose values are at least 0."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from bitward.networks import Network
from bitward.networks._blocks import PixelScale
from bitward.networks._quantizers import FLOAT, Widths, activation, conv, quantized, up_conv

CHANNELS = (8, 16, 32)
CLASSES = 11


class Stage(nn.Sequential):
    """Two 3x3 convolutions, each with batch norm; the last activation is the caller's (a skip shares it)."""

    def __init__(self, widths: Widths | None, function: type[nn.Module], inputs: int, outputs: int) -> None:
        super().__init__()
        self.add_module("conv1", conv(widths, inputs, outputs))
        self.add_module("bn1", nn.BatchNorm2d(outputs))
        self.add_module("act1", activation(widths, function))
        self.add_module("conv2", conv(widths, outputs, outputs))
        self.add_module("bn2", nn.BatchNorm2d(outputs))


class Up(nn.Sequential):
    """A 2x2 transposed convolution that doubles height and width, with batch norm."""

    def __init__(self, widths: Widths | None, inputs: int, outputs: int) -> None:
        super().__init__()
        self.add_module("conv", up_conv(widths, inputs, outputs))
        self.add_module("bn", nn.BatchNorm2d(outputs))


class UNet(nn.Module):
    """Two levels down, two up; both operands of a concatenation pass one activation quantizer: they have one scale."""

    def __init__(self, widths: Widths | None, function: type[nn.Module]) -> None:
        super().__init__()
        top, middle, deep = CHANNELS
        stage = partial(Stage, widths, function)
        self.scale, self.quant = PixelScale(), quantized(widths)
        self.enc1, self.skip1 = stage(1, top), activation(widths, function)
        self.enc2, self.skip2 = stage(top, middle), activation(widths, function)
        self.pool = nn.MaxPool2d(2)
        self.deep, self.deep_act = stage(middle, deep), activation(widths, function)
        self.up2, self.dec2, self.dec2_act = (
            Up(widths, deep, middle),
            stage(2 * middle, middle),
            activation(widths, function),
        )
        self.up1, self.dec1, self.dec1_act = Up(widths, middle, top), stage(2 * top, top), activation(widths, function)
        self.head = conv(widths, top, CLASSES, size=1)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, 1, 32, 32) pixels 0..255 to (n, 11, 32, 32) scores of the classes of every pixel."""
        skip1 = self.skip1(self.enc1(self.quant(self.scale(pixels))))
        skip2 = self.skip2(self.enc2(self.pool(skip1)))
        x = self.deep_act(self.deep(self.pool(skip2)))
        x = self.dec2_act(self.dec2(torch.cat([self.skip2(self.up2(x)), skip2], dim=1)))
        x = self.dec1_act(self.dec1(torch.cat([self.skip1(self.up1(x)), skip1], dim=1)))
        scores: torch.Tensor = self.head(x)
        return scores


def unet(name: str, function: type[nn.Module]) -> Network:
    """The U-Net with that activation function; weights and activations have 4 bits.

    All start from one float network with ReLU: from random weights, those with a sigmoid stay at "all is background"
    for long, as gradients fade in so deep a stack of them.
    """
    return Network(
        name=name,
        title=f"U-Net for 32x32 grey scenes, {function.__name__}: two levels ({CHANNELS[0]}, {CHANNELS[1]}), "
        f"bottom ({CHANNELS[2]}), transposed convolutions, 1x1 head",
        dataset="digit_scenes",
        input_shape=(1, 32, 32),
        input_bits=8,
        weight_bits=4,
        activation_bits=4,
        build=partial(UNet, Widths(4, 4), function),
        recipe="digit_scenes",
        seeds=1,
        gammas="positive",
        family="unet",
        build_float=partial(UNet, FLOAT, nn.ReLU),
    )
