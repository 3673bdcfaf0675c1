# SPDX-License-Identifier: Apache-2.0
"""Quantizers of activations: what is pending becomes a list of thresholds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitward.engine.datatypes import IntegerType
from bitward.errors import ModelError
from bitward.hardware.lowering.rule import lowers
from bitward.hardware.lowering.rules.elementwise import defer
from bitward.hardware.lowering.thresholds import Staircase, staircase
from bitward.hardware.lowering.values import Value, smallest, unused
from bitward.hardware.lowering.walk import Walk, where
from bitward.hardware.parameters import Parameter

MAX_BITS = 8
ROUNDING = 50  # one of so many integers around thresholds may be one level off: floats waver by their last bit


@lowers("Quant", "IntQuant")
def quantize(walk: Walk, node: Any) -> str:
    """Thresholds, unless the integers are those that the quantizer makes already."""
    value = walk.value(node)
    deferred = defer(walk, node, value, 0)
    scale, zero, bits = (deferred.constant(position) for position in (1, 2, 3))
    if np.any(zero != 0):
        raise ModelError(f"{where(node)} must have zero point 0, got {zero.flat[0]:g}: quantize symmetrically.")
    signed = bool(walk.attribute(node, "signed", 1))
    return apply(walk, node, value.then(deferred), scale, IntegerType(_bits(node, bits), signed))


@lowers("Trunc")
def truncate(walk: Walk, node: Any) -> str:
    """Thresholds that drop low bits, as Brevitas' average pooling does."""
    value = walk.value(node)
    deferred = defer(walk, node, value, 0)
    constants = [deferred.constant(position) for position in range(1, len(node.input))]
    if np.any(constants[1] != 0):
        raise ModelError(f"{where(node)} must have zero point 0, got {constants[1].flat[0]:g}: quantize symmetrically.")
    bits = _bits(node, constants[-1])
    if len(constants) == 5:  # scale, zero point, bits, output scale, output bits
        signed, scale = bool(walk.attribute(node, "signed", 1)), constants[3]
    else:  # scale, zero point, bits, output bits: the scale stays, as the shifted integers are scaled by it again
        signed, scale = value.low < 0, constants[0]
    return apply(walk, node, value.then(deferred), scale, IntegerType(bits, signed))


@lowers("BipolarQuant")
def bipolar(walk: Walk, node: Any) -> str:
    """Refused: two levels of -1 and 1 are no integer type of the streams."""
    raise ModelError(f"{where(node)} must be a quantizer of 2 to {MAX_BITS} bits, got a bipolar one: use 2 bits.")


def _bits(node: Any, bits: NDArray[Any]) -> int:
    if bits.size != 1 or float(bits) != int(bits) or not 2 <= int(bits) <= MAX_BITS:
        raise ModelError(
            f"{where(node)} must quantize to one whole width from 2 to {MAX_BITS} bits, got {bits.ravel().tolist()}: "
            "thresholds double with each bit."
        )
    return int(bits)


def apply(walk: Walk, node: Any, value: Value, scale: NDArray[Any], kind: IntegerType) -> str:
    """`value`, whose last pending operation is the quantizer `node`, is quantized; returns what was done."""
    if np.any(scale <= 0):
        raise ModelError(f"{where(node)} must have scales above 0, got {scale.min():g}: quantize symmetrically.")
    stairs = staircase(value, kind, np.asarray(scale, np.float32), walk.opsets)
    if stairs.worst > 1 or stairs.different * ROUNDING > stairs.tried:
        raise ModelError(
            f"{where(node)} must never make a smaller level of a greater integer, got {stairs.different} of "
            f"{stairs.tried} integers where it does: use an activation that does not fall."
        )
    done = replace(value, scale=np.asarray(scale, np.float64), pending=())
    if stairs.is_identity and not stairs.different:
        walk.set(node.output[0], done)
        return f"the integers are {kind} already"
    tensor = _emit(walk, node, value, stairs)
    walk.set(node.output[0], replace(done, tensor=tensor, type=kind, low=kind.low, high=kind.high))
    lists, count = stairs.thresholds.shape
    tried = f"{stairs.different} of {stairs.tried} integers tried have another level than in QONNX"
    return f"{lists} x {count} thresholds, {tried}"


def _emit(walk: Walk, node: Any, value: Value, stairs: Staircase) -> str:
    lists, count = stairs.thresholds.shape
    needed = smallest(int(stairs.thresholds.min()), int(stairs.thresholds.max()), value.type.signed)
    stored = IntegerType(max(needed.bits, value.type.bits), value.type.signed)
    name = unused(f"{value.origin}.threshold", walk.parameters)
    parameter = Parameter(
        name=name,
        layer=value.origin,
        tensor=node.output[0],
        role="threshold",
        values=stairs.thresholds,
        bits=stored.bits,
        signed=stored.signed,
        scale=np.ones((), np.float32),
        rows=((count, 1),),
        columns=((value.channels, count if lists > 1 else 0),),
        folded=tuple(name for deferred in value.pending for name in deferred.constants),
    )
    return walk.emit(
        "Thresholding",
        [value.tensor, walk.store(parameter, stairs.thresholds)],
        value.shape,
        stairs.type,
        NumChannels=value.channels,
        PE=1,
        numSteps=count,
        inputDataType=str(value.type),
        weightDataType=str(stored),
        outputDataType=str(stairs.type),
        numInputVectors=value.vectors,
        ActVal=stairs.type.low,
        runtime_writeable_weights=1,
    )
