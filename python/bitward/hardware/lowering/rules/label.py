# SPDX-License-Identifier: Apache-2.0
"""The index of the greatest score of an image."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from bitward.errors import ModelError
from bitward.hardware.lowering.constants import settle
from bitward.hardware.lowering.rule import lowers
from bitward.hardware.lowering.values import Value, smallest
from bitward.hardware.lowering.walk import Walk, where


@lowers("ArgMax")
def arg_max(walk: Walk, node: Any) -> str:
    """The first of the greatest scores, as ONNX has it."""
    value = walk.value(node)
    _check_axis(node, value, walk.attribute(node, "axis", 0))
    walk.require(node, "select_last_index", 0, 0, "take the first index")
    return _select(walk, node, node.output[0], value)


@lowers("TopK")
def top_k(walk: Walk, node: Any) -> str:
    """ArgMax as TopK writes it: k = 1, indices alone are used."""
    value = walk.value(node)
    _check_axis(node, value, walk.attribute(node, "axis", -1))
    k = walk.constant(node.input[1])
    if k is None or int(k.flat[0]) != 1 or walk.attribute(node, "largest", 1) != 1:
        raise ModelError(f"{where(node)} must ask for the one greatest score, got k = {k}: leave the rest to the host.")
    return _select(walk, node, node.output[1], value)


def _check_axis(node: Any, value: Value, axis: int) -> None:
    axis %= len(value.float_shape)
    if axis != 1 or len(value.float_shape) != 2:
        raise ModelError(
            f"{where(node)} must look for the greatest of one vector, got axis {axis} of {list(value.float_shape)}: "
            "leave it to the host."
        )


def _select(walk: Walk, node: Any, output: str, value: Value) -> str:
    value = settle(walk, value, where(node))
    value.uniform_scale(where(node))
    count = int(np.prod(value.shape))
    if count != value.channels:
        raise ModelError(
            f"{where(node)} must take one vector an image, got a map of {list(value.shape[1:])}: average it."
        )
    kind = smallest(0, count - 1)
    shape = (*value.shape[:-1], 1)
    tensor = walk.emit(
        "LabelSelect",
        [value.tensor],
        shape,
        kind,
        Labels=count,
        PE=1,
        K=1,
        inputDataType=str(value.type),
        outputDataType=str(kind),
        numInputVectors=value.vectors,
    )
    done = replace(value, tensor=tensor, type=kind, low=0, high=count - 1, shape=shape, scale=np.ones(()))
    walk.set(output, done)
    return f"top 1 of {count}"
