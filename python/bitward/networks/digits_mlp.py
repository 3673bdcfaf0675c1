# SPDX-License-Identifier: Apache-2.0
"""A small multilayer perceptron for 8x8 grey images: 64-32-32-10; 4-bit weights and activations."""

from __future__ import annotations

from collections import OrderedDict

from brevitas.nn import QuantIdentity, QuantLinear, QuantReLU
from torch import nn

from bitward.networks import Network
from bitward.networks._blocks import Activation4, PixelScale, Weight4, with_both_signs


def build() -> nn.Module:
    """Untrained: (n, 1, 8, 8) pixels 0..255 to (n, 10) logits, which are integers times one scale."""
    return nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(),
            scale=PixelScale(),
            quant=QuantIdentity(act_quant=Activation4),
            fc1=QuantLinear(64, 32, bias=False, weight_quant=Weight4),
            bn1=with_both_signs(nn.BatchNorm1d(32)),
            relu1=QuantReLU(act_quant=Activation4),
            fc2=QuantLinear(32, 32, bias=False, weight_quant=Weight4),
            bn2=with_both_signs(nn.BatchNorm1d(32)),
            relu2=QuantReLU(act_quant=Activation4),
            fc3=QuantLinear(32, 10, bias=False, weight_quant=Weight4),
        )
    )


NETWORK = Network(
    name="digits_mlp",
    title="MLP for 8x8 digits: 64-32-32-10",
    dataset="digits",
    input_shape=(1, 8, 8),
    input_bits=8,
    weight_bits=4,
    activation_bits=4,
    build=build,
)
