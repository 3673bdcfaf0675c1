# SPDX-License-Identifier: Apache-2.0
"""Weight scaling: weights are stored larger than they are, and divided back when they are read.

What an upset adds to a stored weight is then divided too. (N. Fuengfusin, H. Tamukoh, "Harden Deep Neural Networks
Against Fault Injections Through Weight Scaling", equations 4 to 6.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bitward.errors import ConfigError
from bitward.formats import Fixed, Float16, Float32, Format
from bitward.memory import Role
from bitward.schemes import Plain, Scheme

if TYPE_CHECKING:
    import torch

    from bitward.engine.pytorch import Choose, Storage

Q2_5 = Fixed(8, 6)
"""The paper's "Q2.5" by its range, -2 to 1.984375: two integer bits, the sign among them, and six of a fraction."""
Q2_5_AS_WRITTEN = Fixed(8, 5)
"""The same by its words, "1-bit sign, 2-bit integer, and 5-bit fraction": -4 to 3.96875."""


def largest_scaled(form: Format) -> float:
    """The paper's t for a format: 1.9999 for floating point, 1.97 for Q2.5; for others 0.99 of their largest value.

    >>> largest_scaled(Float16()), largest_scaled(Q2_5)
    (1.9999, 1.97)
    """
    if isinstance(form, (Float32, Float16)):
        return 1.9999
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
        """Parameters of those roles so scaled, each tensor by itself; the others are no memories."""

        def chosen(name: str, role: Role, tensor: torch.Tensor) -> Storage | None:
            return self.storage(tensor.detach().cpu().numpy(), form, scheme) if role in roles else None

        return chosen
