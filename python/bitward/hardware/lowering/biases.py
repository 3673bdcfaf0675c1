# SPDX-License-Identifier: Apache-2.0
"""Integer biases: a memory and an adder of their own behind a layer's sums."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bitward.engine.datatypes import IntegerType
from bitward.hardware.lowering.values import Value, smallest
from bitward.hardware.lowering.walk import Walk
from bitward.hardware.parameters import Parameter
from bitward.rewrites.layers import QuantizedWeights

SUMS = ("MVAU_", "VVAU_")  # tensors of units that multiply and add are named after them


def add_bias(walk: Walk, value: Value, name: str) -> Value | None:
    """The value after an integer bias, added in hardware; None where that is not asked for, or `name` is none."""
    bias = bias_of(walk, value, name) if walk.bias_as == "add" else None
    return None if bias is None else store_bias(walk, value, bias)


def bias_of(walk: Walk, value: Value, name: str) -> QuantizedWeights | None:
    """The integers of a constant, one or one a channel, that is an integer bias of `value`; None where it is none.

    It is one for the sums of a layer with nothing pending, behind a quantizer whose scale is that of the sums.
    """
    bias = walk.quantized(name)
    is_sum = value.tensor.startswith(SUMS) and not value.pending
    if bias is None or not is_sum or not bias.signed:
        return None
    is_of_sums = np.allclose(bias.scale.astype(np.float64).ravel(), value.scale, rtol=1e-5, atol=0)
    return bias if is_of_sums else None


def store_bias(walk: Walk, value: Value, bias: QuantizedWeights) -> Value:
    """The integer bias is a parameter of its own, added channel by channel; its every word can be written."""
    word = IntegerType(bias.bits, True)
    integers = bias.integers.reshape(-1)
    if integers.size == 1:
        integers = np.repeat(integers, value.channels)
    parameter = Parameter(
        name=f"{value.origin}.bias",
        layer=value.origin,
        tensor=bias.tensor,
        role="bias",
        values=integers,
        bits=bias.bits,
        signed=True,
        scale=bias.scale,
        rows=((1, 0),),
        columns=((value.channels, 1),),
    )
    low, high = value.low + word.low, value.high + word.high
    kind = smallest(low, high, signed=True)
    tensor = walk.emit(
        "ElementwiseAdd",
        [value.tensor, walk.store(parameter, integers)],
        value.shape,
        kind,
        lhs_dtype=str(value.type),
        rhs_dtype=str(word),
        out_dtype=str(kind),
        lhs_shape=list(value.shape),
        rhs_shape=[value.channels],
        out_shape=list(value.shape),
        lhs_style="input",
        rhs_style="const",
        PE=1,
    )
    return replace(value, tensor=tensor, type=kind, low=low, high=high)
