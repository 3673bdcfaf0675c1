# SPDX-License-Identifier: Apache-2.0
"""Constants as integers: what is pending before an operator that takes integers times a scale."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from bitward.errors import ModelError
from bitward.hardware.lowering.biases import bias_of, store_bias
from bitward.hardware.lowering.values import Deferred, Value, smallest
from bitward.hardware.lowering.walk import Walk

EXACT = 1e-6  # relative: what float32 leaves of a ratio of whole numbers
LARGEST_FACTOR = 16


def settle(walk: Walk, value: Value, where: str) -> Value:
    """The same value with nothing pending, integers times a scale.

    Multiplications join the scale; additions of whole multiples of the scale are done in hardware. ModelError names
    `where`, the node that needs it, and what stands in the way.
    """
    pending, value = value.pending, replace(value, pending=())
    for deferred in pending:
        factor = _factor(value, deferred)
        if factor is not None:
            value = replace(value, scale=np.asarray(value.scale * factor, np.float64))
            continue
        shifted = _shifted(walk, value, deferred)
        if shifted is None:
            raise ModelError(
                f"{where} must take integers times a scale, got {deferred.node.name} ({deferred.node.op_type}) before "
                "it: put a quantizer between the two."
            )
        value = shifted
    return value


def _factor(value: Value, deferred: Deferred) -> NDArray[np.float64] | None:
    """What the operation multiplies by; None when it does something else."""
    kind = deferred.node.op_type
    if kind == "Mul":
        return deferred.constant(1 - deferred.data).astype(np.float64)
    if kind == "Div":
        return np.asarray(1.0 / deferred.constant(1).astype(np.float64))
    if kind == "Relu" and value.low >= 0:  # scales are above 0
        return np.ones(())
    return None


def _shifted(walk: Walk, value: Value, deferred: Deferred) -> Value | None:
    """The value after an addition or subtraction of whole multiples of its scale; None when it is no such operation."""
    if deferred.node.op_type not in ("Add", "Sub"):
        return None
    name = deferred.node.input[1 - deferred.data]
    bias = bias_of(walk, value, name) if deferred.node.op_type == "Add" else None
    if bias is not None:
        return store_bias(walk, value, bias)
    constant = deferred.constant(1 - deferred.data).astype(np.float64)
    steps = (constant if deferred.node.op_type == "Add" else -constant) / value.scale
    whole = np.rint(steps)
    if np.any(np.abs(steps - whole) > EXACT * np.maximum(1, np.abs(whole))):
        return None
    return _constant_node(walk, value, "ElementwiseAdd", whole.astype(np.int64))


def multiplied(walk: Walk, value: Value, factor: int) -> Value:
    """The same value on a scale `factor` times finer."""
    if factor == 1:
        return value
    done = _constant_node(walk, value, "ElementwiseMul", np.array(factor, np.int64))
    return replace(done, scale=value.scale / factor)


def common_factors(first: Value, second: Value) -> tuple[int, int] | None:
    """The least whole numbers by which the integers of two values are to be multiplied to have one scale; or None."""
    ratios = np.unique(np.asarray(first.scale / second.scale).ravel())
    fraction = Fraction(float(ratios[0])).limit_denominator(LARGEST_FACTOR)
    if not 0 < fraction.numerator <= LARGEST_FACTOR or not np.allclose(ratios, float(fraction), rtol=EXACT, atol=0):
        return None
    return fraction.numerator, fraction.denominator


def _constant_node(walk: Walk, value: Value, op: str, constants: NDArray[np.int64]) -> Value:
    """The integers after one more node: the sum or product with one constant, or with one a channel."""
    constants = constants.reshape(-1)
    word = smallest(int(constants.min()), int(constants.max()))
    ends = [value.low, value.high], [int(constants.min()), int(constants.max())]
    results = [a + b if op == "ElementwiseAdd" else a * b for a in ends[0] for b in ends[1]]
    low, high = min(results), max(results)
    reach = [a + b if op == "ElementwiseAdd" else a * b for a in (value.type.low, value.type.high) for b in ends[1]]
    kind = smallest(min(reach), max(reach))
    shape = list(value.shape)
    name = walk.graph.store(f"{value.tensor}.constant", constants, word)
    tensor = walk.emit(
        op,
        [value.tensor, name],
        value.shape,
        kind,
        lhs_dtype=str(value.type),
        rhs_dtype=str(word),
        out_dtype=str(kind),
        lhs_shape=shape,
        rhs_shape=[len(constants)],
        out_shape=shape,
        lhs_style="input",
        rhs_style="const",
        PE=1,
    )
    return replace(value, tensor=tensor, type=kind, low=low, high=high)
