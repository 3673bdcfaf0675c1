# SPDX-License-Identifier: Apache-2.0
"""GlobalAccPool_rtl: the sum of each channel over all pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bitward.engine.datatypes import IntegerType, Stream
from bitward.engine.ops._op import Attributes, Op, Parameters, Unary, builds
from bitward.engine.order import Indices, Order
from bitward.manifest import Memory


@dataclass(frozen=True)
class GlobalAccPool(Unary):
    """An image's pixels, `outputs` channels each, become their sum."""

    @property
    def takes(self) -> tuple[Order | None, ...]:
        return (Order.of(self.outputs),)

    @property
    def gives(self) -> tuple[Order | None, ...]:
        return (Order.of(self.outputs),)

    def of_channels(self, channels: Indices) -> Op:
        return self.resized(len(channels), self.outputs)

    def run(self, stream: Stream, parameters: Parameters | None) -> Stream:
        pixels = stream.reshape(len(stream), -1, self.outputs)
        return self.result.wrap(pixels.sum(axis=1, dtype=np.int64))


def smallest_type(low: int, high: int) -> IntegerType:
    """The narrowest type that holds both.

    >>> [str(smallest_type(*ends)) for ends in ((0, 135), (-72, 63), (0, 1))]
    ['UINT8', 'INT8', 'UINT1']
    """
    return (
        IntegerType(max(high.bit_length(), (-low - 1).bit_length()) + 1, True)
        if low < 0
        else IntegerType(max(1, high.bit_length()), False)
    )


@builds("GlobalAccPool_rtl")
def global_acc_pool(attributes: Attributes, memory: Memory | None) -> GlobalAccPool:
    """The operator of a GlobalAccPool_rtl node."""
    channels, source = attributes.number("NumChannels"), attributes.type("inputDataType")
    batch, *sizes = attributes.numbers("numInputVectors")
    pixels = batch * math.prod(sizes)
    return GlobalAccPool(
        node=attributes.node,
        inputs=pixels * channels,
        outputs=channels,
        source=source,
        result=smallest_type(source.low * pixels, source.high * pixels),
    )
