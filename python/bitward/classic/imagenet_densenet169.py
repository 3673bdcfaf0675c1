# SPDX-License-Identifier: Apache-2.0
"""DenseNet-169 for 224x224 images (G. Huang et al., "Densely Connected Convolutional Networks", CVPR 2017): 14,149,480
parameters with a thousand classes.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from bitward.classic import Classic, scaled

DEPTHS, GROWTH, STEM, INNER = (6, 12, 32, 32), 32, 64, 4


class DenseLayer(nn.Module):
    """`growth` channels more, made of all before: batch norm, 1x1 convolution, batch norm, 3x3 convolution."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.norm1, self.relu1 = nn.BatchNorm2d(inputs), nn.ReLU()
        self.conv1 = nn.Conv2d(inputs, INNER * growth, 1, bias=False)
        self.norm2, self.relu2 = nn.BatchNorm2d(INNER * growth), nn.ReLU()
        self.conv2 = nn.Conv2d(INNER * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, h, w) to (n, inputs + growth, h, w)."""
        new = self.conv2(self.relu2(self.norm2(self.conv1(self.relu1(self.norm1(x))))))
        return torch.cat([x, new], 1)


def build(classes: int = 1000, channels: int = 3, width: float = 1.0) -> nn.Module:
    """Untrained: a pooled stem, four dense blocks with transitions that halve channels and sides, a dense layer."""
    growth, inputs = scaled(GROWTH, width), scaled(STEM, width)
    features: OrderedDict[str, nn.Module] = OrderedDict(
        conv0=nn.Conv2d(channels, inputs, 7, 2, 3, bias=False), norm0=nn.BatchNorm2d(inputs), relu0=nn.ReLU(),
        pool0=nn.MaxPool2d(3, 2, 1),
    )  # fmt: skip
    for number, depth in enumerate(DEPTHS, 1):
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            (f"denselayer{place + 1}", DenseLayer(inputs + place * growth, growth)) for place in range(depth)
        )
        features[f"denseblock{number}"] = nn.Sequential(layers)
        inputs += depth * growth
        if number < len(DEPTHS):
            features[f"transition{number}"] = nn.Sequential(OrderedDict(
                norm=nn.BatchNorm2d(inputs), relu=nn.ReLU(), conv=nn.Conv2d(inputs, inputs // 2, 1, bias=False),
                pool=nn.AvgPool2d(2),
            ))  # fmt: skip
            inputs //= 2
    features["norm5"] = nn.BatchNorm2d(inputs)
    return nn.Sequential(OrderedDict(
        features=nn.Sequential(features), relu=nn.ReLU(), avgpool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(),
        classifier=nn.Linear(inputs, classes),
    ))  # fmt: skip


CLASSIC = Classic("imagenet_densenet169", "DenseNet-169 for 224x224 images", 224, build, least=32)
