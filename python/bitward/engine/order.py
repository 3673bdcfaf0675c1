# SPDX-License-Identifier: Apache-2.0
"""Where the channels of a stream lie, so that one channel of it can be taken out and put back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bitward.engine.datatypes import Stream

Indices = npt.NDArray[np.int64]
Narrow = npt.NDArray[np.integer[Any]]
"""One channel of some images for each of some hits, shape (images, elements a channel, hits)."""


@dataclass(frozen=True)
class Order:
    """Elements in the order (vector, fold, tap, lane), their channel being fold*lanes + lane.

    >>> Order.of(4) == Order.of(4, lanes=2) == Order.of(4, lanes=4, taps=9)  # (vector, channel), all of them
    True
    """

    channels: int
    lanes: int
    taps: int

    @classmethod
    def of(cls, channels: int, lanes: int | None = None, taps: int = 1) -> Order:
        """The order in its simplest form: one fold where that is the same, else `channels // lanes`."""
        is_plain = lanes is None or lanes == channels or taps == 1
        return cls(channels, channels, 1) if is_plain else cls(channels, int(lanes or channels), taps)

    def fits(self, count: int) -> bool:
        """Whether `count` elements are whole vectors."""
        return self.channels % self.lanes == 0 and count % (self.channels * self.taps) == 0

    def take(self, stream: Stream, channels: Indices) -> Narrow:
        """Channel `channels[h]` of all images, for each hit h."""
        if self.lanes == self.channels:
            return stream.reshape(len(stream), -1, self.channels).take(channels, axis=2)
        taken = self._view(stream)[
            :, :, channels // self.lanes, :, channels % self.lanes
        ]  # hits, images, vectors, taps
        return np.moveaxis(taken, 0, -1).reshape(len(stream), -1, len(channels))

    def put(self, stream: Stream, channels: Indices, values: Stream) -> None:
        """Channel `channels[r]` of row r is `values[r]`; the others stay."""
        rows, view = np.arange(len(stream)), self._view(stream)
        shape = (len(stream), view.shape[1], self.taps)
        view[rows, :, channels // self.lanes, :, channels % self.lanes] = values.reshape(shape)

    def _view(self, stream: Stream) -> Stream:
        """Shape (images, vectors, folds, taps, lanes)."""
        return stream.reshape(len(stream), -1, self.channels // self.lanes, self.taps, self.lanes)
