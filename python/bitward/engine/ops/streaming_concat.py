# SPDX-License-Identifier: Apache-2.0
"""StreamingConcat_rtl: the vectors of several streams, one behind the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bitward.engine.datatypes import IntegerType, Stream
from bitward.engine.ops._op import Attributes, Ends, Op, Parameters, builds
from bitward.engine.order import Order
from bitward.manifest import Memory


@dataclass(frozen=True)
class Concat(Op):
    """`vectors` vectors an image of `channels[i]` elements of `types[i]` each become vectors of all the elements."""

    node: str
    vectors: int
    channels: tuple[int, ...]
    types: tuple[IntegerType, ...]

    @property
    def takes(self) -> tuple[Order | None, ...]:
        return tuple(Order.of(channels) for channels in self.channels)

    @property
    def gives(self) -> tuple[Order | None, ...]:
        return (Order.of(sum(self.channels)),)

    def place_of(self, source: int) -> int | None:
        return sum(self.channels[:source])

    @property
    def sources(self) -> tuple[Ends, ...]:
        ends = zip(self.channels, self.types, strict=True)
        return tuple(Ends(self.vectors * channels, datatype) for channels, datatype in ends)

    @property
    def results(self) -> tuple[Ends, ...]:
        return (Ends(self.vectors * sum(self.channels), holding(self.types)),)

    def apply(self, streams: tuple[Stream, ...], parameters: Parameters | None) -> tuple[Stream, ...]:
        kind, images = self.results[0].type.dtype, len(streams[0])
        parts = [
            stream.astype(kind).reshape(images, self.vectors, channels)
            for stream, channels in zip(streams, self.channels, strict=True)
        ]
        return (np.concatenate(parts, axis=2).reshape(images, self.results[0].count),)


def holding(types: tuple[IntegerType, ...]) -> IntegerType:
    """The narrowest type that holds every integer of the types.

    >>> holding((IntegerType(4, False), IntegerType(3, True)))
    IntegerType(bits=5, signed=True)
    """
    low, high = min(each.low for each in types), max(each.high for each in types)
    fitting = (IntegerType(bits, low < 0) for bits in range(1, 65))
    return next(each for each in fitting if each.low <= low and high <= each.high)


@builds("StreamingConcat_rtl")
def concat(attributes: Attributes, memory: Memory | None) -> Concat:
    """The operator of a StreamingConcat_rtl node."""
    names, what = attributes.values.get("inputDataTypes", ()), f"inputDataTypes of {attributes.where}"
    return Concat(
        node=attributes.node,
        vectors=attributes.size("numInputVectors", (1,)),
        channels=attributes.numbers("ChannelsPerStream"),
        types=tuple(IntegerType.parse(name.decode() if isinstance(name, bytes) else name, what) for name in names),
    )
