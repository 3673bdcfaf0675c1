# SPDX-License-Identifier: Apache-2.0
"""StoredMVAU_rtl: a matrix times every vector of the stream, the matrix from stored words."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from bitward.engine.datatypes import Stream
from bitward.engine.ops._op import Attributes, Parameters, StoredOp, builds, stored_in
from bitward.engine.order import Indices, Narrow, Order
from bitward.manifest import Memory

BLOCK_ELEMENTS = 1 << 17  # of vectors that are multiplied together: they stay in the cache as floats


@dataclass(frozen=True)
class Matrix(StoredOp):
    """Vectors of `rows` elements become vectors of `columns` sums, kept modulo 2^(width of `result`).

    The weight of input mw and output mh is lane (mh % pe)*simd + mw % simd of word
    (mh // pe)*(rows // simd) + mw // simd: the order in which FINN's unit takes its weight stream.
    """

    rows: int
    columns: int
    pe: int
    simd: int

    @property
    def gives(self) -> tuple[Order | None, ...]:
        return (Order.of(self.columns),)

    def arranged(self, integers: npt.NDArray[np.int64]) -> Parameters:
        """The matrix, shape (rows, columns), int64."""
        weights = integers.reshape(self.columns // self.pe, self.rows // self.simd, self.pe, self.simd)
        return weights.transpose(1, 3, 0, 2).reshape(self.rows, self.columns)

    def ready(self, parameters: Parameters | None, elements: int) -> Any:
        return np.asarray(parameters).astype(self.exact_type())

    def hit(self, source: Stream, result: Stream, parameters: Parameters, index: Indices, value: Indices) -> Narrow:
        row, column = np.unravel_index(index, parameters.shape)
        step = value - parameters[row, column]
        kind = self._sum_type()
        vectors, sums = source.reshape(len(source), -1, self.rows), result.reshape(len(result), -1, self.columns)
        moved = np.multiply(vectors.take(row, axis=2), step.astype(kind), dtype=kind)
        moved += sums.take(column, axis=2)
        return self._kept(moved)

    def spreads(self, order: Order) -> bool:
        """Does each channel of a source in that order meet rows of its own, the same ones of every vector?"""
        return order.lanes == order.channels and self.rows % order.channels == 0

    def spread(self, result: Stream, ready: Any, channels: Indices, differences: Stream, order: Order) -> Stream:
        """The result of rows whose channel `channels[r]` of the source, in that order, differs by `differences[r]`.

        `result` is theirs without the differences, shape (rows, outputs), `differences` (rows, elements a channel).
        """
        places = self.rows // order.channels
        weights = ready.reshape(places, order.channels, self.columns)
        kind = self.exact_type(2)
        taken = differences.reshape(len(differences), -1, places).astype(kind)
        moved = np.empty((len(taken), taken.shape[1], self.columns), kind)
        for channel in np.unique(channels):
            rows = np.flatnonzero(channels == channel)
            of_channel = np.ascontiguousarray(weights[:, channel], kind)
            sums = taken[rows].reshape(-1, places) @ of_channel
            moved[rows] = sums.reshape(len(rows), -1, self.columns)
        return self.plus(result, moved)

    def plus(self, result: Stream, moved: npt.NDArray[Any]) -> Stream:
        """Kept sums that move by these whole numbers, as they are kept then."""
        sums: npt.NDArray[Any] = moved.reshape(result.shape).astype(self._sum_type())
        return self._kept(np.add(sums, result, out=sums))

    def run(self, stream: Stream, parameters: Parameters | None) -> Stream:
        return self._product(stream, self.ready(parameters, stream.size))

    def apply_ready(self, streams: tuple[Stream, ...], ready: Any) -> tuple[Stream, ...]:
        return (self._product(streams[0], ready),)

    def _product(self, stream: Stream, weights: Any) -> Stream:
        vectors = stream.reshape(-1, self.rows)
        sums = np.empty((len(vectors), self.columns), self.result.dtype)
        at_once = max(1, BLOCK_ELEMENTS // self.rows)
        for start in range(0, len(vectors), at_once):
            block = slice(start, start + at_once)
            sums[block] = self._kept(vectors[block].astype(weights.dtype) @ weights)
        return sums.reshape(len(stream), self.outputs)

    @cached_property
    def _largest(self) -> int:
        """No sum of a vector is further from 0, whatever the weights."""
        return self.rows * max(-self.source.low, self.source.high) << (self.memory.scheme.bits - 1)

    def exact_type(self, times: int = 1) -> type[Any]:
        """A type in which no partial sum of so many vectors' elements, in any order, is rounded.

        int64 at the worst, exact modulo 2^64.
        """
        bound = self._largest * times
        return np.float32 if bound < 1 << 24 else np.float64 if bound < 1 << 53 else np.int64

    def _sum_type(self) -> type[np.int32] | type[np.int64]:
        """An integer type that holds a kept sum and twice the largest one; int64 at the worst, exact modulo 2^64."""
        return np.int32 if 2 * self._largest + (1 << self.result.bits) < 1 << 31 else np.int64

    def _kept(self, sums: npt.NDArray[Any]) -> Stream:
        """The sums as the accumulator keeps them."""
        if -self._largest >= self.result.low and self._largest <= self.result.high:
            return sums.astype(self.result.dtype, copy=False)  # it holds them all
        return self.result.wrap(sums.astype(np.int64))


@builds("StoredMVAU_rtl")
def matrix(attributes: Attributes, memory: Memory | None) -> Matrix:
    """The operator of a StoredMVAU_rtl node."""
    attributes.require("noActivation", 1, default=0)
    attributes.require("binaryXnorMode", 0, default=0)
    attributes.require("TH", 1, default=1)
    rows, columns = attributes.number("MW"), attributes.number("MH")
    pe, simd = attributes.number("PE"), attributes.number("SIMD")
    vectors = attributes.size("numInputVectors", (1,))
    op = Matrix(
        node=attributes.node,
        inputs=vectors * rows,
        outputs=vectors * columns,
        source=attributes.type("inputDataType"),
        result=attributes.type("outputDataType"),
        memory=stored_in(attributes, memory),
        rows=rows,
        columns=columns,
        pe=pe,
        simd=simd,
    )
    bits = attributes.type("weightDataType").bits
    op.check_rows(depth=(columns // pe) * (rows // simd), lanes=pe * simd, bits=bits)
    return op
