# SPDX-License-Identifier: Apache-2.0
"""Pool_rtl: the maximum over the taps of a depthwise window."""

from __future__ import annotations

from dataclasses import dataclass

from bitward.engine.datatypes import Stream
from bitward.engine.ops._op import Attributes, Op, Parameters, builds
from bitward.manifest import Memory


@dataclass(frozen=True)
class MaxPool(Op):
    """Every `taps` beats of `lanes` elements become one: their maximum, lane by lane."""

    taps: int
    lanes: int

    def run(self, stream: Stream, parameters: Parameters | None) -> Stream:
        return stream.reshape(-1, self.taps, self.lanes).max(axis=1).reshape(len(stream), self.outputs)


@builds("Pool_rtl")
def max_pool(attributes: Attributes, memory: Memory | None) -> MaxPool:
    """The operator of a Pool_rtl node."""
    attributes.require("Function", "MaxPool", default="")
    attributes.require("BatchSize", 1, default=1)
    kernel = attributes.numbers("KernelSize")
    height, width = (kernel * 2)[:2]
    outputs = attributes.size("OutImgDims") * attributes.number("Channels")
    datatype = attributes.type("InputDataType")
    return MaxPool(
        node=attributes.node,
        inputs=outputs * height * width,
        outputs=outputs,
        source=datatype,
        result=datatype,
        taps=height * width,
        lanes=attributes.number("PE"),
    )
