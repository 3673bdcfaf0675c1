# SPDX-License-Identifier: Apache-2.0
"""What the networks are built from: quantizers, pixel scaling, and batch norm whose gammas start with both signs."""

from __future__ import annotations

import torch
from brevitas.quant import Int8WeightPerTensorFloat, Uint8ActPerTensorFloat
from torch import nn


class Weight4(Int8WeightPerTensorFloat):
    """Signed 4-bit weights, one scale per tensor, -8 allowed (the scale is max |w| / 8)."""

    bit_width = 4
    narrow_range = False


class Activation4(Uint8ActPerTensorFloat):
    """Unsigned 4-bit activations with a learned scale.

    A learned scale is no round number, so no accumulator value lies exactly between two levels: rounding half to even
    (QONNX) and counting thresholds (hardware) then agree on every input.
    """

    bit_width = 4


class PixelScale(nn.Module):
    """Raw pixels 0..255 to the range 0..1, by a power of two: exact in every float format, free in hardware."""

    FACTOR = 2.0**-8

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels times 1/256."""
        return pixels * self.FACTOR


def with_both_signs(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> nn.BatchNorm1d | nn.BatchNorm2d:
    """The same batch norm, gamma = -1 in every second channel: training moves gammas about but keeps most signs.

    A gamma below zero is what breaks the identity of weights in hardware when it is not folded (bitward.rewrites), so
    the networks have many.
    """
    with torch.no_grad():
        norm.weight[1::2] *= -1
    return norm
