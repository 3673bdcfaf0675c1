# SPDX-License-Identifier: Apache-2.0
"""StoredBias_rtl: each channel plus its bias, from stored words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bitward.engine.datatypes import Stream
from bitward.engine.ops._op import Attributes, Channelwise, Parameters, StoredOp, builds, stored_in
from bitward.engine.order import Indices
from bitward.manifest import Memory


@dataclass(frozen=True)
class StoredBias(StoredOp, Channelwise):
    """Channel c plus bias c, kept modulo 2^(width of `result`). Bias c is lane c % pe of row c // pe."""

    channels: int

    def arranged(self, integers: npt.NDArray[np.int64]) -> Parameters:
        """The biases, shape (channels,), int64."""
        return integers.reshape(self.channels)

    def ready_of(self, ready: Any, channels: Indices) -> Any:
        return ready[channels]

    def run(self, stream: Stream, parameters: Parameters | None) -> Stream:
        sums = stream.reshape(-1, self.channels).astype(np.int64) + np.asarray(parameters)
        return self.result.wrap(sums).reshape(len(stream), self.outputs)


@builds("StoredBias_rtl")
def stored_bias(attributes: Attributes, memory: Memory | None) -> StoredBias:
    """The operator of a StoredBias_rtl node."""
    attributes.require("lhs_style", "input", default="input")
    attributes.require("rhs_style", "const", default="input")
    shape, pe = attributes.numbers("out_shape"), attributes.number("PE", 1)
    elements = attributes.size("out_shape")
    op = StoredBias(
        node=attributes.node,
        inputs=elements,
        outputs=elements,
        source=attributes.type("lhs_dtype"),
        result=attributes.type("out_dtype"),
        memory=stored_in(attributes, memory),
        channels=shape[-1],
    )
    op.check_rows(depth=shape[-1] // pe, lanes=pe, bits=attributes.type("rhs_dtype").bits)
    return op
