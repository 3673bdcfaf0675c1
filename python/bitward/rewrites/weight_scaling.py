# SPDX-License-Identifier: Apache-2.0
"""Weight scaling: weights are stored larger than they are, and divided back when they are read.

What an upset adds to a stored weight is then divided too. (N. Fuengfusin, H. Tamukoh, "Harden Deep Neural Networks
Against Fault Injections Through Weight Scaling", equations 4 to 6.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bitward.errors import ConfigError
from bitward.formats import (
    Q2_5,
    Q2_5_AS_WRITTEN,
    BFloat16,
    Fixed,
    Float16,
    Float32,
    Format,
    ShortBFloat16,
    ShortFloat16,
    ShortFloat32,
)
from bitward.memory import Role
from bitward.schemes import Plain, Scheme

if TYPE_CHECKING:
    import torch

    from bitward.engine.pytorch import Choose, Storage

__all__ = ["Q2_5", "Q2_5_AS_WRITTEN", "WeightScaling", "largest_scaled"]


def largest_scaled(form: Format) -> float:
    """The paper's t for a format: 1.9999 for floating point, 1.97 for Q2.5; for others 0.99 of their largest value.

    In half precision 1.9999 is rounded to 2, so that the largest weight of every layer has an exponent whose upsets are
    huge; 1.999 is the largest t without. bfloat16, which the paper has not, and short formats are given such a one.

    >>> largest_scaled(Float16()), largest_scaled(Q2_5), largest_scaled(BFloat16())
    (1.9999, 1.97, 1.99)
    """
    if isinstance(form, (Float32, Float16)):
        return 1.9999
    if isinstance(form, (BFloat16, ShortBFloat16)):
        return 1.99
    if isinstance(form, (ShortFloat32, ShortFloat16)):
        return 1.999
    if form == Q2_5:
        return 1.97
    if isinstance(form, Fixed):
        return 0.99 * form.highest * form.step
    raise ConfigError(
        f"a format must be a floating or fixed-point one to have weights scaled, got {form}: integer formats have "
        "scales of their own"
    )


@dataclass(frozen=True)
class WeightScaling:
    """Weights W are stored as c*W, with c = t / max|W| of the layer, or of each output channel.

    With `power_of_two` c is the largest power of two that keeps c*max|W| at t or below: nothing is rounded in floating
    point, and hardware needs no multiplier. `t` must be above 0 (None: `largest_scaled` of the format).
    """

    t: float | None = None
    per_channel: bool = False
    power_of_two: bool = False

    def __post_init__(self) -> None:
        if self.t is not None and not (math.isfinite(self.t) and self.t > 0):
            raise ConfigError(f"t must be above 0, got {self.t}: it is the largest weight as stored, 1.9999 for FP32")

    def factors(self, weights: npt.ArrayLike, form: Format) -> npt.NDArray[np.float64]:
        """c, to be broadcast over weights of shape (outputs, ...); 1 where all weights are 0."""
        values = np.abs(np.asarray(weights, dtype=np.float64))
        axes = tuple(range(1, values.ndim)) if self.per_channel else tuple(range(values.ndim))
        largest = values.max(axis=axes, keepdims=True, initial=0.0)
        factors = (largest_scaled(form) if self.t is None else self.t) / np.where(largest > 0, largest, 1.0)
        if self.power_of_two:
            factors = np.exp2(np.floor(np.log2(factors)))
        return np.where(largest > 0, factors, 1.0)

    def storage(self, weights: npt.ArrayLike, form: Format, scheme: Callable[[int], Scheme] = Plain) -> Storage:
        """How the torch engine stores such weights: in the format, under the scheme for its bits, divided when read."""
        from bitward.engine.pytorch import Storage

        return Storage(form, scheme(form.bits), 1 / self.factors(weights, form))

    def choose(
        self, form: Format, scheme: Callable[[int], Scheme] = Plain, roles: Sequence[Role] = ("weight",)
    ) -> Choose:
        """Parameters of those roles so scaled, each tensor by itself, biases by tensor; the others are no memories."""
        whole = replace(self, per_channel=False)

        def chosen(name: str, role: Role, tensor: torch.Tensor) -> Storage | None:
            scaling = self if role == "weight" else whole
            return scaling.storage(tensor.detach().cpu().numpy(), form, scheme) if role in roles else None

        return chosen
