# SPDX-License-Identifier: Apache-2.0
"""Keeps weights negatable where batch norm will ask for it, so that sign folding changes nothing.

Sign folding (bitward.rewrites.FoldNegativeScales) negates the weights of every output channel whose batch-norm gamma is
below zero. The lowest weight, -2^(b-1), has no negative in b bits. So training itself keeps that one value out of just
those channels: after each optimizer step their float weights are clamped above the rounding boundary of -2^(b-1). The
quantizer sees the clamp from the next step on, the loss adapts to it, and accuracies are measured with it. All other
channels use the whole range. Folding the exported model is then exact: no weight is widened, saturated or refused.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from brevitas.nn import QuantConv2d, QuantConvTranspose2d, QuantLinear
from torch import nn

NormedLayer = tuple[QuantConv2d | QuantConvTranspose2d | QuantLinear, nn.BatchNorm1d | nn.BatchNorm2d]
LEAST_GAMMA = 1e-3
CLEAR_OF_THE_BOUNDARY = 0.6  # steps above -2^(b-1), of 0.5 needed: rounding in float32 cannot reach it


def normed_layers(network: nn.Module) -> Iterator[NormedLayer]:
    """(quantized layer, batch norm) pairs: each batch norm with the last layer defined before it."""
    layer: QuantConv2d | QuantConvTranspose2d | QuantLinear | None = None
    for module in network.modules():
        if isinstance(module, (QuantConv2d, QuantConvTranspose2d, QuantLinear)):
            layer = module
        elif isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)) and layer is not None:
            yield layer, module
            layer = None


@torch.no_grad()
def keep_negatable(pairs: list[NormedLayer], bits: int) -> None:
    """No weight of a channel with gamma below zero quantizes to -2^(bits-1); all other weights are as they were.

    The scale of a tensor is max |w| / 2^(bits-1). It is taken over what the clamp leaves alone, so one pass is enough.
    """
    lowest = 2 ** (bits - 1)
    for layer, norm in pairs:
        weight = layer.weight
        channels = (norm.weight < 0).reshape(-1, *[1] * (weight.dim() - 1))
        clamped = channels & (weight < 0)
        scale = weight.abs().masked_fill(clamped, 0).max() / lowest
        weight.copy_(torch.where(clamped, weight.clamp(min=-(lowest - CLEAR_OF_THE_BOUNDARY) * scale), weight))


@torch.no_grad()
def keep_positive(pairs: list[NormedLayer]) -> None:
    """No gamma is below `LEAST_GAMMA`: there is no sign to fold, and no channel without a scale."""
    for _, norm in pairs:
        norm.weight.clamp_(min=LEAST_GAMMA)
