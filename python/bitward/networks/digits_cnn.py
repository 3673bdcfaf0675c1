# SPDX-License-Identifier: Apache-2.0
"""A small convolutional network for 8x8 grey images: conv, pool, conv, pool, dense; 4-bit weights and activations."""

from __future__ import annotations

from collections import OrderedDict

from brevitas.nn import QuantConv2d, QuantIdentity, QuantLinear, QuantReLU
from torch import nn

from bitward.networks import Network
from bitward.networks._blocks import Activation4, PixelScale, Weight4, with_both_signs


def build() -> nn.Module:
    """Untrained: (n, 1, 8, 8) pixels 0..255 to (n, 10) logits, which are integers times one scale."""
    return nn.Sequential(
        OrderedDict(
            scale=PixelScale(),
            quant=QuantIdentity(act_quant=Activation4),
            conv1=QuantConv2d(1, 8, kernel_size=3, padding=1, bias=False, weight_quant=Weight4),
            bn1=with_both_signs(nn.BatchNorm2d(8)),
            relu1=QuantReLU(act_quant=Activation4),
            pool1=nn.MaxPool2d(2),
            conv2=QuantConv2d(8, 16, kernel_size=3, padding=1, bias=False, weight_quant=Weight4),
            bn2=with_both_signs(nn.BatchNorm2d(16)),
            relu2=QuantReLU(act_quant=Activation4),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc=QuantLinear(64, 10, bias=False, weight_quant=Weight4),
        )
    )


NETWORK = Network(
    name="digits_cnn",
    title="CNN for 8x8 digits: conv 3x3 (8), pool, conv 3x3 (16), pool, dense",
    dataset="digits",
    input_shape=(1, 8, 8),
    input_bits=8,
    weight_bits=4,
    activation_bits=4,
    build=build,
)
