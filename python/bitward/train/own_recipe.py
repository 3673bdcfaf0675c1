# SPDX-License-Identifier: Apache-2.0
"""What is said of a network of the user's own: where it is, what it takes, how it is quantized. No torch is needed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Bits:
    """Widths of weights, of activations, and of what the network takes."""

    weights: int
    activations: int
    input: int = 8


@dataclass(frozen=True)
class Own:
    """How a network of the user's own is made: `source` is FILE.py:FUNCTION or a MODULE:FUNCTION that takes nothing.

    It takes (pixel / (2^bits - 1) - mean) / deviation, per channel or for all, or `raw` pixels. `epochs` of training
    follow its quantization.
    """

    source: str
    weights: Path | None = None
    bits: Bits = Bits(4, 4)
    epochs: int = 0
    raw: bool = False
    mean: tuple[float, ...] = (0.0,)
    deviation: tuple[float, ...] = (1.0,)
    seed: int = 0
