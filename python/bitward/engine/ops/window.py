# SPDX-License-Identifier: Apache-2.0
"""ConvolutionInputGenerator_rtl: the windows of an image, one after the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bitward.engine.datatypes import Stream
from bitward.engine.ops._op import Attributes, Op, Parameters, Unary, builds
from bitward.engine.order import Indices, Order
from bitward.manifest import Memory


@dataclass(frozen=True)
class Window(Unary):
    """Images (height, width, channels) become windows, row by row, each in the order (fold, kh, kw, lane).

    Channel = fold*lanes + lane. One fold is im2col's (kh, kw, channel), what a matrix unit wants. A depthwise window,
    and one that sends its taps in parallel, has all taps of SIMD channels before those of the next.
    """

    shape: tuple[int, int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    lanes: int

    @property
    def takes(self) -> tuple[Order | None, ...]:
        return (Order.of(self.shape[2]),)

    @property
    def gives(self) -> tuple[Order | None, ...]:
        return (Order.of(self.shape[2], self.lanes, self.kernel[0] * self.kernel[1]),)

    def of_channels(self, channels: Indices) -> Op:
        count = len(channels)
        return self.resized(count, self.shape[2], shape=(*self.shape[:2], count), lanes=count)

    def run(self, stream: Stream, parameters: Parameters | None) -> Stream:
        height, width, channels = self.shape
        (down, right), (apart_h, apart_w) = self.stride, self.dilation
        images = stream.reshape(-1, height, width, channels // self.lanes, self.lanes)
        reach = [(kernel - 1) * apart + 1 for kernel, apart in zip(self.kernel, self.dilation, strict=True)]
        windows = np.lib.stride_tricks.sliding_window_view(images, reach, axis=(1, 2))
        taken = windows[:, ::down, ::right, :, :, ::apart_h, ::apart_w]  # image, y, x, fold, lane, kh, kw
        return taken.transpose(0, 1, 2, 3, 5, 6, 4).reshape(len(stream), self.outputs)


def positions(size: int, kernel: int, stride: int, dilation: int) -> int:
    """How many windows fit along one dimension."""
    return (size - (kernel - 1) * dilation - 1) // stride + 1


@builds("ConvolutionInputGenerator_rtl")
def window(attributes: Attributes, memory: Memory | None) -> Window:
    """The operator of a ConvolutionInputGenerator_rtl node."""
    attributes.require("dynamic_mode", 0, default=0)
    height, width = attributes.numbers("IFMDim")
    kernel_h, kernel_w = attributes.numbers("ConvKernelDim")
    stride_h, stride_w = attributes.numbers("Stride")
    dilation_h, dilation_w = attributes.numbers("Dilation")
    channels = attributes.number("IFMChannels")
    grouped = attributes.number("depthwise", 0) or attributes.number("parallel_window", 0)
    rows = positions(height, kernel_h, stride_h, dilation_h)
    columns = positions(width, kernel_w, stride_w, dilation_w)
    datatype = attributes.type("inputDataType")
    return Window(
        node=attributes.node,
        inputs=height * width * channels,
        outputs=rows * columns * kernel_h * kernel_w * channels,
        source=datatype,
        result=datatype,
        shape=(height, width, channels),
        kernel=(kernel_h, kernel_w),
        stride=(stride_h, stride_w),
        dilation=(dilation_h, dilation_w),
        lanes=attributes.number("SIMD") if grouped else channels,
    )
