# SPDX-License-Identifier: Apache-2.0
"""A residual network of eight layers for 32x32 colour images: three blocks, global average pooling, dense."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

import torch
from torch import nn

from bitward.networks import Network
from bitward.networks._blocks import PixelScale
from bitward.networks._quantizers import FLOAT, Widths, activation, conv, dense, quantized

WIDTHS = Widths(4, 4)
SUMMAND_BITS = 5  # signed: the shortcut's 4 unsigned bits fit


class Block(nn.Module):
    """relu(quant(bn(conv(x))) + quant(shortcut(x))): both summands pass one quantizer, so they have one scale."""

    def __init__(self, widths: Widths | None, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(widths, inputs, outputs, stride=stride), nn.BatchNorm2d(outputs)
        self.act1 = activation(widths)
        self.conv2, self.bn2 = conv(widths, outputs, outputs), nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            parts = OrderedDict(conv=conv(widths, inputs, outputs, size=1, stride=stride), bn=nn.BatchNorm2d(outputs))
            self.shortcut = nn.Sequential(parts)
        self.summand = quantized(widths, SUMMAND_BITS, signed=True)
        self.act2 = activation(widths)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The block's output, quantized."""
        main = self.bn2(self.conv2(self.act1(self.bn1(self.conv1(x)))))
        result: torch.Tensor = self.act2(self.summand(main) + self.summand(self.shortcut(x)))
        return result


def build(widths: Widths | None) -> nn.Module:
    """Untrained: (n, 3, 32, 32) pixels 0..255 to (n, 10) logits."""
    return nn.Sequential(
        OrderedDict(
            scale=PixelScale(),
            conv=conv(widths, 3, 16),
            bn=nn.BatchNorm2d(16),
            act=activation(widths),
            block1=Block(widths, 16, 16, stride=1),
            block2=Block(widths, 16, 32, stride=2),
            block3=Block(widths, 32, 64, stride=2),
            pool=nn.AdaptiveAvgPool2d(1),
            quant=quantized(widths),
            flatten=nn.Flatten(),
            fc=dense(widths, 64, 10),
        )
    )


NETWORK = Network(
    name="resnet8_cifar",
    title="ResNet-8 for 32x32 colour images: conv (16), residual blocks (16, 32, 64), global average pooling, dense",
    dataset="cifar10",
    input_shape=(3, 32, 32),
    input_bits=8,
    weight_bits=4,
    activation_bits=4,
    build=partial(build, WIDTHS),
    recipe="cifar10",
    seeds=1,
    gammas="positive",
    family="resnet8",
    build_float=partial(build, FLOAT),
    notes=f"summands of residual additions: INT{SUMMAND_BITS}, both of one scale",
)
