# SPDX-License-Identifier: Apache-2.0
"""GoogLeNet (Inception) with batch norm in its usual form for 32x32 images (C. Szegedy et al., CVPR 2015)."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from bitward.classic import Classic, scaled

STEM = 192
STAGES: dict[str, tuple[int, int, int, int, int, int]] = {
    # 1x1; 3x3 reduced, 3x3; second 3x3 reduced, second 3x3; behind pooling
    "inception3a": (64, 96, 128, 16, 32, 32), "inception3b": (128, 128, 192, 32, 96, 64),
    "inception4a": (192, 96, 208, 16, 48, 64), "inception4b": (160, 112, 224, 24, 64, 64),
    "inception4c": (128, 128, 256, 24, 64, 64), "inception4d": (112, 144, 288, 32, 64, 64),
    "inception4e": (256, 160, 320, 32, 128, 128),
    "inception5a": (256, 160, 320, 32, 128, 128), "inception5b": (384, 192, 384, 48, 128, 128),
}  # fmt: skip
POOLED_AFTER = {"inception3b": "maxpool3", "inception4e": "maxpool4"}


class Unit(nn.Sequential):
    """Convolution, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__(OrderedDict(
            conv=nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
            bn=nn.BatchNorm2d(outputs, eps=0.001), relu=nn.ReLU(),
        ))  # fmt: skip


class Inception(nn.Module):
    """Four branches, their channels one behind the other."""

    def __init__(self, inputs: int, sizes: tuple[int, ...]) -> None:
        super().__init__()
        one, reduced, three, reduced_too, three_too, pooled = sizes
        self.branch1 = Unit(inputs, one, 1)
        self.branch2 = nn.Sequential(Unit(inputs, reduced, 1), Unit(reduced, three, 3))
        self.branch3 = nn.Sequential(Unit(inputs, reduced_too, 1), Unit(reduced_too, three_too, 3))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1), Unit(inputs, pooled, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, h, w) to (n, channels of all branches, h, w)."""
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


def build(classes: int = 10, channels: int = 3, width: float = 1.0) -> nn.Module:
    """Untrained, without the auxiliary classifiers of training; its second 3x3 is torchvision's, not a 5x5."""
    inputs = scaled(STEM, width)
    layers: OrderedDict[str, nn.Module] = OrderedDict(conv1=Unit(channels, inputs, 3))
    for name, sizes in STAGES.items():
        chosen = tuple(scaled(size, width) for size in sizes)
        layers[name] = Inception(inputs, chosen)
        inputs = chosen[0] + chosen[2] + chosen[4] + chosen[5]
        if name in POOLED_AFTER:
            layers[POOLED_AFTER[name]] = nn.MaxPool2d(3, 2, 1)
    layers["avgpool"], layers["flatten"], layers["dropout"] = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2)
    layers["fc"] = nn.Linear(inputs, classes)
    return nn.Sequential(layers)


CLASSIC = Classic("googlenet", "GoogLeNet (Inception) for 32x32 images", 32, build)
