# SPDX-License-Identifier: Apache-2.0
"""The VGG-like network for CIFAR-10 with 2-bit weights and 4-bit activations."""

from __future__ import annotations

from bitward.networks._vgg import vgg

NETWORK = vgg("vgg_cifar_w2", weight_bits=2, recipe="cifar10-short")
