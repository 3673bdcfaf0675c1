# SPDX-License-Identifier: Apache-2.0
"""Exponent protection: parameters that one upset away from a filled exponent are moved to a neighbouring one.

A single-precision number below 2 is at risk where its exponent field has seven ones below a leading zero (an upset of
that zero makes it infinite or NaN), or six of these (an upset of the seventh lifts it above 1). Where its mantissa
is nearly empty or nearly full, the value hardly changes if the exponent goes one down or one up. No memory, no
operations. (Gutierrez-Zaballa et al., "Evaluating Single Event Upsets in Deep Neural Networks for Semantic
Segmentation", section 5.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bitward.errors import ConfigError

MANTISSA_BITS = 23
FULL = np.uint32((1 << MANTISSA_BITS) - 1)
DOWN = (0x3F, 0x5F, 0x6F, 0x77, 0x7B, 0x7D, 0x7F)
"""Exponent fields at risk. 0x7E is not one: either neighbour has as many ones, or lies above 2."""
UP = (0x3F, 0x5F, 0x6F, 0x77, 0x7B)
"""Those of them whose upper neighbour has fewer ones: that of 0x7D is 0x7E, that of 0x7F lies above 2."""


@dataclass(frozen=True)
class ProtectionTarget:
    """Which mantissas, 1 to 2, count as empty (at most `lower`) and as full (at least `upper`)."""

    lower: float
    upper: float


PROTECTION_TARGETS = {
    "PT1": ProtectionTarget(1.001, 1.999),
    "PT2": ProtectionTarget(1.01, 1.99),
    "PT3": ProtectionTarget(1.05, 1.95),
    "PT4": ProtectionTarget(1.1, 1.9),
}
"""The paper's protection targets: the higher, the more parameters move, and the further."""


def protect_exponents(
    values: npt.ArrayLike, lower: float, upper: float
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """(values, changed): single-precision values with no exponent at risk whose mantissa is empty or full.

    An empty mantissa, at most `lower`, becomes the largest one of the exponent below; a full one, at least `upper`, 1.0
    of the exponent above, where that has fewer ones. Signs stay; the relative change is at most `lower` - 1 or 2 /
    `upper` - 1, whichever is larger (and half a unit in the last place). Both arrays have the shape of `values`, which
    are left as they are.

    >>> values, changed = protect_exponents([1.0, -0.50001, 1.5], 1.001, 1.999)
    >>> values.tolist(), changed.tolist()
    ([0.9999999403953552, -0.5000100135803223, 1.5], [True, False, False])

    Other numbers are rounded to single precision first. ConfigError unless 1 <= lower < upper <= 2.
    """
    if not 1 <= lower < upper <= 2:
        raise ConfigError(
            f"lower and upper must be 1 <= lower < upper <= 2, got {lower} and {upper}: PT1 is 1.001 and 1.999"
        )
    single = np.array(values, dtype=np.float32)
    words = single.view(np.uint32)
    exponent, mantissa = words >> np.uint32(MANTISSA_BITS) & np.uint32(0xFF), words & FULL
    size = 1 + mantissa.astype(np.float64) / 2.0**MANTISSA_BITS
    down = np.isin(exponent, DOWN) & (size <= lower)
    up = np.isin(exponent, UP) & (size >= upper)
    below = ((words >> np.uint32(MANTISSA_BITS)) - np.uint32(1)) << np.uint32(MANTISSA_BITS) | FULL
    above = ((words >> np.uint32(MANTISSA_BITS)) + np.uint32(1)) << np.uint32(MANTISSA_BITS)
    protected = np.where(down, below, np.where(up, above, words)).astype(np.uint32)
    return protected.view(np.float32), down | up


def at_risk(values: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Which single-precision values have an exponent that one upset fills (but for the one above 2), whatever else."""
    words = np.array(values, dtype=np.float32).view(np.uint32)
    return np.isin(words >> np.uint32(MANTISSA_BITS) & np.uint32(0xFF), DOWN)
