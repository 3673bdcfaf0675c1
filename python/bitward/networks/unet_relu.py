# SPDX-License-Identifier: Apache-2.0
"""The U-Net for digit scenes with ReLU."""

from __future__ import annotations

from torch import nn

from bitward.networks._unet import unet

NETWORK = unet("unet_relu", nn.ReLU)
