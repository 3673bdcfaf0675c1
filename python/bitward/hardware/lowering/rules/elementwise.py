# SPDX-License-Identifier: Apache-2.0
"""Element-wise operators with constants: deferred, as a quantizer behind them makes thresholds of the whole chain."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from bitward.errors import ModelError
from bitward.hardware.lowering.rule import lowers
from bitward.hardware.lowering.values import Deferred, Value
from bitward.hardware.lowering.walk import Walk, where


def defer(walk: Walk, node: Any, value: Value, data: int) -> Deferred:
    """The node with its constants, each a scalar or one number a channel; ModelError where one is neither."""
    constants = {}
    for position, name in enumerate(node.input):
        if position == data or not name:
            continue
        constant = walk.constant(name)
        if constant is None:
            raise ModelError(
                f"{where(node)} must have one computed input, got input {position} computed too: only two summands, or "
                "tensors side by side (Concat), may both be."
            )
        constants[name] = per_channel(constant, value, node)
    return Deferred(node, data, constants)


def per_channel(constant: NDArray[Any], value: Value, node: Any) -> NDArray[Any]:
    """The constant as a scalar, or one number a channel of `value`; ModelError where positions differ."""
    if constant.size == 1:
        return constant.reshape(())
    if node.op_type == "BatchNormalization":  # one number a channel, whatever the axes
        full = constant.reshape(-1, *[1] * (len(value.float_shape) - 2))
    else:
        full = constant
    full = full.reshape((1,) * (len(value.float_shape) - full.ndim) + full.shape)
    channel = 1 if value.is_flat else value.axes.index("C")
    if full.ndim != len(value.float_shape) or full.size != full.shape[channel] or full.size != value.channels:
        raise ModelError(
            f"{where(node)} must have one constant, or one for each of {value.channels} channels, got shape "
            f"{list(constant.shape)}: hardware treats all positions of a channel alike."
        )
    return full.ravel()


@lowers("Relu", "Sigmoid", "HardSigmoid", "Tanh", "Clip", "Elu", "Selu", "Softplus", "Softsign", "Exp", "Erf")
def monotone(walk: Walk, node: Any) -> str:
    """An activation function that never falls."""
    value = walk.value(node)
    alpha = walk.attribute(node, "alpha", 0.0)
    _check(node, "an alpha of 0 or more", alpha, alpha >= 0)
    walk.set(node.output[0], value.then(defer(walk, node, value, 0)))
    return "deferred"


@lowers("LeakyRelu", "PRelu")
def leaky(walk: Walk, node: Any) -> str:
    """A rectifier whose slope below zero is not negative."""
    value = walk.value(node)
    deferred = defer(walk, node, value, 0)
    slope = deferred.constant(1) if node.op_type == "PRelu" else np.asarray(walk.attribute(node, "alpha", 0.01))
    _check(node, "slopes of 0 or more", float(slope.min()), bool((slope >= 0).all()))
    walk.set(node.output[0], value.then(deferred))
    return "deferred"


@lowers("Identity", "Dropout")
def identity(walk: Walk, node: Any) -> str:
    """Nothing, when inferring."""
    walk.set(node.output[0], walk.value(node))
    return "nothing to do"


@lowers("Cast")
def cast(walk: Walk, node: Any) -> str:
    """Nothing: floats of 32 bits and more stay what they are, and integers that a type holds do too."""
    value = walk.value(node)
    to = walk.attribute(node, "to")
    if to in (TensorProto.FLOAT, TensorProto.DOUBLE):
        walk.set(node.output[0], value)
        return "nothing to do"
    kind = helper.tensor_dtype_to_np_dtype(to)
    if kind.kind not in "iu" or value.pending or np.any(value.scale != 1):
        raise ModelError(
            f"{where(node)} must cast to FLOAT or DOUBLE, got {TensorProto.DataType.Name(to)}, which rounds: use a "
            "quantizer."
        )
    limits = np.iinfo(kind)
    if value.low < limits.min or value.high > limits.max:
        raise ModelError(
            f"{where(node)} must cast to a type that holds {value.low} to {value.high}, got "
            f"{TensorProto.DataType.Name(to)}: use a wider one."
        )
    walk.set(node.output[0], value)
    return "nothing to do"


@lowers("Mul", "Div", "Sub", "Min", "Max")
def arithmetic(walk: Walk, node: Any) -> str:
    """Arithmetic with a constant; factors above zero, and nothing is subtracted or divided by the tensor."""
    data = 0 if walk.is_value(node.input[0]) else 1
    value = walk.value(node, data)
    deferred = defer(walk, node, value, data)
    if node.op_type in ("Div", "Sub"):
        _check(node, "the computed tensor first", node.input[data], data == 0)
    if node.op_type in ("Mul", "Div"):
        factor = deferred.constant(1 - data)
        _check(node, "constants above 0", float(factor.min()), bool((factor > 0).all()))
        if node.op_type == "Div" and factor.dtype.kind in "iu":
            raise ModelError(f"{where(node)} must divide floats, got integers, whose rest is dropped: use a quantizer.")
    walk.set(node.output[0], value.then(deferred))
    return "deferred"


@lowers("BatchNormalization")
def batch_norm(walk: Walk, node: Any) -> str:
    """Batch norm; its scales must not be negative (rewrites.FoldNegativeScales moves signs into weights)."""
    value = walk.value(node)
    deferred = defer(walk, node, value, 0)
    gamma = deferred.constant(1)
    _check(node, "scales of 0 or more", float(gamma.min()), bool((gamma >= 0).all()))
    vectors = {name: np.broadcast_to(constant, (value.channels,)) for name, constant in deferred.constants.items()}
    walk.set(node.output[0], value.then(Deferred(node, 0, vectors)))
    return "deferred"


def _check(node: Any, rule: str, got: object, holds: bool) -> None:
    if not holds:
        raise ModelError(
            f"{where(node)} must have {rule}, got {got}: fold negative scales into the weights before (harden and "
            "build do, for batch norm right after a layer)."
        )
