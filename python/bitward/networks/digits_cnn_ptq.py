# SPDX-License-Identifier: Apache-2.0
"""A convolutional network for 8x8 grey images as `digits_cnn`, trained in floats and quantized without retraining."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

from torch import nn

from bitward.networks import Network
from bitward.networks._blocks import PixelScale
from bitward.networks._quantizers import FLOAT, Widths, activation, conv, dense, quantized


def build(widths: Widths | None) -> nn.Module:
    """Untrained: (n, 1, 8, 8) pixels 0..255 to (n, 10) logits."""
    return nn.Sequential(
        OrderedDict(
            scale=PixelScale(),
            quant=quantized(widths),
            conv1=conv(widths, 1, 8),
            bn1=nn.BatchNorm2d(8),
            act1=activation(widths),
            pool1=nn.MaxPool2d(2),
            conv2=conv(widths, 8, 16),
            bn2=nn.BatchNorm2d(16),
            act2=activation(widths),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc=dense(widths, 64, 10),
        )
    )


NETWORK = Network(
    name="digits_cnn_ptq",
    title="CNN for 8x8 digits, quantized after training: conv 3x3 (8), pool, conv 3x3 (16), pool, dense",
    dataset="digits",
    input_shape=(1, 8, 8),
    input_bits=8,
    weight_bits=4,
    activation_bits=4,
    build=partial(build, Widths(4, 4)),
    recipe="digits-ptq",
    gammas="positive",
    family="digits_cnn_float",
    build_float=partial(build, FLOAT),
)
