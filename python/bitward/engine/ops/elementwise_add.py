# SPDX-License-Identifier: Apache-2.0
"""ElementwiseAdd_rtl and ElementwiseMul_rtl: two streams, or a stream and constants, element by element."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bitward.engine.datatypes import Stream
from bitward.engine.ops._op import Attributes, Channelwise, Ends, Op, Parameters, builds
from bitward.engine.order import Indices, Order
from bitward.errors import ModelError
from bitward.manifest import Memory


@dataclass(frozen=True)
class Join(Op):
    """The sums, or products, of the elements of two streams."""

    node: str
    lhs: Ends
    rhs: Ends
    out: Ends
    multiplies: bool
    channels: int

    @property
    def takes(self) -> tuple[Order | None, ...]:
        return (Order.of(self.channels),) * 2

    @property
    def gives(self) -> tuple[Order | None, ...]:
        return (Order.of(self.channels),)

    def of_channels(self, channels: Indices) -> Op:
        count = self.out.count // self.channels * len(channels)
        lhs, rhs, out = (Ends(count, ends.type) for ends in (self.lhs, self.rhs, self.out))
        return replace(self, lhs=lhs, rhs=rhs, out=out, channels=len(channels))

    @property
    def sources(self) -> tuple[Ends, ...]:
        return (self.lhs, self.rhs)

    @property
    def results(self) -> tuple[Ends, ...]:
        return (self.out,)

    def apply(self, streams: tuple[Stream, ...], parameters: Parameters | None) -> tuple[Stream, ...]:
        lhs, rhs = (stream.astype(np.int64) for stream in streams)
        return (self.out.type.wrap(lhs * rhs if self.multiplies else lhs + rhs),)


@dataclass(frozen=True)
class Constant(Channelwise):
    """A constant is added to each channel, or multiplies it; `constants` are one for all or one a channel."""

    constants: tuple[int, ...]
    multiplies: bool
    channels: int

    def of_channels(self, channels: Indices) -> Op:
        constants = self.constants if len(self.constants) == 1 else tuple(self.constants[c] for c in channels)
        return self.resized(len(channels), self.channels, channels=len(channels), constants=constants)

    def run(self, stream: Stream, parameters: Parameters | None) -> Stream:
        constants = np.array(self.constants, dtype=np.int64)
        vectors = stream.reshape(-1, len(constants)).astype(np.int64)
        results = vectors * constants if self.multiplies else vectors + constants
        return self.result.wrap(results).reshape(len(stream), self.outputs)


@builds("ElementwiseAdd_rtl", "ElementwiseMul_rtl")
def elementwise(attributes: Attributes, memory: Memory | None) -> Join | Constant:
    """The operator of an ElementwiseAdd_rtl or ElementwiseMul_rtl node; ModelError for shapes that differ."""
    lhs, rhs, out = (Ends(attributes.size(f"{end}_shape"), attributes.type(f"{end}_dtype")) for end in _ENDS)
    multiplies = attributes.op == "ElementwiseMul_rtl"
    attributes.require("lhs_style", "input", default="input")
    channels = attributes.numbers("out_shape")[-1]
    if attributes.values.get("rhs_style", "input") == "const":
        constants = attributes.numbers("constants")
        if len(constants) not in (1, channels):
            raise ModelError(
                f"{attributes.where} must have one constant or one for each of its {channels} channels, got "
                f"{len(constants)}; build again"
            )
        return Constant(attributes.node, lhs.count, out.count, lhs.type, out.type, constants, multiplies, channels)
    if not lhs.count == rhs.count == out.count:
        raise ModelError(
            f"{attributes.where} must join streams of {out.count} elements, got {lhs.count} and {rhs.count}; "
            "build again"
        )
    return Join(attributes.node, lhs, rhs, out, multiplies, channels)


_ENDS = ("lhs", "rhs", "out")
