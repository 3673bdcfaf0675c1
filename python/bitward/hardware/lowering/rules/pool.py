# SPDX-License-Identifier: Apache-2.0
"""Pooling: the greatest, or the sum (an average is a sum of another scale), of each window or of the whole image."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bitward.errors import ModelError
from bitward.hardware.lowering.constants import settle
from bitward.hardware.lowering.rule import lowers
from bitward.hardware.lowering.values import Value, smallest
from bitward.hardware.lowering.walk import Walk, where
from bitward.hardware.lowering.windows import Window, image, pad, read_window, slide


@lowers("MaxPool")
def max_pool(walk: Walk, node: Any) -> str:
    """The greatest integer of each window; what is pending never falls, so it can wait."""
    value = image(walk.value(node), node)
    if len(node.output) > 1 and node.output[1]:
        raise ModelError(f"{where(node)} must give values alone, got its indices too: remove them from the model.")
    window = _window(walk, node, value)
    if any(window.pads) and value.low < 0:
        raise ModelError(
            f"{where(node)} must have no padding where integers may be below 0, got pads {list(window.pads)} on "
            f"{value.type}: quantize to unsigned integers before, or do not pad."
        )
    _pool(walk, node, value, window, "MaxPool")
    return f"greatest of {window.taps}"


@lowers("AveragePool")
def average_pool(walk: Walk, node: Any) -> str:
    """The sum of each window; its scale is divided by the window's size."""
    value = settle(walk, image(walk.value(node), node), where(node))
    window = _window(walk, node, value)
    if any(window.pads) and not walk.attribute(node, "count_include_pad", 0):
        raise ModelError(
            f"{where(node)} must count padding where it pads, got count_include_pad = 0: divisors would differ at the "
            "edges; pad with zeros before, or do not pad."
        )
    _pool(walk, node, value, window, "AccPool")
    return f"sum of {window.taps}"


@lowers("GlobalAveragePool", "ReduceMean")
def global_average(walk: Walk, node: Any) -> str:
    """The sum over the whole image; its scale is divided by the number of pixels."""
    value = settle(walk, image(walk.value(node), node), where(node))
    keeps = True
    if node.op_type == "ReduceMean":
        _check_axes(walk, node)
        keeps = walk.attribute(node, "keepdims", 1) == 1
    pixels = value.shape[1] * value.shape[2]
    kind = smallest(pixels * value.type.low, pixels * value.type.high)
    shape = (1, 1, 1, value.channels)
    tensor = walk.emit(
        "GlobalAccPool",
        [value.tensor],
        shape,
        kind,
        NumChannels=value.channels,
        PE=1,
        inputDataType=str(value.type),
        numInputVectors=value.vectors,
    )
    done = replace(value, tensor=tensor, type=kind, shape=shape, low=pixels * value.low, high=pixels * value.high)
    walk.set(node.output[0], replace(done, scale=value.scale / pixels, is_flat=not keeps))
    return f"sum of {pixels}"


def _check_axes(walk: Walk, node: Any) -> None:
    axes = walk.attribute(node, "axes")
    if axes is None and len(node.input) > 1:
        constant = walk.constant(node.input[1])
        axes = None if constant is None else constant.tolist()
    if axes is None or sorted(axis % 4 for axis in axes) != [2, 3]:
        raise ModelError(f"{where(node)} must average over height and width, got axes {axes}: no hardware has others.")


def _window(walk: Walk, node: Any, value: Value) -> Window:
    window = read_window(walk, node, walk.attribute(node, "kernel_shape"), (value.shape[1], value.shape[2]))
    expected = walk.model.get_tensor_shape(node.output[0])
    if expected is not None and tuple(expected[2:]) != window.outputs(value.shape[1], value.shape[2]):
        raise ModelError(
            f"{where(node)} must have windows that lie on the image, got outputs of {list(expected[2:])} from "
            f"{list(value.shape[1:3])}: ceil_mode is not supported, pad or crop the image."
        )
    return window


def _pool(walk: Walk, node: Any, value: Value, window: Window, function: str) -> None:
    """Windows and their reduction; the node's output has its value."""
    windows = slide(walk, node, pad(walk, value, window.pads), window, depthwise=True)
    shape = (*windows.shape[:-1], value.channels)
    taps = window.taps if function == "AccPool" else 1
    kind = smallest(taps * value.type.low, taps * value.type.high) if function == "AccPool" else value.type
    tensor = walk.emit(
        "Pool",
        [windows.tensor],
        shape,
        kind,
        Channels=value.channels,
        PE=1,
        KernelSize=list(window.kernel),
        Function=function,
        OutImgDims=list(shape[1:3]),
        InputDataType=str(value.type),
        OutputDataType=str(kind),
        BatchSize=1,
    )
    done = replace(value, tensor=tensor, type=kind, shape=shape, low=taps * windows.low, high=taps * windows.high)
    walk.set(node.output[0], replace(done, scale=value.scale / taps))
