# SPDX-License-Identifier: Apache-2.0
"""Bisection of many monotone questions at once: numbers of faults, or null means between 0 and 1."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from bitward.statistics.interval import Floats

Integers = npt.NDArray[np.int64]
Answers = npt.NDArray[np.bool_]
HALVINGS = 34  # to 6e-11 of the range; ends are rounded outwards


def first_true(holds: Callable[[Integers], Answers], least: Integers, most: Integers) -> Integers:
    """The least integer of each range where `holds` is true, if it is true from there on and at `most`."""
    low, high = np.array(least, np.int64), np.array(most, np.int64)
    while np.any(low < high):
        middle = low + (high - low) // 2
        answer = holds(middle)
        low, high = np.where(answer, low, np.minimum(middle + 1, high)), np.where(answer, middle, high)
    return high


def last_excluded(excluded: Callable[[Floats], Answers], inside: Floats, outside: Floats) -> Floats:
    """The point of each range next to `inside`, to 6e-11 of the range, that is `excluded`; `outside` where none is.

    Every point between the one found and `outside` is taken to be excluded as well.
    """
    near, far = np.array(inside, np.float64), np.array(outside, np.float64)
    for _ in range(HALVINGS):
        middle = (near + far) / 2
        answer = excluded(middle)
        near, far = np.where(answer, near, middle), np.where(answer, middle, far)
    return far
