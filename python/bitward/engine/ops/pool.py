# SPDX-License-Identifier: Apache-2.0
"""Pool_rtl: the maximum or the sum over the taps of a depthwise window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bitward.engine.datatypes import Stream
from bitward.engine.ops._op import Attributes, Op, Parameters, Unary, builds
from bitward.engine.order import Indices, Order
from bitward.errors import ModelError
from bitward.manifest import Memory

FUNCTIONS = ("MaxPool", "AccPool", "QuantAvgPool")


@dataclass(frozen=True)
class Pool(Unary):
    """Every `taps` beats of `lanes` elements become one, lane by lane: the maximum, or the sum without `shift` bits."""

    taps: int
    lanes: int
    is_sum: bool
    shift: int
    channels: int
    forgets: ClassVar[bool] = True

    @property
    def takes(self) -> tuple[Order | None, ...]:
        return (Order.of(self.channels, self.lanes, self.taps),)

    @property
    def gives(self) -> tuple[Order | None, ...]:
        return (Order.of(self.channels),)

    def of_channels(self, channels: Indices) -> Op:
        return self.resized(len(channels), self.channels, channels=len(channels), lanes=len(channels))

    def run(self, stream: Stream, parameters: Parameters | None) -> Stream:
        windows = stream.reshape(-1, self.taps, self.lanes)
        if not self.is_sum:
            largest = windows[:, 0]
            for tap in range(1, self.taps):  # numpy's own reduction is 30 times slower along a short axis
                largest = np.maximum(largest, windows[:, tap])
            return largest.reshape(len(stream), self.outputs)
        sums = windows.sum(axis=1, dtype=np.int64) >> self.shift
        return self.result.wrap(sums).reshape(len(stream), self.outputs)


@builds("Pool_rtl")
def pool(attributes: Attributes, memory: Memory | None) -> Pool:
    """The operator of a Pool_rtl node."""
    function = str(attributes.values.get("Function"))
    if function not in FUNCTIONS:
        raise ModelError(
            f"{attributes.where} must have a Function of {', '.join(FUNCTIONS)}, got {function}; the engine models no "
            "other"
        )
    attributes.require("BatchSize", 1, default=1)
    taps = attributes.size("KernelSize")
    outputs = attributes.size("OutImgDims") * attributes.number("Channels")
    source = attributes.type("InputDataType")
    result = source if function == "MaxPool" else attributes.type("OutputDataType")
    most = (2**source.bits - 1) * taps
    return Pool(
        node=attributes.node,
        inputs=outputs * taps,
        outputs=outputs,
        source=source,
        result=result,
        taps=taps,
        lanes=attributes.number("PE"),
        is_sum=function != "MaxPool",
        shift=max(0, most.bit_length() - result.bits) if function == "QuantAvgPool" else 0,
        channels=attributes.number("Channels"),
    )
