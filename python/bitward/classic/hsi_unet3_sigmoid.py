# SPDX-License-Identifier: Apache-2.0
"""The segmentation papers' U-Net with Sigmoid, of three levels: for small scenes."""

from bitward.classic._hsi_unet import classic

CLASSIC = classic("hsi_unet3_sigmoid", "sigmoid", depth=3)
