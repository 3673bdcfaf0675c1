# SPDX-License-Identifier: Apache-2.0
"""FMPadding_rtl: zeros around an image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bitward.engine.datatypes import Stream
from bitward.engine.ops._op import Attributes, Imagewise, Parameters, builds
from bitward.manifest import Memory


@dataclass(frozen=True)
class Padding(Imagewise):
    """Images (height, width, channels) get `around` = (top, left, bottom, right) zeros."""

    shape: tuple[int, int, int]
    around: tuple[int, int, int, int]

    def run(self, stream: Stream, parameters: Parameters | None) -> Stream:
        top, left, bottom, right = self.around
        images = stream.reshape(-1, *self.shape)
        padded = np.pad(images, ((0, 0), (top, bottom), (left, right), (0, 0)))
        return padded.reshape(len(stream), self.outputs)


@builds("FMPadding_rtl")
def padding(attributes: Attributes, memory: Memory | None) -> Padding:
    """The operator of an FMPadding_rtl node."""
    height, width = attributes.numbers("ImgDim")
    channels = attributes.number("NumChannels")
    top, left, bottom, right = attributes.numbers("Padding")
    attributes.require("numInputVectors", 1, default=1)
    datatype = attributes.type("inputDataType")
    return Padding(
        node=attributes.node,
        inputs=height * width * channels,
        outputs=(top + height + bottom) * (left + width + right) * channels,
        source=datatype,
        result=datatype,
        shape=(height, width, channels),
        around=(top, left, bottom, right),
    )
