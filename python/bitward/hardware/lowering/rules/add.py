# SPDX-License-Identifier: Apache-2.0
"""Additions: of a constant, deferred; of two tensors of one scale, integers added in hardware."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bitward.errors import ModelError
from bitward.hardware.lowering.biases import add_bias
from bitward.hardware.lowering.constants import common_factors, multiplied, settle
from bitward.hardware.lowering.rule import lowers
from bitward.hardware.lowering.rules.elementwise import defer
from bitward.hardware.lowering.values import Value, smallest
from bitward.hardware.lowering.walk import Walk, where


@lowers("Add", "Sum")
def add(walk: Walk, node: Any) -> str:
    """A constant waits for the next quantizer; two computed summands are added."""
    computed = [walk.is_value(name) for name in node.input]
    if len(computed) != 2:
        raise ModelError(f"{where(node)} must have two summands, got {len(computed)}: add them two by two.")
    if not all(computed):
        data = computed.index(True)
        value = walk.value(node, data)
        deferred = defer(walk, node, value, data)  # before all else: it refuses what differs from place to place
        added = add_bias(walk, value, node.input[1 - data])
        if added is not None:
            walk.set(node.output[0], added)
            return "bias added"
        walk.set(node.output[0], value.then(deferred))
        return "deferred"
    return _add(walk, node, walk.value(node, 0), walk.value(node, 1))


def _add(walk: Walk, node: Any, left: Value, right: Value) -> str:
    left, right = settle(walk, left, where(node)), settle(walk, right, where(node))
    if (left.shape, left.axes, left.is_flat) != (right.shape, right.axes, right.is_flat):
        raise ModelError(
            f"{where(node)} must add tensors of one shape, got {list(left.float_shape)} and {list(right.float_shape)}: "
            "hardware adds element by element."
        )
    factors = common_factors(left, right)
    if factors is None:
        raise ModelError(
            f"{where(node)} must add integers of one scale, got {left.scale.flat[0]:g} (of {left.origin}) and "
            f"{right.scale.flat[0]:g} (of {right.origin}): let both summands pass one shared quantizer."
        )
    left, right = multiplied(walk, left, factors[0]), multiplied(walk, right, factors[1])
    low, high = left.low + right.low, left.high + right.high
    kind = smallest(left.type.low + right.type.low, left.type.high + right.type.high)
    shape = list(left.shape)
    tensor = walk.emit(
        "ElementwiseAdd",
        [left.tensor, right.tensor],
        left.shape,
        kind,
        lhs_dtype=str(left.type),
        rhs_dtype=str(right.type),
        out_dtype=str(kind),
        lhs_shape=shape,
        rhs_shape=shape,
        out_shape=shape,
        lhs_style="input",
        rhs_style="input",
        PE=1,
        inFIFODepths=[2, 2],
    )
    latest = max(left, right, key=lambda value: walk.order(value.origin))
    done = replace(left, tensor=tensor, type=kind, low=low, high=high, origin=latest.origin)
    walk.set(node.output[0], done)
    return f"{left.type} and {right.type} give {kind}"
