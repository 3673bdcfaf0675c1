# SPDX-License-Identifier: Apache-2.0
"""How closely two figures go together: Pearson's coefficient with Fisher's interval."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from bitward.errors import ConfigError
from bitward.statistics.interval import Interval, alpha_of


def pearson(left: npt.ArrayLike, right: npt.ArrayLike, confidence: float = 0.95) -> Interval:
    """Pearson's correlation of pairs, -1 to 1, with the interval of Fisher's z (Biometrika 10, 1915; Metron 1, 1921).

    It supposes pairs that are independent and about normal: of parameter sets of one network it describes more than it
    proves. ConfigError: fewer than four pairs, or all values of one side alike.

    >>> found = pearson([1, 2, 3, 4, 5], [2, 4, 5, 4, 5])
    >>> round(found.estimate, 4), round(found.low, 4), round(found.high, 4)
    (0.7746, -0.3401, 0.9842)
    """
    first, second = np.asarray(left, np.float64), np.asarray(right, np.float64)
    if first.ndim != 1 or first.shape != second.shape or len(first) < 4:
        raise ConfigError(
            f"pairs must be four or more of numbers, got shapes {first.shape} and {second.shape}: take more sets"
        )
    apart = first - first.mean(), second - second.mean()
    scale = math.sqrt(float(apart[0] @ apart[0]) * float(apart[1] @ apart[1]))
    if not scale > 0:
        raise ConfigError("pairs must differ on both sides, got all values of one side alike: nothing goes with these")
    found = float(np.clip(apart[0] @ apart[1] / scale, -1, 1))
    if abs(found) == 1:
        return Interval(found, found, found, len(first))
    half = NormalDist().inv_cdf(1 - alpha_of(confidence) / 2) / math.sqrt(len(first) - 3)
    low, high = (math.tanh(math.atanh(found) + sign * half) for sign in (-1, 1))
    return Interval(low, high, found, len(first))
