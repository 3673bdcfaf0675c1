# SPDX-License-Identifier: Apache-2.0
"""How far a fault moved the outputs, whether or not a decision changed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bitward.metrics._pairs import differs, filled_pair


@dataclass(frozen=True)
class LogitDistance:
    """Distances over all images and outputs; the first two in the outputs' own unit, the last without one.

    `relative` is the Euclidean norm of the differences over that of the golden outputs.
    """

    max_abs: float
    mean_abs: float
    relative: float


def logit_distance(golden: npt.ArrayLike, outputs: npt.ArrayLike) -> LogitDistance:
    """How far `outputs` lie from `golden`, any equal shapes.

    Equal values, infinite ones and NaN among them, are at distance 0; from a number to NaN or an infinity it is inf.

    >>> logit_distance([[3.0, 4.0]], [[3.0, 3.0]])
    LogitDistance(max_abs=1.0, mean_abs=0.5, relative=0.2)
    """
    before, after = (array.astype(np.float64) for array in filled_pair(golden, outputs))
    moved = differs(before, after)
    with np.errstate(invalid="ignore", over="ignore"):
        distance = np.where(moved, np.abs(after - before), 0.0)
    distance[moved & ~np.isfinite(distance)] = np.inf
    largest, length = float(distance.max()), float(np.linalg.norm(before[np.isfinite(before)]))
    if largest == 0:
        return LogitDistance(0.0, 0.0, 0.0)
    relative = float(np.linalg.norm(distance.reshape(-1))) / length if length else np.inf
    return LogitDistance(largest, float(distance.mean()), relative)
