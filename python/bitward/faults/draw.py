# SPDX-License-Identifier: Apache-2.0
"""Draws from numpy's raw PCG64 stream alone, which numpy keeps stable: every machine draws the same numbers.

Beside integers only +, *, / and comparisons of doubles are used, which IEEE 754 fixes to the last bit; logarithms and
numpy's own distributions differ between releases and processors.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from bitward.errors import FormatError

Ranks = npt.NDArray[np.int64]
_REACH_SIGMAS, _REACH_LEAST = 12.0, 60.0  # beyond, all of a binomial together is below 1e-30
_DOUBLE_BITS = 53


def stream(seed: int, name: str) -> np.random.PCG64:
    """The random stream of `name` under `seed`: those of two names have nothing to do with each other."""
    if seed < 0:
        raise FormatError(f"seed must be 0 or more, got {seed}; numpy takes no negative seeds")
    key = np.frombuffer(hashlib.sha256(name.encode()).digest(), dtype="<u4").tolist()
    return np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key))


def shuffled(size: int, count: int, source: np.random.PCG64) -> Ranks:
    """`count` distinct numbers below `size`, all where that is less, in random order: of more, fewer are the start."""
    keys = np.asarray(source.random_raw(size))
    if count >= size:
        return np.argsort(keys, kind="stable")
    lowest = np.sort(np.argpartition(keys, count)[:count])  # a full sort of millions for a handful would be slow
    return lowest[np.argsort(keys[lowest], kind="stable")]


def below(source: np.random.PCG64, size: int, count: int) -> Ranks:
    """`count` numbers, each equally likely any from 0 to `size - 1`: raw bits, masked, those too large thrown away."""
    mask = np.uint64((1 << (size - 1).bit_length()) - 1)
    kept: list[Ranks] = []
    missing = count
    while missing > 0:
        raw = np.atleast_1d(source.random_raw(missing)) & mask
        kept.append(raw[raw < np.uint64(size)].astype(np.int64))
        missing -= len(kept[-1])
    return np.concatenate(kept) if kept else np.zeros(0, np.int64)


def distinct(source: np.random.PCG64, size: int, count: int) -> Ranks:
    """`count` distinct numbers below `size`, ascending; each such set is equally likely.

    Work and memory go with `count`, not with `size`; only a set of more than half is what another one leaves.
    """
    if 2 * count > size:
        return np.delete(np.arange(size), distinct(source, size, size - count))
    drawn = below(source, size, count)
    while True:
        _, first = np.unique(drawn, return_index=True)
        if len(first) >= count:
            return np.sort(drawn[np.sort(first)[:count]])
        drawn = np.concatenate([drawn, below(source, size, count - len(first))])


def fraction(source: np.random.PCG64) -> float:
    """A number from 0 up to, but not, 1, in steps of 2^-53."""
    return float(int(source.random_raw()) >> (64 - _DOUBLE_BITS)) / 2.0**_DOUBLE_BITS


@dataclass(frozen=True)
class Binomial:
    """How many of `size` happen when each does with probability `p`, drawn by inversion of its distribution.

    Probabilities go out from the mode by the ratio of neighbours, P(k+1)/P(k) = (size-k)/(k+1) * p/(1-p), to where all
    that is left is below 1e-30.
    """

    size: int
    p: float

    @cached_property
    def _table(self) -> tuple[int, npt.NDArray[np.float64]]:
        """The least count considered, and the sums of the (unnormalised) probabilities from there on."""
        mode = min(self.size, int((self.size + 1) * self.p))
        reach = int(_REACH_SIGMAS * math.sqrt(self.size * self.p * (1 - self.p)) + _REACH_LEAST)
        low, high = max(0, mode - reach), min(self.size, mode + reach)
        up = np.arange(mode, high, dtype=np.float64)
        down = np.arange(mode, low, -1, dtype=np.float64)
        odds = self.p / (1 - self.p)
        above = np.cumprod((self.size - up) / (up + 1) * odds)
        beneath = np.cumprod(down / (self.size - down + 1) / odds)
        return low, np.cumsum(np.concatenate([beneath[::-1], [1.0], above]))

    def draw(self, source: np.random.PCG64) -> int:
        """One count."""
        if self.p >= 1:
            return self.size
        low, sums = self._table
        return low + int(np.searchsorted(sums, fraction(source) * sums[-1], side="right"))
