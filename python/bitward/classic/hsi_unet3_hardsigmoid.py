# SPDX-License-Identifier: Apache-2.0
"""The segmentation papers' U-Net with Hard Sigmoid, of three levels: for small scenes."""

from bitward.classic._hsi_unet import classic

CLASSIC = classic("hsi_unet3_hardsigmoid", "hardsigmoid", depth=3)
