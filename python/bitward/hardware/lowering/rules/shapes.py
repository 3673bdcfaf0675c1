# SPDX-License-Identifier: Apache-2.0
"""Operators that move nothing in hardware, which streams channels last whatever the floats' axes are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bitward.errors import ModelError
from bitward.hardware.lowering.rule import lowers
from bitward.hardware.lowering.values import Value
from bitward.hardware.lowering.walk import Walk, where


@lowers("Flatten", "Reshape", "Squeeze", "Unsqueeze")
def reshape(walk: Walk, node: Any) -> str:
    """All axes but the first into one, or axes of size 1 come and go."""
    value = walk.value(node)
    walk.set(node.output[0], _reshaped(value, walk.shape(node), node))
    return "the hardware's order stays"


def _reshaped(value: Value, target: tuple[int, ...], node: Any) -> Value:
    if target == value.float_shape:
        return value
    if len(target) == 2 and len(value.float_shape) == 4 and target[0] == 1:
        return replace(value, is_flat=True)
    if len(target) == 4 and target == (1, value.channels, 1, 1):
        return replace(value, shape=(1, 1, 1, value.channels), axes="NCHW", is_flat=False)
    raise ModelError(
        f"{where(node)} must flatten an image to one vector, or add axes of size 1, got {list(value.float_shape)} to "
        f"{list(target)}: hardware streams have no other shapes."
    )


@lowers("Transpose")
def transpose(walk: Walk, node: Any) -> str:
    """Axes of the floats change places; the images' axis stays first."""
    value = walk.value(node)
    perm = walk.attribute(node, "perm", list(range(len(value.float_shape)))[::-1])
    if value.is_flat or perm[0] != 0:
        raise ModelError(
            f"{where(node)} must keep images along the first axis, got perm = {perm}: transpose no batches."
        )
    walk.set(node.output[0], replace(value, axes="".join(value.axes[axis] for axis in perm)))
    return "the hardware's order stays"
