# SPDX-License-Identifier: Apache-2.0
"""FMPadding_Pixel_rtl: zeros between the pixels of an image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bitward.engine.datatypes import Stream
from bitward.engine.ops._op import Attributes, Imagewise, Parameters, builds
from bitward.manifest import Memory


@dataclass(frozen=True)
class PixelPadding(Imagewise):
    """The pixels of images (height, width, channels) move apart by `stride` = (down, right); zeros between them."""

    shape: tuple[int, int, int]
    stride: tuple[int, int]

    def run(self, stream: Stream, parameters: Parameters | None) -> Stream:
        (height, width, channels), (down, right) = self.shape, self.stride
        padded = np.zeros((len(stream), *apart(height, width, self.stride), channels), stream.dtype)
        padded[:, ::down, ::right] = stream.reshape(-1, height, width, channels)
        return padded.reshape(len(stream), self.outputs)


def apart(height: int, width: int, stride: tuple[int, int]) -> tuple[int, int]:
    """The size of an image with its pixels `stride` apart."""
    return (height - 1) * stride[0] + 1, (width - 1) * stride[1] + 1


@builds("FMPadding_Pixel_rtl")
def pixel_padding(attributes: Attributes, memory: Memory | None) -> PixelPadding:
    """The operator of an FMPadding_Pixel_rtl node."""
    height, width = attributes.numbers("ImgDim")
    down, right = attributes.numbers("Stride")
    channels = attributes.number("NumChannels")
    attributes.require("numInputVectors", 1, default=1)
    datatype = attributes.type("inputDataType")
    rows, columns = apart(height, width, (down, right))
    return PixelPadding(
        node=attributes.node,
        inputs=height * width * channels,
        outputs=rows * columns * channels,
        source=datatype,
        result=datatype,
        shape=(height, width, channels),
        stride=(down, right),
    )
