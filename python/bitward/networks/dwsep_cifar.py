# SPDX-License-Identifier: Apache-2.0
"""A depthwise-separable network for 32x32 colour images (as MobileNet is built), a weight scale per channel."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

from torch import nn

from bitward.networks import Network
from bitward.networks._blocks import PixelScale
from bitward.networks._quantizers import FLOAT, Widths, activation, conv, dense, quantized

WIDTHS = Widths(4, 4, per_channel=True)
STEM = 16
BLOCKS = ((32, 1), (64, 2), (64, 1), (128, 2), (128, 1))  # channels and stride of each depthwise-pointwise pair


def build(widths: Widths | None) -> nn.Module:
    """Untrained: (n, 3, 32, 32) pixels 0..255 to (n, 10) logits."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        scale=PixelScale(), conv=conv(widths, 3, STEM), bn=nn.BatchNorm2d(STEM), act=activation(widths)
    )
    inputs = STEM
    for number, (outputs, stride) in enumerate(BLOCKS, 1):
        layers[f"depthwise{number}"] = conv(widths, inputs, inputs, stride=stride, groups=inputs)
        layers[f"depthwise{number}_bn"] = nn.BatchNorm2d(inputs)
        layers[f"depthwise{number}_act"] = activation(widths)
        layers[f"pointwise{number}"] = conv(widths, inputs, outputs, size=1)
        layers[f"pointwise{number}_bn"] = nn.BatchNorm2d(outputs)
        layers[f"pointwise{number}_act"] = activation(widths)
        inputs = outputs
    layers.update(pool=nn.AdaptiveAvgPool2d(1), quant=quantized(widths), flatten=nn.Flatten())
    layers["fc"] = dense(None if widths is None else Widths(widths.weights, widths.activations), inputs, 10)
    return nn.Sequential(layers)


NETWORK = Network(
    name="dwsep_cifar",
    title="Depthwise-separable CNN for 32x32 colour images: conv (16), five depthwise-pointwise pairs (32 to 128), "
    "global average pooling, dense",
    dataset="cifar10",
    input_shape=(3, 32, 32),
    input_bits=8,
    weight_bits=4,
    activation_bits=4,
    build=partial(build, WIDTHS),
    recipe="cifar10-depthwise",
    seeds=1,
    gammas="positive",
    family="dwsep",
    build_float=partial(build, FLOAT),
    notes="weights of convolutions have one scale per output channel",
)
