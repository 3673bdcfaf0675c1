# SPDX-License-Identifier: Apache-2.0
"""Convolutions: padding, windows, and a matrix unit; depthwise ones a unit that keeps channels apart."""

from __future__ import annotations

from typing import Any

import numpy as np

from bitward.errors import ModelError
from bitward.hardware.lowering.macs import Mac, finish, read
from bitward.hardware.lowering.rule import lowers
from bitward.hardware.lowering.walk import Walk, where
from bitward.hardware.lowering.windows import Window, image, pad, read_window, slide
from bitward.indexmap import radix


@lowers("Conv")
def convolution(walk: Walk, node: Any) -> str:
    """A convolution of one group, or of as many as it has channels."""
    mac = read(walk, node)
    value = image(mac.input, node)
    shape = mac.weights.integers.shape
    window = read_window(walk, node, list(shape[2:]), (value.shape[1], value.shape[2]))
    groups = walk.attribute(node, "group", 1)
    if groups == 1:
        return _dense(walk, mac, window)
    if groups == value.channels == shape[0]:
        return _depthwise(walk, mac, window)
    raise ModelError(
        f"{where(node)} must have 1 group, or as many as inputs and outputs, got {groups} for {value.channels} inputs "
        f"and {shape[0]} outputs: use a depthwise and a 1x1 convolution."
    )


def _dense(walk: Walk, mac: Mac, window: Window) -> str:
    value = pad(walk, mac.input, window.pads)
    if window.kernel != (1, 1) or window.stride != (1, 1):
        value = slide(walk, mac.node, value, window, depthwise=False)
    shape = mac.weights.integers.shape
    parameter = mac.parameter(tuple(radix(shape, (2, 3, 1))), tuple(radix(shape, (0,))))
    result = (*value.shape[:-1], shape[0])
    rows = value.shape[-1]
    inputs = [value.tensor, walk.store(parameter)]
    return finish(
        walk, mac, "MVAU", inputs, result, rows, "NCHW", MW=rows, MH=shape[0], numInputVectors=list(result[:-1])
    )


def _depthwise(walk: Walk, mac: Mac, window: Window) -> str:
    value = slide(walk, mac.node, pad(walk, mac.input, window.pads), window, depthwise=True)
    shape = mac.weights.integers.shape
    parameter = mac.parameter(tuple(radix(shape, (2, 3))), tuple(radix(shape, (0,))))
    result = (*value.shape[:-1], shape[0])
    inputs = [value.tensor, walk.store(parameter, np.asarray(parameter.values))]
    return finish(
        walk, mac, "VVAU", inputs, result, window.taps, "NCHW",
        Dim=list(result[1:3]), Channels=shape[0], Kernel=list(window.kernel),
    )  # fmt: skip
