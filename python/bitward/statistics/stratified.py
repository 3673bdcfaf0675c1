# SPDX-License-Identifier: Apache-2.0
"""The mean over a population that was sampled stratum by stratum, each at a rate of its own.

Two named fixed-n intervals of a share ("union", "mover"), and `StratifiedSequence`, an anytime-valid one of any mean,
whatever chooses the next stratum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from bitward.errors import ConfigError, nearest
from bitward.statistics.fixed import finite_limits
from bitward.statistics.interval import Floats, Interval, alpha_of
from bitward.statistics.methods import sequence

StratifiedMethod = Literal["union", "mover"]


@dataclass(frozen=True)
class StratumTrials:
    """Of a stratum's `size` faults, `trials` different ones were drawn at random and tried; `hits` counted."""

    size: int
    trials: int
    hits: int

    def __post_init__(self) -> None:
        if not 0 <= self.hits <= self.trials <= self.size or self.trials < 1:
            raise ConfigError(
                f"a stratum must have 0 <= hits <= trials <= size and at least one trial, got {self}; try every stratum"
            )


def stratified_share(
    strata: Sequence[StratumTrials], confidence: float = 0.95, method: StratifiedMethod = "union"
) -> Interval:
    """The share of all faults that are hits, each stratum weighted by its size, for numbers of trials fixed beforehand.

    "union" adds the strata's finite-population intervals, each at alpha / K: it covers at least nominally whatever the
    rates (union bound), and is wide for many strata. "mover" adds the distances from the share to the strata's limits
    in squares (G. Y. Zou, A. Donner, Stat. Med. 27 (2008)): narrower, nominal in simulation, not guaranteed.
    """
    if method not in get_args(StratifiedMethod):
        raise ConfigError(f"method must be a known one, got {method!r}; {nearest(method, get_args(StratifiedMethod))}")
    if not strata:
        raise ConfigError("strata must be at least one, got none; run trials first")
    size, trials, hits = (np.array([getattr(part, name) for part in strata]) for name in ("size", "trials", "hits"))
    low, high, share = stratified_limits(hits, trials, size, alpha_of(confidence), method)
    return Interval(float(low), float(high), float(share), int(trials.sum()))


def stratified_limits(
    hits: npt.ArrayLike, trials: npt.ArrayLike, sizes: npt.ArrayLike, alpha: float, method: StratifiedMethod
) -> tuple[Floats, Floats, Floats]:
    """(low, high, share) of many campaigns at once: arrays that broadcast, strata along the last axis."""
    found, tried, size = (np.asarray(array, np.int64) for array in (hits, trials, sizes))
    weight, share = size / size.sum(axis=-1, keepdims=True), found / tried
    low, high = finite_limits(found, tried, size, alpha / size.shape[-1] if method == "union" else alpha)
    mean = np.sum(weight * share, axis=-1)
    if method == "union":
        return np.sum(weight * low, axis=-1), np.sum(weight * high, axis=-1), mean
    below, above = (np.sqrt(np.sum((weight * (share - end)) ** 2, axis=-1)) for end in (low, high))
    return np.maximum(mean - below, 0), np.minimum(mean + above, 1), mean


class StratifiedSequence:
    """An anytime-valid interval of the population's mean: the strata's confidence sequences, each at alpha / K, added.

    By the union bound all K sequences hold at once, so any rule may choose the stratum of the next trial (Neyman's from
    what was seen so far, say), and the campaign may stop whenever it likes. Within a stratum trials come in random
    order; `replaced` says that they are drawn independently.
    """

    def __init__(
        self, sizes: Sequence[int], method: str = "betting", confidence: float = 0.95, replaced: bool = False
    ) -> None:
        if not sizes or min(sizes) < 1:
            raise ConfigError(f"sizes must be one or more of at least 1, got {list(sizes)}; leave empty strata out")
        each = 1 - alpha_of(confidence) / len(sizes)
        self.weights = [size / sum(sizes) for size in sizes]
        self.strata = [sequence(method, each, None if replaced else size) for size in sizes]

    def update(self, stratum: int, values: npt.ArrayLike) -> None:
        """The next trials' values of one stratum, by its number, are part of the estimate."""
        if not 0 <= stratum < len(self.strata):
            raise ConfigError(f"stratum must be 0 to {len(self.strata) - 1}, got {stratum}; count them as sizes does")
        self.strata[stratum].update(values)

    def interval(self) -> Interval:
        """Where the population's mean is; its estimate is NaN until every stratum has a trial."""
        found = [part.interval() for part in self.strata]
        low, high, mean = (
            math.fsum(weight * getattr(part, end) for weight, part in zip(self.weights, found, strict=True))
            for end in ("low", "high", "estimate")
        )
        return Interval(max(low, 0.0), min(high, 1.0), mean, sum(part.trials for part in found))
