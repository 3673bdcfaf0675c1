# SPDX-License-Identifier: Apache-2.0
"""Quantizers of any width, with scales so short that the float arithmetic of a QONNX graph is exact.

A convolution in QONNX adds floats: integers times the weights' scale times the activations' scale. Scales of few
significant bits make every one of these sums exactly representable in float32 (24 bits), in whatever order they are
added. So Brevitas, any ONNX runtime and the integers of the hardware agree on every image, not only on most.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
from brevitas.core.function_wrapper.misc import Abs, InplaceAbs
from brevitas.core.scaling import PowerOfTwoIntScaling
from brevitas.nn import QuantConv2d, QuantConvTranspose2d, QuantIdentity, QuantLinear
from brevitas.quant import Int8ActPerTensorFloat, Int8WeightPerTensorFloat, Uint8ActPerTensorFloat
from torch import nn

STATISTICS_STEPS = 30  # batches whose percentiles decide where a learned scale starts
PERCENTILE = 99.9


class ShortScale(nn.Module):
    """Restricts a scale to `significant_bits` bits: k * 2^n with k below 2^significant_bits, the nearest, above 0.

    The gradient passes as if nothing were rounded. The method names are Brevitas' (its `FloatRestrictValue`).
    """

    def __init__(self, significant_bits: int) -> None:
        super().__init__()
        self.significant_bits = significant_bits

    def restrict_init_float(self, x: float) -> float:
        """Where a constant start value goes through: its magnitude."""
        return abs(x)

    def restrict_init_tensor(self, x: torch.Tensor) -> torch.Tensor:
        """Where a tensor of start values goes through: its magnitude."""
        return torch.abs(x)

    def restrict_init_module(self) -> nn.Module:
        """The same, as a module."""
        return Abs()

    def restrict_init_inplace_module(self) -> nn.Module:
        """The same, in place."""
        return InplaceAbs()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The nearest short value of |x|."""
        size = torch.abs(x)
        mantissa, exponent = torch.frexp(size.detach())
        short = torch.ldexp(torch.round(torch.ldexp(mantissa, torch.tensor(self.significant_bits))), exponent)
        rounded = torch.ldexp(short, torch.tensor(-self.significant_bits))
        return size + (rounded - size).detach() if size.requires_grad else rounded


@dataclass(frozen=True)
class Widths:
    """The widths of a network's weights and activations; `per_channel` gives each output channel a weight scale."""

    weights: int = 4
    activations: int = 4
    per_channel: bool = False


FLOAT: Widths | None = None  # no quantizers at all: what quantization-aware training starts from


def weight_quantizer(widths: Widths | None) -> type | None:
    """Signed weights of the whole range, -2^(b-1) included; None for floats.

    Above 4 bits scales are powers of two: wide words need the room that a longer scale would take in a float's 24 bits.
    """
    if widths is None:
        return None
    attributes = {
        "bit_width": widths.weights,
        "narrow_range": False,
        "scaling_per_output_channel": widths.per_channel,
        "significant_bits": 4 if widths.weights <= 4 else 1,
        "restrict_scaling_impl": ShortScale,
    }
    return type(f"Weight{widths.weights}", (Int8WeightPerTensorFloat,), attributes)


def levels(bits: int, signed: bool = False) -> QuantIdentity:
    """An activation quantizer with one learned scale."""
    attributes = {
        "bit_width": bits,
        "narrow_range": False,
        "collect_stats_steps": STATISTICS_STEPS,
        "high_percentile_q": PERCENTILE,
        "significant_bits": 4,
        "restrict_scaling_impl": ShortScale,
        "int_scaling_impl": PowerOfTwoIntScaling,
    }
    base = Int8ActPerTensorFloat if signed else Uint8ActPerTensorFloat
    return QuantIdentity(act_quant=type(f"Activation{bits}", (base,), attributes))


def quantized(widths: Widths | None, bits: int | None = None, signed: bool = False) -> nn.Module:
    """`levels` of `bits` (default: the activations' width), or nothing where the network is one of floats."""
    return nn.Identity() if widths is None else levels(bits or widths.activations, signed)


def activation(widths: Widths | None, function: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """An activation function whose values are at least 0, then its quantizer."""
    return nn.Sequential(OrderedDict(function=function(), quant=quantized(widths)))


def conv(
    widths: Widths | None, inputs: int, outputs: int, size: int = 3, stride: int = 1, groups: int = 1
) -> QuantConv2d:
    """A convolution without bias, padded by size // 2."""
    return QuantConv2d(
        inputs, outputs, kernel_size=size, stride=stride, padding=size // 2, groups=groups, bias=False,
        weight_quant=weight_quantizer(widths),
    )  # fmt: skip


def up_conv(widths: Widths | None, inputs: int, outputs: int) -> QuantConvTranspose2d:
    """A transposed convolution without bias that doubles height and width: 2x2, stride 2."""
    return QuantConvTranspose2d(
        inputs, outputs, kernel_size=2, stride=2, bias=False, weight_quant=weight_quantizer(widths)
    )


def dense(widths: Widths | None, inputs: int, outputs: int) -> QuantLinear:
    """A dense layer without bias."""
    return QuantLinear(inputs, outputs, bias=False, weight_quant=weight_quantizer(widths))
