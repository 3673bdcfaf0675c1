# SPDX-License-Identifier: Apache-2.0
"""Index maps: which parameter lies in which word (row) and lane of a memory, as mixed-radix digits.

With one digit per axis, word = sum(digit*step) over the word axes, lane = sum(digit*step) over the lane axes, and the
flat index into the parameter tensor (C order) = sum(digit*stride) over both. A stride of 0 counts physical copies; a
digit of negative stride counts down, size - 1 - digit times -stride (the turned kernel of a transposed convolution).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from bitward.errors import ManifestError

Indices = npt.NDArray[np.int64]
Radix = Sequence[tuple[int, int]]
"""Digits of an index, most significant first: (size, stride into the flat parameter tensor)."""


@dataclass(frozen=True)
class Axis:
    """A digit from 0 to `size - 1` that moves `step` words (or lanes) and `stride` parameters, back where below 0."""

    size: int
    step: int
    stride: int

    def __post_init__(self) -> None:
        if self.size < 1 or self.step < 0:
            raise ManifestError(f"an axis must be size >= 1, step >= 0, got {self}; write the map again")


@dataclass(frozen=True)
class IndexMap:
    """`words` rows of `lanes` lanes that hold each of `parameters` parameters once per replica; the rest is dead."""

    words: int
    lanes: int
    parameters: int
    word_axes: tuple[Axis, ...]
    lane_axes: tuple[Axis, ...]

    def __post_init__(self) -> None:
        for what, axes, count in (("word", self.word_axes, self.words), ("lane", self.lane_axes, self.lanes)):
            reach, _, _ = _walk(axes)
            if reach.max() >= count:
                raise ManifestError(f"{what}_axes must stay below {count} {what}s, got {reach.max()}; check {axes}")
            if np.bincount(reach).max() > 1:
                raise ManifestError(f"{what}_axes must reach each {what} once, got one twice; check steps of {axes}")
        index, replica = self.index[self.live], self.replica[self.live]
        if index.max() >= self.parameters:
            raise ManifestError(f"an index must be below {self.parameters}, got {index.max()}; check the axes' strides")
        held = np.bincount(replica * self.parameters + index, minlength=self.replicas * self.parameters)
        if np.any(held != 1):
            wrong = int(np.argmax(held != 1))
            raise ManifestError(
                f"an index map must hold each parameter once per replica, got parameter {wrong % self.parameters} "
                f"{held[wrong]} times; check the axes' strides"
            )

    @property
    def replicas(self) -> int:
        """Physical copies of each parameter."""
        return math.prod(axis.size for axis in (*self.word_axes, *self.lane_axes) if axis.stride == 0)

    @cached_property
    def _tables(self) -> tuple[Indices, Indices]:
        words, word_index, word_replica = _walk(self.word_axes)
        lanes, lane_index, lane_replica = _walk(self.lane_axes)
        index = np.full((self.words, self.lanes), -1, np.int64)
        replica = index.copy()
        lane_replicas = int(lane_replica.max()) + 1
        index[np.ix_(words, lanes)] = word_index[:, None] + lane_index
        replica[np.ix_(words, lanes)] = word_replica[:, None] * lane_replicas + lane_replica
        return index, replica

    @property
    def index(self) -> Indices:
        """Flat parameter index of each slot, shape (words, lanes); -1 where nothing is stored."""
        return self._tables[0]

    @property
    def replica(self) -> Indices:
        """Which physical copy each slot is, shape (words, lanes); -1 where nothing is stored."""
        return self._tables[1]

    @property
    def live(self) -> npt.NDArray[np.bool_]:
        """Which slots hold a parameter, shape (words, lanes)."""
        return np.asarray(self.index >= 0)

    @cached_property
    def slots(self) -> Indices:
        """(word, lane) of each replica of each parameter, shape (replicas, parameters, 2)."""
        slots = np.empty((self.replicas, self.parameters, 2), np.int64)
        word, lane = np.nonzero(self.live)
        slots[self.replica[word, lane], self.index[word, lane]] = np.stack([word, lane], axis=-1)
        return slots


def radix(shape: Sequence[int], dims: Sequence[int]) -> list[tuple[int, int]]:
    """The digits (size, stride) of the tensor dimensions `dims`, most significant first, of a C-ordered `shape`.

    Convolution weights (OC, IC, KH, KW) whose matrix rows run (kh, kw, ic):

    >>> radix((8, 4, 3, 3), (2, 3, 1))
    [(3, 3), (3, 1), (4, 9)]
    """
    return [(shape[dim], math.prod(shape[dim + 1 :])) for dim in dims]


def split_axes(digits: Radix, lanes: int) -> tuple[tuple[Axis, ...], tuple[Axis, ...]]:
    """The word and lane axes of an index k held at word k // lanes, lane k % lanes.

    ManifestError where `lanes` does not divide the whole or cuts through the digits: such a map has no axes.

    >>> split_axes([(6, 1)], 2)
    ((Axis(size=3, step=1, stride=2),), (Axis(size=2, step=1, stride=1),))
    """
    word_axes: list[Axis] = []
    lane_axes: list[Axis] = []
    missing, word_step, lane_step = lanes, 1, 1
    for size, stride in reversed(_merged(digits)):
        inner = math.gcd(size, missing)
        if inner != size and inner != missing:
            break
        missing //= inner
        if inner > 1:
            lane_axes.insert(0, Axis(inner, lane_step, stride))
            lane_step *= inner
        if inner < size:
            word_axes.insert(0, Axis(size // inner, word_step, stride * inner))
            word_step *= size // inner
    else:
        if missing == 1:
            return tuple(word_axes), tuple(lane_axes)
    sizes = [size for size, _ in _merged(digits)]
    raise ManifestError(
        f"lanes must divide digits of sizes {sizes} from the last one up, got {lanes}; fold by a divisor of "
        f"{sizes[-1]}, or by all of it times a divisor of the digit before"
    )


def mvau_axes(outputs: Radix, inputs: Radix, pe: int, simd: int) -> tuple[tuple[Axis, ...], tuple[Axis, ...]]:
    """The word and lane axes of FINN's matrix-vector weights: `outputs` digits folded by `pe`, `inputs` by `simd`.

    Weight (mw, mh) lies at word (mh//PE)*(MW//SIMD) + mw//SIMD, lane (mh%PE)*SIMD + mw%SIMD. With `radix`:
    a convolution (OC, IC, KH, KW) is `mvau_axes(radix(s, (0,)), radix(s, (2, 3, 1)), pe, simd)`; a dense layer
    (IN, OUT) is `mvau_axes(radix(s, (1,)), radix(s, (0,)), pe, simd)`; behind a flattened (C, H, W) map that runs
    (h, w, c) in hardware, take s = (C, H, W, OUT), outputs (3,), inputs (1, 2, 0).
    """
    out_words, out_lanes = split_axes(outputs, pe)
    in_words, in_lanes = split_axes(inputs, simd)
    fold = math.prod(axis.size for axis in in_words)
    words = tuple(Axis(axis.size, axis.step * fold, axis.stride) for axis in out_words) + in_words
    lanes = tuple(Axis(axis.size, axis.step * simd, axis.stride) for axis in out_lanes) + in_lanes
    return words, lanes


def _merged(digits: Radix) -> list[tuple[int, int]]:
    """The same digits with size 1 dropped and neighbours that run on joined."""
    merged: list[tuple[int, int]] = []
    for size, stride in digits:
        if size == 1:
            continue
        if merged and merged[-1][1] == size * stride:
            merged[-1] = (merged[-1][0] * size, stride)
        else:
            merged.append((size, stride))
    return merged or [(1, 0)]


def _walk(axes: Sequence[Axis]) -> tuple[Indices, Indices, Indices]:
    """(position, flat index, replica) of every combination of digits, most significant first."""
    position = index = replica = np.zeros(1, np.int64)
    for axis in axes:
        digit = np.arange(axis.size)
        copy, copies = (digit, axis.size) if axis.stride == 0 else (0 * digit, 1)
        position = (position[:, None] + digit * axis.step).ravel()
        parameters = digit * axis.stride if axis.stride >= 0 else digit[::-1] * -axis.stride
        index = (index[:, None] + parameters).ravel()
        replica = (replica[:, None] * copies + copy).ravel()
    return position, index, replica
