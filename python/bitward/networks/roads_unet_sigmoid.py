# SPDX-License-Identifier: Apache-2.0
"""The U-Net for hyperspectral road scenes with Sigmoid."""

from __future__ import annotations

from torch import nn

from bitward.networks._unet import roads_unet

NETWORK = roads_unet("roads_unet_sigmoid", nn.Sigmoid)
