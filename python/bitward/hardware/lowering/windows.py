# SPDX-License-Identifier: Apache-2.0
"""Sliding windows: kernels, strides, padding and dilation of a node, and the hardware nodes that make windows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from bitward.errors import ModelError
from bitward.hardware.lowering.values import Value
from bitward.hardware.lowering.walk import Walk, where

Pair = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """A window of `kernel` taps, `dilation` apart, `stride` steps; `pads` are top, left, bottom, right."""

    kernel: Pair
    stride: Pair
    dilation: Pair
    pads: tuple[int, int, int, int]

    @property
    def reach(self) -> Pair:
        """Height and width of what a window covers."""
        return self.dilation[0] * (self.kernel[0] - 1) + 1, self.dilation[1] * (self.kernel[1] - 1) + 1

    @property
    def taps(self) -> int:
        """How many taps it has."""
        return self.kernel[0] * self.kernel[1]

    def outputs(self, height: int, width: int) -> Pair:
        """Height and width of the result on an image of that size."""
        reach = self.reach
        return (
            (height + self.pads[0] + self.pads[2] - reach[0]) // self.stride[0] + 1,
            (width + self.pads[1] + self.pads[3] - reach[1]) // self.stride[1] + 1,
        )


def read_window(walk: Walk, node: Any, kernel: list[int], size: Pair) -> Window:
    """The window of a convolution or pooling node on images of `size`. ModelError where it is not two-dimensional."""
    if len(kernel) != 2:
        raise ModelError(f"{where(node)} must be two-dimensional, got a kernel of {kernel}: add an axis of size 1.")
    stride = walk.attribute(node, "strides", [1, 1])
    dilation = walk.attribute(node, "dilations", [1, 1])
    pads = walk.attribute(node, "pads", [0, 0, 0, 0])
    window = Window((kernel[0], kernel[1]), (stride[0], stride[1]), (dilation[0], dilation[1]), (0, 0, 0, 0))
    auto = walk.attribute(node, "auto_pad", "NOTSET")
    if auto.startswith("SAME"):
        pads = _same(window, size, auto == "SAME_UPPER")
    if any(pad < 0 for pad in pads):
        raise ModelError(f"{where(node)} must have pads of 0 or more, got {pads}: crop before.")
    return replace(window, pads=(pads[0], pads[1], pads[2], pads[3]))


def _same(window: Window, size: Pair, is_upper: bool) -> list[int]:
    """Pads that give ceil(size / stride) outputs, the odd one at the end if `is_upper`."""
    both = []
    for extent, reach, stride in zip(size, window.reach, window.stride, strict=True):
        total = max(0, (-(-extent // stride) - 1) * stride + reach - extent)
        less = total // 2
        both.append((less, total - less) if is_upper else (total - less, less))
    return [both[0][0], both[1][0], both[0][1], both[1][1]]


def image(value: Value, node: Any) -> Value:
    """The value, which must be a feature map of axes NCHW; ModelError otherwise."""
    if value.axes != "NCHW" or value.is_flat:
        got = "flattened values" if value.is_flat else f"axes {value.axes}"
        raise ModelError(
            f"{where(node)} must take a feature map of axes NCHW, got {got}: export the model channels first."
        )
    return value


def pad(walk: Walk, value: Value, pads: tuple[int, int, int, int]) -> Value:
    """The image with zeros around it."""
    if not any(pads):
        return value
    _, height, width, channels = value.shape
    shape = (1, height + pads[0] + pads[2], width + pads[1] + pads[3], channels)
    tensor = walk.emit(
        "FMPadding",
        [value.tensor],
        shape,
        value.type,
        ImgDim=[height, width],
        Padding=list(pads),
        NumChannels=channels,
        SIMD=1,
        inputDataType=str(value.type),
    )
    return replace(value, tensor=tensor, shape=shape, low=min(0, value.low), high=max(0, value.high))


def slide(walk: Walk, node: Any, value: Value, window: Window, depthwise: bool) -> Value:
    """The padded image's windows side by side: shape (1, rows, columns, taps * channels); `pads` are done before."""
    _, height, width, channels = value.shape
    rows, columns = replace(window, pads=(0, 0, 0, 0)).outputs(height, width)
    if rows < 1 or columns < 1:
        raise ModelError(
            f"{where(node)} must have a kernel that fits its input of {height}x{width}, got {list(window.kernel)}: "
            "remove a pooling, or pad."
        )
    shape = (1, rows, columns, window.taps * channels)
    lines = (height == 1 and window.kernel[0] == 1) or (width == 1 and window.kernel[1] == 1)
    tensor = walk.emit(
        "ConvolutionInputGenerator",
        [value.tensor],
        shape,
        value.type,
        ConvKernelDim=list(window.kernel),
        IFMChannels=channels,
        IFMDim=[height, width],
        OFMDim=[rows, columns],
        SIMD=1,
        Stride=list(window.stride),
        Dilation=list(window.dilation),
        inputDataType=str(value.type),
        outputDataType=str(value.type),
        depthwise=int(depthwise),
        is1D=int(lines),
    )
    return replace(value, tensor=tensor, shape=shape)
