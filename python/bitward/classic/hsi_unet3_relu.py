# SPDX-License-Identifier: Apache-2.0
"""The segmentation papers' U-Net with ReLU, of three levels: for small scenes."""

from bitward.classic._hsi_unet import classic

CLASSIC = classic("hsi_unet3_relu", "relu", depth=3)
