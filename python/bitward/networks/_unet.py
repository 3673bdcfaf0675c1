# SPDX-License-Identifier: Apache-2.0
"""U-Nets of any depth and width, with any activation function whose values are at least 0."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from bitward.networks import Network
from bitward.networks._blocks import PixelScale
from bitward.networks._quantizers import FLOAT, Widths, activation, conv, quantized, up_conv


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


@dataclass(frozen=True)
class Shape:
    """How large a U-Net is: filters by level, the bottom's last; bands of its images; classes.

    Pixels of `pixel_bits` feed the first layer: 8-bit ones as they are for None.
    """

    channels: tuple[int, ...]
    bands: int
    classes: int
    pixel_bits: int | None = None

    @property
    def levels(self) -> int:
        """How often height and width are halved."""
        return len(self.channels) - 1


class UNet(nn.Module):
    """enc1 down to deep, up to dec1, and head; both operands of a concatenation pass one activation quantizer.

    So they have one scale.
    """

    def __init__(self, widths: Widths | None, function: type[nn.Module], shape: Shape) -> None:
        super().__init__()
        self.levels = shape.levels
        stage, act = partial(Stage, widths, function), partial(activation, widths, function)
        self.scale = PixelScale()
        self.quant = nn.Identity() if shape.pixel_bits is None else quantized(widths, shape.pixel_bits)
        inputs = shape.bands
        for level, outputs in enumerate(shape.channels[:-1], 1):
            self.add_module(f"enc{level}", stage(inputs, outputs))
            self.add_module(f"skip{level}", act())
            inputs = outputs
        self.pool = nn.MaxPool2d(2)
        self.deep, self.deep_act = stage(inputs, shape.channels[-1]), act()
        inputs = shape.channels[-1]
        for level in range(self.levels, 0, -1):
            outputs = shape.channels[level - 1]
            self.add_module(f"up{level}", Up(widths, inputs, outputs))
            self.add_module(f"dec{level}", stage(2 * outputs, outputs))
            self.add_module(f"dec{level}_act", act())
            inputs = outputs
        self.head = conv(widths, inputs, shape.classes, size=1)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, bands, height, width) pixels 0..255 to (n, classes, height, width) scores; sides halve `levels` times."""
        part, skips = self.get_submodule, []
        x = self.quant(self.scale(pixels))
        for level in range(1, self.levels + 1):
            skips.append(part(f"skip{level}")(part(f"enc{level}")(x)))
            x = self.pool(skips[-1])
        x = self.deep_act(self.deep(x))
        for level in range(self.levels, 0, -1):
            both = torch.cat([part(f"skip{level}")(part(f"up{level}")(x)), skips[level - 1]], dim=1)
            x = part(f"dec{level}_act")(part(f"dec{level}")(both))
        scores: torch.Tensor = self.head(x)
        return scores


WIDTHS = Widths(4, 4)
SCENES = Shape(channels=(8, 16, 32), bands=1, classes=11, pixel_bits=4)
ROADS = Shape(channels=(8, 16, 32, 64), bands=25, classes=6)


def unet(name: str, function: type[nn.Module]) -> Network:
    """The U-Net for digit scenes with that activation function; weights and activations have 4 bits."""
    return _member(name, function, SCENES, "digit_scenes", (32, 32), "32x32 grey scenes", "digit_scenes", "unet")


def roads_unet(name: str, function: type[nn.Module]) -> Network:
    """The U-Net for hyperspectral road scenes: 8-bit pixels of 25 bands feed the first layer, the rest has 4 bits.

    A small one of the form of the segmentation papers' (bitward.classic has theirs in floats).
    """
    images = "32x64 road scenes of 25 bands"
    return _member(name, function, ROADS, "synthetic_hsi_roads", (32, 64), images, "roads_unet", "roads_unet")


def _member(
    name: str, function: type[nn.Module], shape: Shape, dataset: str, size: tuple[int, int], images: str, recipe: str,
    family: str,
) -> Network:  # fmt: skip
    """All of a family start from one float network with ReLU: from random weights, those with a sigmoid stay at "all is
    background" for long, as gradients fade in so deep a stack of them.
    """
    levels = ", ".join(map(str, shape.channels[:-1]))
    number = {2: "two", 3: "three"}[shape.levels]
    return Network(
        name=name,
        title=f"U-Net for {images}, {function.__name__}: {number} levels ({levels}), bottom ({shape.channels[-1]}), "
        "transposed convolutions, 1x1 head",
        dataset=dataset,
        input_shape=(shape.bands, *size),
        input_bits=8,
        weight_bits=WIDTHS.weights,
        activation_bits=WIDTHS.activations,
        build=partial(UNet, WIDTHS, function, shape),
        recipe=recipe,
        seeds=1,
        gammas="positive",
        family=family,
        build_float=partial(UNet, FLOAT, nn.ReLU, shape),
    )
