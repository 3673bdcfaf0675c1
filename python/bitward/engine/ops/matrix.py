# SPDX-License-Identifier: Apache-2.0
"""StoredMVAU_rtl: a matrix times every vector of the stream, the matrix from stored words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bitward.engine.datatypes import Stream
from bitward.engine.images import Image
from bitward.engine.ops._op import Attributes, Parameters, StoredOp, builds, signed_words, stored_in
from bitward.manifest import Memory


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

    def parameters(self, image: Image) -> Parameters:
        """The matrix, shape (rows, columns), int64."""
        words = self.words(image).reshape(self.columns // self.pe, self.rows // self.simd, self.pe, self.simd)
        weights = signed_words(words, self.memory.scheme.bits)
        return weights.transpose(1, 3, 0, 2).reshape(self.rows, self.columns)

    def run(self, stream: Stream, parameters: Parameters | None) -> Stream:
        kind = self._exact_type()
        vectors = stream.reshape(-1, self.rows).astype(kind)
        sums = vectors @ np.asarray(parameters).astype(kind)
        return self.result.wrap(sums.astype(np.int64)).reshape(len(stream), self.outputs)

    def _exact_type(self) -> type[Any]:
        """A type in which no partial sum, in any order, is rounded: int64 at the worst, exact modulo 2^64."""
        largest = max(-self.source.low, self.source.high) << (self.memory.scheme.bits - 1)
        bound = self.rows * largest
        return np.float32 if bound < 1 << 24 else np.float64 if bound < 1 << 53 else np.int64


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
