# SPDX-License-Identifier: Apache-2.0
"""Shares of accuracy as people read them: in points."""

from __future__ import annotations

from bitward.statistics import Interval


def points(share: float, decimals: int = 2) -> str:
    """A share of accuracy in points.

    >>> points(0.1234), points(-0.00049), points(-0.00001)
    ('12.34', '-0.05', '0.00')
    """
    text = f"{100 * share:.{decimals}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def with_interval(found: Interval) -> str:
    """A drop with its interval, in points.

    >>> with_interval(Interval(0.01, 0.03, 0.02, 9))
    '2.00 [1.00, 3.00]'
    """
    return f"{points(found.estimate)} [{points(found.low)}, {points(found.high)}]"
