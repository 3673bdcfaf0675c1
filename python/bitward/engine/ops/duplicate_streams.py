# SPDX-License-Identifier: Apache-2.0
"""DuplicateStreams_rtl: one stream becomes several equal ones."""

from __future__ import annotations

from dataclasses import dataclass

from bitward.engine.datatypes import Stream
from bitward.engine.ops._op import Attributes, Ends, Op, Parameters, builds
from bitward.engine.order import Order
from bitward.manifest import Memory


@dataclass(frozen=True)
class Duplicate(Op):
    """`copies` streams, each as the one that comes in."""

    node: str
    ends: Ends
    copies: int
    channels: int

    @property
    def takes(self) -> tuple[Order | None, ...]:
        return (Order.of(self.channels),)

    @property
    def gives(self) -> tuple[Order | None, ...]:
        return (Order.of(self.channels),) * self.copies

    @property
    def sources(self) -> tuple[Ends, ...]:
        return (self.ends,)

    @property
    def results(self) -> tuple[Ends, ...]:
        return (self.ends,) * self.copies

    def apply(self, streams: tuple[Stream, ...], parameters: Parameters | None) -> tuple[Stream, ...]:
        return streams * self.copies


@builds("DuplicateStreams_rtl")
def duplicate(attributes: Attributes, memory: Memory | None) -> Duplicate:
    """The operator of a DuplicateStreams_rtl node."""
    channels = attributes.number("NumChannels")
    ends = Ends(attributes.size("numInputVectors", (1,)) * channels, attributes.type("inputDataType"))
    return Duplicate(attributes.node, ends, attributes.number("NumOutputStreams"), channels)
