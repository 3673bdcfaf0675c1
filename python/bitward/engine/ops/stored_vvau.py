# SPDX-License-Identifier: Apache-2.0
"""StoredVVAU_rtl: each channel's dot product over the taps of its windows, the weights from stored words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bitward.engine.datatypes import Stream
from bitward.engine.ops._op import Attributes, Op, Parameters, StoredOp, builds, stored_in
from bitward.engine.order import Indices, Order
from bitward.manifest import Memory


@dataclass(frozen=True)
class Depthwise(StoredOp):
    """Windows in the order (channel fold, tap, lane) become one sum per channel, modulo 2^(width of `result`).

    Channel = fold*pe + lane. The weight of tap k and channel c is lane (c % pe)*simd + k % simd of word
    (c // pe)*(taps // simd) + k // simd.
    """

    taps: int
    channels: int
    pe: int
    simd: int

    @property
    def takes(self) -> tuple[Order | None, ...]:
        return (Order.of(self.channels, self.pe, self.taps),)

    @property
    def gives(self) -> tuple[Order | None, ...]:
        return (Order.of(self.channels),)

    def of_channels(self, channels: Indices) -> Op:
        return self.resized(len(channels), self.channels, channels=len(channels), pe=len(channels))

    def ready_of(self, ready: Any, channels: Indices) -> Any:
        return ready[:, channels]

    def arranged(self, integers: npt.NDArray[np.int64]) -> Parameters:
        """The weights, shape (taps, channels), int64."""
        weights = integers.reshape(self.channels // self.pe, self.taps // self.simd, self.pe, self.simd)
        return weights.transpose(1, 3, 0, 2).reshape(self.taps, self.channels)

    def run(self, stream: Stream, parameters: Parameters | None) -> Stream:
        kind = self._exact_type()
        folds = self.channels // self.pe
        windows = stream.reshape(-1, folds, self.taps, self.pe)
        weights = np.asarray(parameters).astype(kind).reshape(self.taps, folds, self.pe)
        sums = np.zeros((len(windows), folds, self.pe), kind)
        for tap in range(self.taps):
            sums += windows[:, :, tap].astype(kind) * weights[tap]
        return self.result.wrap(sums.astype(np.int64)).reshape(len(stream), self.outputs)

    def _exact_type(self) -> type[np.int32] | type[np.int64]:
        """A type that no sum leaves: int64 at the worst, exact modulo 2^64."""
        largest = max(-self.source.low, self.source.high) << (self.memory.scheme.bits - 1)
        return np.int32 if self.taps * largest < 1 << 31 else np.int64


@builds("StoredVVAU_rtl")
def depthwise(attributes: Attributes, memory: Memory | None) -> Depthwise:
    """The operator of a StoredVVAU_rtl node."""
    attributes.require("noActivation", 1, default=0)
    attributes.require("binaryXnorMode", 0, default=0)
    taps, channels = attributes.size("Kernel"), attributes.number("Channels")
    pe, simd = attributes.number("PE"), attributes.number("SIMD", 1)
    windows = attributes.size("Dim")
    op = Depthwise(
        node=attributes.node,
        inputs=windows * taps * channels,
        outputs=windows * channels,
        source=attributes.type("inputDataType"),
        result=attributes.type("outputDataType"),
        memory=stored_in(attributes, memory),
        taps=taps,
        channels=channels,
        pe=pe,
        simd=simd,
    )
    bits = attributes.type("weightDataType").bits
    op.check_rows(depth=(channels // pe) * (taps // simd), lanes=pe * simd, bits=bits)
    return op
