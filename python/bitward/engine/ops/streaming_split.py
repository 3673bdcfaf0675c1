# SPDX-License-Identifier: Apache-2.0
"""StreamingSplit_rtl: the elements of each vector to several streams in turn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bitward.engine.datatypes import IntegerType, Stream
from bitward.engine.ops._op import Attributes, Ends, Op, Parameters, builds
from bitward.engine.order import Order
from bitward.manifest import Memory


@dataclass(frozen=True)
class Split(Op):
    """Of each of `vectors` vectors, the first `channels[0]` elements go to stream 0, the next to stream 1, and on."""

    node: str
    vectors: int
    channels: tuple[int, ...]
    type: IntegerType

    @property
    def gives(self) -> tuple[Order | None, ...]:
        return tuple(Order.of(channels) for channels in self.channels)

    @property
    def sources(self) -> tuple[Ends, ...]:
        return (Ends(self.vectors * sum(self.channels), self.type),)

    @property
    def results(self) -> tuple[Ends, ...]:
        return tuple(Ends(self.vectors * channels, self.type) for channels in self.channels)

    def apply(self, streams: tuple[Stream, ...], parameters: Parameters | None) -> tuple[Stream, ...]:
        (stream,) = streams
        vectors = stream.reshape(len(stream), self.vectors, sum(self.channels))
        parts = np.split(vectors, np.cumsum(self.channels)[:-1], axis=2)
        return tuple(part.reshape(len(stream), ends.count) for part, ends in zip(parts, self.results, strict=True))


@builds("StreamingSplit_rtl")
def split(attributes: Attributes, memory: Memory | None) -> Split:
    """The operator of a StreamingSplit_rtl node."""
    return Split(
        node=attributes.node,
        vectors=attributes.size("numInputVectors", (1,)),
        channels=attributes.numbers("ChannelsPerStream"),
        type=attributes.type("inputDataType"),
    )
