# SPDX-License-Identifier: Apache-2.0
"""Threshold lists: a chain of float operations that ends in a quantizer, as a staircase over the integers before it.

The level of an integer x is what QONNX's executor makes of float32(scale * x): every threshold is found by bisection
over those float operations themselves, so whatever the activation is, the list answers as the QONNX graph does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bitward.engine.datatypes import IntegerType
from bitward.hardware.lowering.segment import Segment
from bitward.hardware.lowering.values import Value

EXHAUSTIVE = 2**17  # as many integers are tried one by one; of more, those around each threshold
CHUNK = 2**22  # floats evaluated at a time

Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Staircase:
    """Level x -> `type.low` + how many of the channel's `thresholds`, shape (channels or 1, 2^bits - 1), are <= x.

    `tried` integers were compared with the float operations; `different` of them have another level there, at most
    `worst` levels off.
    """

    thresholds: Integers
    type: IntegerType
    tried: int
    different: int
    worst: int
    is_identity: bool


class Levels:
    """The level of an integer, by the float operations: `value`'s pending ones, the last of them a quantizer."""

    def __init__(self, value: Value, kind: IntegerType, scale: NDArray[np.float32], opsets: Mapping[str, int]) -> None:
        self._segment = Segment(value.pending, opsets)
        self._before, self._after, self._low = value.scale, scale.astype(np.float64), kind.low
        wide = any(operation.is_per_channel for operation in value.pending) or value.scale.size > 1 or scale.size > 1
        self.channels = value.channels if wide else 1

    def of(self, integers: Integers) -> Integers:
        """How many levels above the lowest; integers have shape (values, channels)."""
        parts = np.array_split(integers, max(1, integers.size // CHUNK))
        return np.concatenate([self._of(part) for part in parts])

    def _of(self, integers: Integers) -> Integers:
        floats = self._segment.run((integers * self._before).astype(np.float32))
        return np.rint(floats / self._after).astype(np.int64) - self._low


def staircase(value: Value, kind: IntegerType, scale: NDArray[np.float32], opsets: Mapping[str, int]) -> Staircase:
    """The thresholds of a value whose last pending operation quantizes to `kind` with `scale`.

    Levels that no integer reaches have a threshold of high + 1, those that all reach one of low.
    """
    levels = Levels(value, kind, scale, opsets)
    steps = (1 << kind.bits) - 1
    thresholds = _bisect(levels, value.low, value.high, steps)
    tried = different = worst = 0
    is_identity = value.high - value.low < EXHAUSTIVE
    for integers in _samples(value, thresholds):
        expected = levels.of(integers)
        found = _count(thresholds, integers)
        tried += expected.size
        different += int((expected != found).sum())
        worst = max(worst, int(abs(expected - found).max()))
        is_identity = is_identity and bool((found + kind.low == integers).all())
    return Staircase(thresholds, kind, tried, different, worst, is_identity)


def _bisect(levels: Levels, low: int, high: int, steps: int) -> Integers:
    """The least integer of each level from 1 to `steps`, shape (channels, steps); high + 1 where there is none."""
    wanted = np.arange(1, steps + 1)[:, None]
    first = np.full((steps, levels.channels), low, np.int64)
    last = np.full((steps, levels.channels), high + 1, np.int64)
    while (first < last).any():
        middle = np.minimum((first + last) >> 1, high)
        reached = levels.of(middle) >= wanted
        last = np.where(reached, np.minimum(middle, last), last)
        first = np.where(reached, first, np.maximum(middle + 1, first))
        first = np.minimum(first, last)
    return np.ascontiguousarray(first.T)


def _samples(value: Value, thresholds: Integers) -> Iterator[Integers]:
    """Integers to try, shape (values, channels): all of them, or those around the thresholds and at both ends."""
    channels = len(thresholds)
    if value.high - value.low < EXHAUSTIVE:
        for start in range(value.low, value.high + 1, step := max(1, CHUNK // channels)):
            stop = min(start + step, value.high + 1)
            yield np.repeat(np.arange(start, stop, dtype=np.int64)[:, None], channels, axis=1)
        return
    around = (thresholds[:, :, None] + np.arange(-3, 3)).reshape(channels, -1).T
    spread = np.linspace(value.low, value.high, 4096).astype(np.int64)[:, None]
    yield np.clip(around, value.low, value.high)
    yield np.repeat(spread, channels, axis=1)


def _count(thresholds: Integers, integers: Integers) -> Integers:
    """How many thresholds of its channel each integer, shape (values, channels), reaches."""
    columns = [np.searchsorted(row, column, side="right") for row, column in zip(thresholds, integers.T, strict=True)]
    return np.stack(columns, axis=1)
