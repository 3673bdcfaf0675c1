# SPDX-License-Identifier: Apache-2.0
"""Integer arithmetic in torch's floats: modules between layers whose values are whole numbers of 8 bits.

A value of 8 bits is q, from -128 to 127, and stands for (q - zero) * scale (B. Jacob et al., "Quantization and Training
of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018, equation 1). What the tensors hold is
q - zero: then the padding of a convolution, 0, is the real 0, and no zero point is multiplied with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

LOWEST, HIGHEST = -128, 127
MULTIPLIER_BITS = 22  # times sums of 31 bits and a sign: exact in double precision


@dataclass(frozen=True)
class Grid:
    """Which numbers 8 bits stand for: (q - zero) * scale."""

    scale: float
    zero: int

    @property
    def low(self) -> int:
        """The lowest q - zero."""
        return LOWEST - self.zero

    @property
    def high(self) -> int:
        """The highest."""
        return HIGHEST - self.zero

    @staticmethod
    def over(low: float, high: float) -> Grid:
        """255 equal steps from the lowest to the highest value, widened so that 0 is one of them.

        >>> Grid.over(0.0, 255.0), Grid.over(-51.0, 204.0)
        (Grid(scale=1.0, zero=-128), Grid(scale=1.0, zero=-77))
        """
        low, high = min(low, 0.0), max(high, 0.0)
        if low == high:
            return Grid(1.0, 0)
        scale = (high - low) / (HIGHEST - LOWEST)
        return Grid(scale, max(LOWEST, min(HIGHEST, round(LOWEST - low / scale))))


def multiplier(factor: float) -> float:
    """The factor above 0 as a whole number of at most 22 bits times a power of two: hardware multiplies and shifts.

    >>> multiplier(0.75), multiplier(1 / 3) == 2796203 / 2**23
    (0.75, True)
    """
    share, exponent = math.frexp(factor)
    return math.ldexp(round(math.ldexp(share, MULTIPLIER_BITS)), exponent - MULTIPLIER_BITS)


class QuantizeImages(nn.Module):
    """Images become integers of 8 bits: the nearest, ties to the even one, at most the ends of the grid."""

    treats_channels_alike = True  # for the torch engine

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.grid = grid

    def forward(self, images: Tensor) -> Tensor:
        """Whole numbers."""
        return torch.round(images.double() / self.grid.scale).clamp_(self.grid.low, self.grid.high).float()

    def extra_repr(self) -> str:
        """The grid, as torch prints it."""
        return str(self.grid)


class Requantize(nn.Module):
    """Sums of a layer, or integers of another grid, become integers of 8 bits: times a factor, halves up, clipped.

    With a table its entry of that integer, from the lowest on: any function of 8 bits is one. Equal to integer
    arithmetic for sums of less than 2^31 and factors of at least 2^-30. `factors` are one, or one a channel.
    """

    factors: Tensor
    table: Tensor | None

    def __init__(self, factors: list[float], grid: Grid, table: list[int] | None = None) -> None:
        super().__init__()
        self.grid = grid
        self.treats_channels_alike = len(factors) == 1  # for the torch engine
        self.register_buffer("factors", torch.tensor([multiplier(each) for each in factors], dtype=torch.float64))
        self.register_buffer("table", None if table is None else torch.tensor(table, dtype=torch.float32))

    def forward(self, sums: Tensor) -> Tensor:
        """Whole numbers."""
        factors = self.factors if self.treats_channels_alike else self.factors.view(-1, *[1] * (sums.ndim - 2))
        whole = sums.double().mul_(factors).add_(0.5).floor_().clamp_(self.grid.low, self.grid.high)
        return whole.float() if self.table is None else self.table[whole.sub_(self.grid.low).long()]

    def extra_repr(self) -> str:
        """The grid, as torch prints it."""
        return f"{self.grid}{'' if self.table is None else ', by table'}"


class Dequantize(nn.Module):
    """Integers become the numbers that they stand for."""

    treats_channels_alike = True  # for the torch engine

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.grid = grid

    def forward(self, whole: Tensor) -> Tensor:
        """Multiples of the scale."""
        return whole * self.grid.scale
