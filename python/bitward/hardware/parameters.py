# SPDX-License-Identifier: Apache-2.0
"""Parameter tensors of a hardware graph: what each is in the QONNX graph, and as the matrix that hardware reads."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Digits = tuple[tuple[int, int], ...]
"""Mixed radix digits (size, stride) of an index into a flattened tensor, the most significant first (bitward.indexmap).

A digit of negative stride counts down from `size - 1`: the turned kernel of a transposed convolution.
"""

Role = Literal["weight", "bias", "threshold"]


@dataclass(frozen=True, eq=False)
class Parameter:
    """The hardware graph's initializer `name`, which is the manifest's memory of that name.

    `values` are its integers in the shape of `tensor`, the tensor of the QONNX graph that they come from (for a
    threshold list: (channels or 1, thresholds)). `rows` and `columns` say where the hardware's matrix finds them: entry
    (row, column) is `values.flat[rows(row) + columns(column)]`. Rows are the inputs of a dot product, the taps of a
    depthwise window or a channel's thresholds; columns are outputs or channels. A column of stride 0 is shared by all.
    `folded` are the constants of the QONNX graph that have gone into it.
    """

    name: str
    layer: str
    tensor: str
    role: Role
    values: NDArray[np.int64]
    bits: int
    signed: bool
    scale: NDArray[np.float32]
    rows: Digits
    columns: Digits
    folded: tuple[str, ...] = ()

    @property
    def matrix(self) -> NDArray[np.int64]:
        """The integers as the hardware's matrix, shape (rows, columns)."""
        flat = np.ascontiguousarray(self.values).reshape(-1)
        return np.asarray(flat[_indices(self.rows)[:, None] + _indices(self.columns)[None, :]])


def _indices(digits: Digits) -> NDArray[np.int64]:
    """The flat index of every value of the digits, in counting order."""
    sizes = [size for size, _ in digits]
    counts = np.indices(sizes).reshape(len(sizes), math.prod(sizes)) if digits else np.zeros((0, 1), np.int64)
    index = np.zeros(counts.shape[1], np.int64)
    for count, (size, stride) in zip(counts, digits, strict=True):
        index += count * stride if stride >= 0 else (size - 1 - count) * -stride
    return index
