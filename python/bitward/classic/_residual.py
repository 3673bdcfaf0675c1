# SPDX-License-Identifier: Apache-2.0
"""Residual networks for 224x224 images (K. He et al., "Deep Residual Learning for Image Recognition", CVPR 2016)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from bitward.classic import scaled
from bitward.classic.resnet18 import STAGES, Block


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut; the stride is the 3x3's."""

    expansion = 4

    def __init__(self, inputs: int, inner: int, stride: int) -> None:
        super().__init__()
        outputs = self.expansion * inner
        self.conv1, self.bn1 = nn.Conv2d(inputs, inner, 1, bias=False), nn.BatchNorm2d(inner)
        self.conv2, self.bn2 = nn.Conv2d(inner, inner, 3, stride, 1, bias=False), nn.BatchNorm2d(inner)
        self.conv3, self.bn3 = nn.Conv2d(inner, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.downsample = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, h, w) to (n, 4 * inner, h / stride, w / stride)."""
        main = self.relu(self.bn1(self.conv1(x)))
        main = self.relu(self.bn2(self.conv2(main)))
        return self.relu(self.bn3(self.conv3(main)) + self.downsample(x))


def residual(
    block: type[Block] | type[Bottleneck], depths: Sequence[int], classes: int, channels: int, width: float
) -> nn.Module:
    """Untrained: a 7x7 stem with pooling, four stages of so many blocks, an average, a dense layer."""
    expansion = getattr(block, "expansion", 1)
    inputs = scaled(STAGES[0], width)
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(channels, inputs, 7, 2, 3, bias=False), bn1=nn.BatchNorm2d(inputs), relu=nn.ReLU(),
        maxpool=nn.MaxPool2d(3, 2, 1),
    )  # fmt: skip
    for number, (stage, depth) in enumerate(zip(STAGES, depths, strict=True), 1):
        inner, blocks = scaled(stage, width), []
        for place in range(depth):
            blocks.append(block(inputs, inner, 2 if place == 0 and number > 1 else 1))
            inputs = expansion * inner
        layers[f"layer{number}"] = nn.Sequential(*blocks)
    layers["avgpool"], layers["flatten"] = nn.AdaptiveAvgPool2d(1), nn.Flatten()
    layers["fc"] = nn.Linear(inputs, classes)
    return nn.Sequential(layers)
