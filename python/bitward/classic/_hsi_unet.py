# SPDX-License-Identifier: Apache-2.0
"""The U-Net of the segmentation papers: any depth, number of filters, bands, classes and activation function.

Two 3x3 convolutions, each with bias, batch norm and activation, per level; 2x2 maximum pooling down, 2x2 transposed
convolutions up, skip connections by concatenation, a 1x1 convolution as output. (O. Ronneberger et al., MICCAI 2015, as
in J. Gutierrez-Zaballa et al., "Evaluating Single Event Upsets in Deep Neural Networks for Semantic Segmentation",
section 3.1, and "Designing DNNs for a trade-off between robustness and processing performance in embedded devices".)
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

import torch
from torch import nn

from bitward.classic import Classic, scaled
from bitward.errors import ConfigError

FILTERS, DEPTH = 32, 5
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU, "sigmoid": nn.Sigmoid, "hardsigmoid": nn.Hardsigmoid,
}  # fmt: skip
"""Hard Sigmoid is torch's, min(max(x / 6 + 1/2, 0), 1); older Keras has x / 5 + 1/2."""


class Level(nn.Sequential):
    """conv1, bn1, act1, conv2, bn2, act2: 3x3 convolutions that keep height and width."""

    def __init__(self, inputs: int, outputs: int, function: type[nn.Module]) -> None:
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        for number, taken in enumerate((inputs, outputs), start=1):
            parts[f"conv{number}"] = nn.Conv2d(taken, outputs, 3, padding=1)
            parts[f"bn{number}"] = nn.BatchNorm2d(outputs)
            parts[f"act{number}"] = function()
        super().__init__(parts)


class HsiUNet(nn.Module):
    """enc1 to encD, base, then upD, decD to up1, dec1, and head; filters double from level to level."""

    def __init__(self, bands: int, classes: int, filters: int, depth: int, function: type[nn.Module]) -> None:
        super().__init__()
        self.depth = depth
        inputs = bands
        for level in range(1, depth + 1):
            outputs = filters << (level - 1)
            self.add_module(f"enc{level}", Level(inputs, outputs, function))
            self.add_module(f"pool{level}", nn.MaxPool2d(2))
            inputs = outputs
        self.base = Level(inputs, filters << depth, function)
        for level in range(depth, 0, -1):
            outputs = filters << (level - 1)
            self.add_module(f"up{level}", nn.ConvTranspose2d(2 * outputs, outputs, 2, stride=2))
            self.add_module(f"dec{level}", Level(2 * outputs, outputs, function))
        self.head = nn.Conv2d(filters, classes, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(n, bands, height, width) to (n, classes, height, width) scores; sides are multiples of 2^depth."""
        skips = []
        values = images
        for level in range(1, self.depth + 1):
            values = self.get_submodule(f"enc{level}")(values)
            skips.append(values)
            values = self.get_submodule(f"pool{level}")(values)
        values = self.base(values)
        for level in range(self.depth, 0, -1):
            values = self.get_submodule(f"up{level}")(values)
            values = self.get_submodule(f"dec{level}")(torch.cat([skips[level - 1], values], dim=1))
        scores: torch.Tensor = self.head(values)
        return scores


def hsi_unet(bands: int, classes: int, filters: int = FILTERS, depth: int = DEPTH, activation: str = "relu") -> HsiUNet:
    """Untrained. 31,113,030 parameters, and 12,032 statistics of batch norm, for 25 bands and six classes.

    The papers say 31.14 and 31.13 million. ConfigError: a size below 1, or an activation that is none of ACTIVATIONS.
    """
    for name, value in (("bands", bands), ("classes", classes), ("filters", filters), ("depth", depth)):
        if value < 1:
            raise ConfigError(f"{name} of a U-Net must be at least 1, got {value}: the papers' has 32 filters, depth 5")
    if activation not in ACTIVATIONS:
        raise ConfigError(f"activation of a U-Net must be one of {', '.join(ACTIVATIONS)}, got {activation!r}: mend it")
    return HsiUNet(bands, classes, filters, depth, ACTIVATIONS[activation])


def _build(classes: int, channels: int, width: float, depth: int, activation: str) -> nn.Module:
    return hsi_unet(channels, classes, scaled(FILTERS, width), depth, activation)


def classic(name: str, activation: str, depth: int = DEPTH) -> Classic:
    """The entry of that name: 32 filters at full width, sides of multiples of 2^depth."""
    return Classic(
        name,
        f"U-Net for hyperspectral scenes, {ACTIVATIONS[activation].__name__}, {depth} levels",
        size=32,
        build=partial(_build, depth=depth, activation=activation),
        least=2**depth,
        recipe="hsi_unet" if activation == "relu" else "hsi_unet-bounded",
        labelled="pixel",
        multiple=2**depth,
    )
