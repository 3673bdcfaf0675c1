# SPDX-License-Identifier: Apache-2.0
"""The segmentation papers' U-Net of five levels with ReLU."""

from bitward.classic._hsi_unet import classic

CLASSIC = classic("hsi_unet_relu", "relu")
