# SPDX-License-Identifier: Apache-2.0
"""Outputs with and without a fault, checked to be of one shape."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bitward.errors import FormatError


def pair(golden: npt.ArrayLike, outputs: npt.ArrayLike) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Both as arrays of one shape with at least one axis; FormatError otherwise."""
    before, after = np.asarray(golden), np.asarray(outputs)
    if before.shape != after.shape or before.ndim == 0:
        raise FormatError(f"outputs must be of the golden shape {before.shape}, got {after.shape}; compare equal sets")
    return before, after


def filled_pair(golden: npt.ArrayLike, outputs: npt.ArrayLike) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """As `pair`, of at least one value: a share of nothing is no number."""
    before, after = pair(golden, outputs)
    if before.size == 0:
        raise FormatError(f"outputs must be at least one, got shape {after.shape}; give at least one image")
    return before, after


def differs(before: npt.NDArray[Any], after: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Where two arrays differ. NaN equals NaN: it is the same output."""
    return np.asarray((before != after) & ~((before != before) & (after != after)))
