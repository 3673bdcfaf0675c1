# SPDX-License-Identifier: Apache-2.0
"""UpsampleNearestNeighbour_rtl: every pixel and every row several times."""

from __future__ import annotations

from dataclasses import dataclass

from bitward.engine.datatypes import Stream
from bitward.engine.ops._op import Attributes, Imagewise, Parameters, builds
from bitward.errors import ModelError
from bitward.manifest import Memory


@dataclass(frozen=True)
class Upsample(Imagewise):
    """Images (height, width, channels) with each pixel `times` = (down, right) times."""

    shape: tuple[int, int, int]
    times: tuple[int, int]

    def run(self, stream: Stream, parameters: Parameters | None) -> Stream:
        down, right = self.times
        images = stream.reshape(-1, *self.shape)
        return images.repeat(down, axis=1).repeat(right, axis=2).reshape(len(stream), self.outputs)


@builds("UpsampleNearestNeighbour_rtl")
def upsample(attributes: Attributes, memory: Memory | None) -> Upsample:
    """The operator of an UpsampleNearestNeighbour_rtl node; ModelError for a scale that is not whole."""
    attributes.require("batchSize", 1, default=1)
    height, width, channels = (attributes.number(name) for name in ("HI", "WI", "NumChannels"))
    rows, columns = attributes.number("HO"), attributes.number("WO")
    if rows % height or columns % width:
        raise ModelError(
            f"{attributes.where} must scale by whole numbers, got {height}x{width} to {rows}x{columns}; build again"
        )
    datatype = attributes.type("inputDataType")
    return Upsample(
        node=attributes.node,
        inputs=height * width * channels,
        outputs=rows * columns * channels,
        source=datatype,
        result=datatype,
        shape=(height, width, channels),
        times=(rows // height, columns // width),
    )
