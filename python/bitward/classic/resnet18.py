# SPDX-License-Identifier: Apache-2.0
"""ResNet-18 in its usual form for 32x32 images: a 3x3 stem without pooling (K. He et al., CVPR 2016)."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from bitward.classic import Classic, scaled

STAGES = (64, 128, 256, 512)


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where sizes differ."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.downsample = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, h, w) to (n, outputs, h / stride, w / stride)."""
        main = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(main + self.downsample(x))


def build(classes: int = 10, channels: int = 3, width: float = 1.0) -> nn.Module:
    """Untrained; 11,173,962 parameters at full width for ten classes."""
    inputs = scaled(STAGES[0], width)
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(channels, inputs, 3, 1, 1, bias=False), bn1=nn.BatchNorm2d(inputs), relu=nn.ReLU()
    )
    for number, stage in enumerate(STAGES, 1):
        outputs = scaled(stage, width)
        first = Block(inputs, outputs, 1 if number == 1 else 2)
        layers[f"layer{number}"] = nn.Sequential(first, Block(outputs, outputs, 1))
        inputs = outputs
    layers["avgpool"], layers["flatten"] = nn.AdaptiveAvgPool2d(1), nn.Flatten()
    layers["fc"] = nn.Linear(inputs, classes)
    return nn.Sequential(layers)


CLASSIC = Classic("resnet18", "ResNet-18 for 32x32 images", 32, build)
