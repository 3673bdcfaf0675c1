# SPDX-License-Identifier: Apache-2.0
"""How many trials each stratum gets."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bitward.errors import ConfigError
from bitward.statistics._bisect import Integers
from bitward.statistics.interval import Floats, as_values


def pilot_deviation(values: npt.ArrayLike) -> float:
    """The standard deviation of a stratum's values, from a pilot; never 0: no hit in ten trials is not no hit ever.

    sqrt((1/4 + sum (x - mean)^2) / (n + 1)): one more value is assumed, at the largest variance there is.

    >>> pilot_deviation([]), round(pilot_deviation([0] * 99), 6)
    (0.5, 0.05)
    """
    found = as_values(values)
    squares = float(((found - found.mean()) ** 2).sum()) if len(found) else 0.0
    return float(np.sqrt((0.25 + squares) / (len(found) + 1)))


def allocate(sizes: npt.ArrayLike, trials: int, deviations: npt.ArrayLike | None = None, least: int = 1) -> Integers:
    """`trials` split over strata of `sizes` faults, at least `least` each (all faults of one that has fewer).

    Without `deviations` in proportion to the sizes; with them (of each stratum's values, see `pilot_deviation`) in
    proportion to size times deviation, which makes the variance of the stratified mean least (J. Neyman, J. R. Stat.
    Soc. 97 (1934)). No stratum gets more trials than it has faults: what is over goes to the others.

    >>> allocate([100, 900], 50).tolist(), allocate([100, 900], 50, [0.5, 0.05]).tolist()
    ([5, 45], [26, 24])
    """
    size = np.asarray(sizes, np.int64)
    spread = np.ones(len(size)) if deviations is None else np.asarray(deviations, np.float64)
    if size.ndim != 1 or not len(size) or (size < 1).any():
        raise ConfigError(f"sizes must be one or more of at least 1, got {size.tolist()}; leave empty strata out")
    if spread.shape != size.shape or not (spread > 0).all():
        raise ConfigError(f"deviations must be {len(size)} above 0, got {spread.tolist()}; take pilot_deviation's")
    fewest = np.minimum(size, least)
    if not fewest.sum() <= trials <= size.sum():
        raise ConfigError(
            f"trials must be {fewest.sum()} to {size.sum()} for {len(size)} strata with at least {least} each, got "
            f"{trials}; change trials or least"
        )
    wanted = _bounded(size * spread, fewest, size, trials)
    return _rounded(wanted, size, trials)


def _bounded(weights: Floats, fewest: Integers, most: Integers, total: int) -> Floats:
    """Shares in proportion to the weights between their bounds, whose sum is `total`: the scale is bisected."""
    low, high = 0.0, float((most / weights).max())
    for _ in range(100):
        middle = (low + high) / 2
        if np.clip(middle * weights, fewest, most).sum() < total:
            low = middle
        else:
            high = middle
    return np.asarray(np.clip(high * weights, fewest, most))


def _rounded(wanted: Floats, most: Integers, total: int) -> Integers:
    """Whole numbers next to `wanted` whose sum is `total`: the largest remainders are rounded up."""
    whole = np.minimum(np.floor(wanted + 1e-9).astype(np.int64), most)
    order = np.argsort(whole - wanted, kind="stable")
    room = order[whole[order] < most[order]]
    whole[room[: total - int(whole.sum())]] += 1
    return whole
