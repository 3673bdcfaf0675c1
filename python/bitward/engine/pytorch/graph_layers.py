# SPDX-License-Identifier: Apache-2.0
"""Modules for nodes of QONNX graphs that torch has none for, in single precision as in qonnx's executor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bitward.formats import Int


class Quantizer(nn.Module):
    """Values become the nearest of 2^bits steps, ties to the even one: QONNX's Quant (Pappalardo et al. 2022).

    `treats_channels_alike`: one scale and zero point for all.
    """

    scale: Tensor
    zero_point: Tensor

    def __init__(self, scale: Tensor, zero_point: Tensor, bits: int, is_signed: bool, is_narrow: bool) -> None:
        super().__init__()
        self.register_buffer("scale", scale)
        self.register_buffer("zero_point", zero_point)
        self.bits, self.is_signed = bits, is_signed
        self.low = float(-(1 << bits - 1) + is_narrow if is_signed else 0)
        self.high = float((1 << bits - 1) - 1 if is_signed else (1 << bits) - 1 - is_narrow)
        self.treats_channels_alike = scale.numel() == 1 and zero_point.numel() == 1

    def forward(self, values: Tensor) -> Tensor:
        """The nearest steps."""
        steps = torch.clamp(values / self.scale + self.zero_point, self.low, self.high)
        return (torch.round(steps) - self.zero_point) * self.scale


class Bounded(nn.Module):
    """alpha*x + beta, at least 0 and at most 1: ONNX's HardSigmoid."""

    treats_channels_alike = True

    def __init__(self, alpha: float, beta: float) -> None:
        super().__init__()
        self.alpha, self.beta = alpha, beta

    def forward(self, values: Tensor) -> Tensor:
        """The line between its bounds."""
        return torch.clamp(values * self.alpha + self.beta, 0.0, 1.0)


class Thresholds(nn.Module):
    """How many thresholds of its channel an element reaches, times `out_scale`, plus `out_bias`: MultiThreshold.

    `threshold` has shape (channels, steps), or (1, steps) for all channels.
    """

    treats_channels_alike = False
    threshold: Tensor

    def __init__(self, threshold: Tensor, out_scale: float, out_bias: float) -> None:
        super().__init__()
        self.register_buffer("threshold", threshold)
        self.out_scale, self.out_bias = out_scale, out_bias

    def forward(self, values: Tensor) -> Tensor:
        """The number of thresholds, scaled."""
        lists = self.threshold.reshape(1, len(self.threshold), *[1] * (values.ndim - 2), -1)
        return (values.unsqueeze(-1) >= lists).sum(dim=-1).to(values.dtype) * self.out_scale + self.out_bias

    def integers(self) -> Int | None:
        """The narrowest integers that hold all thresholds; None where some are no integers, or need over 32 bits."""
        values = self.threshold.double()
        bound = float(values.abs().max()) + 1
        if bool(torch.any(values != torch.round(values))) or bound >= 1 << 31:
            return None
        return Int(int(bound).bit_length() + 1)


class Constant(nn.Module):
    """A value and a constant: their sum, difference, product or quotient.

    `first` or `second` is the constant, whichever is not None. What is added is a bias.
    """

    def __init__(self, op: str, first: npt.NDArray[Any] | None, second: npt.NDArray[Any] | None) -> None:
        super().__init__()
        held = first if second is None else second
        tensor = torch.from_numpy(np.array(held, dtype=np.float32))
        self._name = "bias" if op == "Add" else "value"
        self.register_buffer(self._name, tensor)
        self.compute, self.is_first = FUNCTIONS[op], second is None
        self.treats_channels_alike = tensor.numel() == 1

    def forward(self, values: Tensor) -> Tensor:
        """The result, value by value."""
        held = getattr(self, self._name)
        return self.compute(held, values) if self.is_first else self.compute(values, held)


FUNCTIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Add": torch.add, "Sub": torch.sub, "Mul": torch.mul, "Div": torch.div,
}  # fmt: skip
