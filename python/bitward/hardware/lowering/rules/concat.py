# SPDX-License-Identifier: Apache-2.0
"""Channels side by side, and apart."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from bitward.errors import ModelError
from bitward.hardware.lowering.constants import settle
from bitward.hardware.lowering.rule import lowers
from bitward.hardware.lowering.values import Value
from bitward.hardware.lowering.walk import Walk, where


@lowers("Concat")
def concat(walk: Walk, node: Any) -> str:
    """Channels of several tensors one after the other; every tensor keeps its scale."""
    values = [settle(walk, walk.value(node, position), where(node)) for position in range(len(node.input))]
    first = values[0]
    _check_channel_axis(walk, node, first)
    if len({(value.shape[:-1], value.axes, value.is_flat) for value in values}) > 1:
        shapes = [list(value.float_shape) for value in values]
        raise ModelError(f"{where(node)} must join tensors of one height and width, got {shapes}: crop or pad before.")
    if len({value.type for value in values}) > 1:
        types = ", ".join(str(value.type) for value in values)
        raise ModelError(
            f"{where(node)} must join integers of one type, got {types}: let all pass one shared quantizer before."
        )
    channels = [value.channels for value in values]
    shape = (*first.shape[:-1], sum(channels))
    tensor = walk.emit(
        "StreamingConcat",
        [value.tensor for value in values],
        shape,
        first.type,
        SIMD=1,
        ChannelsPerStream=channels,
        inputDataTypes=[str(value.type) for value in values],
        numInputVectors=first.vectors,
        inFIFODepths=[2] * len(values),
    )
    scales = np.concatenate([np.broadcast_to(value.scale, value.channels) for value in values])
    scale = scales[:1].reshape(()) if np.allclose(scales, scales[0], rtol=1e-6, atol=0) else scales
    low, high = min(value.low for value in values), max(value.high for value in values)
    latest = max(values, key=lambda value: walk.order(value.origin))
    done = replace(first, tensor=tensor, shape=shape, low=low, high=high, scale=scale, origin=latest.origin)
    walk.set(node.output[0], done)
    return f"{' + '.join(map(str, channels))} channels"


@lowers("Split")
def split(walk: Walk, node: Any) -> str:
    """Channels in groups, each a tensor of its own."""
    value = walk.value(node)
    axis = _check_channel_axis(walk, node, value)
    if any(deferred.is_per_channel for deferred in value.pending):
        value = settle(walk, value, where(node))
    unread = [name for name in node.output if not walk.model.find_consumers(name)]
    if unread:
        raise ModelError(f"{where(node)} must have all its outputs read, got {unread[0]} unread: leave no channel out.")
    channels = [walk.shape(node, position)[axis] for position in range(len(node.output))]
    shapes = [(*value.shape[:-1], count) for count in channels]
    tensors = walk.graph.emit(
        "StreamingSplit",
        [value.tensor],
        [(shape, value.type) for shape in shapes],
        SIMD=1,
        ChannelsPerStream=channels,
        inputDataType=str(value.type),
        numInputVectors=value.vectors,
        outFIFODepths=[2] * len(channels),
    )
    edges = np.cumsum([0, *channels])
    for index, (name, tensor, shape) in enumerate(zip(node.output, tensors, shapes, strict=True)):
        scale = value.scale if value.scale.ndim == 0 else value.scale[edges[index] : edges[index + 1]]
        walk.set(name, replace(value, tensor=tensor, shape=shape, scale=scale))
    return f"{' + '.join(map(str, channels))} channels"


@lowers("Slice")
def cut(walk: Walk, node: Any) -> str:
    """Refused: slices that take every channel once were joined to a Split before the walk."""
    raise ModelError(
        f"{where(node)} must, together with the other slices of its input, take every channel once, got something "
        "else: cut channels into groups (Split), and leave none out."
    )


def _check_channel_axis(walk: Walk, node: Any, value: Value) -> int:
    """The node's axis, from the first on, which is that of the channels; ModelError where it is another."""
    axis = int(walk.attribute(node, "axis", 0)) % len(value.float_shape)
    flat_map = value.is_flat and value.shape[:-1] != (1,) * (len(value.shape) - 1)
    if flat_map or (value.axes[axis] != "C" and not value.is_flat) or axis == 0:
        raise ModelError(
            f"{where(node)} must work on channels, got axis {axis} of {list(value.float_shape)}: hardware streams "
            "channels last."
        )
    return axis
