# SPDX-License-Identifier: Apache-2.0
"""Transposed convolutions: zeros between pixels and around the image, then a convolution by the turned kernel."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bitward.errors import ModelError
from bitward.hardware.lowering.macs import finish, read
from bitward.hardware.lowering.rule import lowers
from bitward.hardware.lowering.values import Value
from bitward.hardware.lowering.walk import Walk, where
from bitward.hardware.lowering.windows import image, pad, read_window, slide
from bitward.indexmap import radix


@lowers("ConvTranspose")
def transposed_convolution(walk: Walk, node: Any) -> str:
    """A transposed convolution of one group, without output padding."""
    mac = read(walk, node)
    value = image(mac.input, node)
    walk.require(node, "group", 1, 1, "use one group")
    walk.require(node, "output_padding", [0, 0], [0, 0], "choose kernel, stride and pads so that none is needed")
    walk.require(node, "auto_pad", "NOTSET", "NOTSET", "give pads")
    shape = mac.weights.integers.shape  # (inputs, outputs, height, width)
    window = read_window(walk, node, list(shape[2:]), (value.shape[1], value.shape[2]))
    around = tuple(reach - 1 - p for reach, p in zip(window.reach * 2, window.pads, strict=True))
    if min(around) < 0:
        raise ModelError(
            f"{where(node)} must have pads below its kernel's size, got {list(window.pads)} for {list(window.kernel)}: "
            "crop after it instead."
        )
    value = pad(walk, _spread(walk, value, window.stride), (around[0], around[1], around[2], around[3]))
    if window.kernel != (1, 1):
        value = slide(walk, node, value, replace(window, stride=(1, 1)), depthwise=False)
    rows = [(size, -stride) for size, stride in radix(shape, (2, 3))] + radix(shape, (0,))
    parameter = mac.parameter(tuple(rows), tuple(radix(shape, (1,))))
    result = (*value.shape[:-1], shape[1])
    inputs = [value.tensor, walk.store(parameter)]
    return finish(
        walk, mac, "MVAU", inputs, result, value.shape[-1], "NCHW",
        MW=value.shape[-1], MH=shape[1], numInputVectors=list(result[:-1]),
    )  # fmt: skip


def _spread(walk: Walk, value: Value, stride: tuple[int, int]) -> Value:
    """The image with `stride - 1` zeros between neighbouring pixels."""
    if stride == (1, 1):
        return value
    _, height, width, channels = value.shape
    shape = (1, (height - 1) * stride[0] + 1, (width - 1) * stride[1] + 1, channels)
    tensor = walk.emit(
        "FMPadding_Pixel",
        [value.tensor],
        shape,
        value.type,
        ImgDim=[height, width],
        Stride=list(stride),
        NumChannels=channels,
        SIMD=1,
        inputDataType=str(value.type),
    )
    return replace(value, tensor=tensor, shape=shape, low=min(0, value.low), high=max(0, value.high))
