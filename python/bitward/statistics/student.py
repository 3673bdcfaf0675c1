# SPDX-License-Identifier: Apache-2.0
"""The mean of a number of trials that was fixed beforehand, values from -1 to 1: Student's interval.

For mean accuracy drops under fault sets, or differences between training seeds, of which few can be had. It supposes
that means of so many values are about normal; `Betting` supposes nothing and is wider. Looked at repeatedly it is void.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import special

from bitward.errors import ConfigError
from bitward.statistics.interval import Interval, alpha_of


def student(values: npt.ArrayLike, confidence: float = 0.95, step: float = 0.0) -> Interval:
    """The mean with Student's interval (Biometrika 6, 1908), cut at -1 and 1.

    `step` is the least difference that two values can have, such as 1 over the number of images. Where values happen to
    be all equal, or nearly, the interval would be a point: their deviation counts as at least that of one value of them
    a step off. This is a convention, with no coverage of its own. One value alone says nothing: -1 to 1.

    >>> found = student([0.1, 0.2, 0.3])
    >>> round(found.estimate, 3), round(found.low, 3), round(found.high, 3)
    (0.2, -0.048, 0.448)
    >>> found = student([0.0] * 100, step=1 / 256)
    >>> f"{found.low:.2g} to {found.high:.2g}"
    '-7.8e-05 to 7.8e-05'
    """
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 1 or not len(found) or not (np.abs(found) <= 1).all():
        raise ConfigError(
            f"values must be at least one, -1 to 1, of shape (trials,), got shape {found.shape}; one mean a fault set"
        )
    alpha, count, mean = alpha_of(confidence), len(found), float(found.mean())
    if count == 1:
        return Interval(-1.0, 1.0, mean, count)
    deviation = max(float(found.std(ddof=1)), step / count**0.5)
    half = float(special.stdtrit(count - 1, 1 - alpha / 2)) * deviation / count**0.5
    return Interval(max(-1.0, mean - half), min(1.0, mean + half), mean, count)
