# SPDX-License-Identifier: Apache-2.0
"""Folding: how parallel each layer works, from a target rate or from a FINN folding configuration.

The smallest parallelism that meets the target in every layer by itself is taken, so the slowest layer sets the rate.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bitward.errors import ConfigError, nearest

SLOWEST_CYCLES = 2**40  # an image in hours: a target below that asks for the smallest design as well
MAX_WEIGHT_BEAT_BITS = 4096  # one memory row; wider rows cost more block RAM ports than the K26 has


def target_cycles(target_fps: float, clk_mhz: float) -> int:
    """Clock cycles an image may take at `target_fps` images per second. Raises ConfigError if that is below 1.

    >>> target_cycles(1_000_000, 200)
    200
    """
    cycles = int(min(clk_mhz * 1e6 / target_fps, SLOWEST_CYCLES)) if target_fps > 0 else 0
    if cycles < 1:
        raise ConfigError(
            f"target_fps must be above 0 and at most one image a clock cycle ({clk_mhz * 1e6:.0f}), got {target_fps:g}."
        )
    return cycles


def _divisors(number: int) -> Iterator[int]:
    return (d for d in range(1, number + 1) if number % d == 0)


@dataclass(frozen=True)
class Choices:
    """The PE and SIMD values that a weight layer's matrix unit can have."""

    layer: str
    pes: list[int]
    simds: list[int]


def set_folding(
    model: Any, units: Sequence[Choices], cycles: int, overrides: Mapping[str, Mapping[str, Any]] | None = None
) -> Any:
    """Every node of the specialised graph has its PE and SIMD; `overrides` win.

    `units` are the weight layers in graph order. `overrides` maps a layer's name (its matrix unit) or a node's name to
    attributes. Raises ConfigError for an override that names neither, or no attribute of it, or cannot be had.
    """
    from qonnx.custom_op.registry import getCustomOp

    matrix_units = [node for node in model.graph.node if node.op_type == "MVAU_rtl"]
    choices = {node.name: unit for node, unit in zip(matrix_units, units, strict=True)}
    for node in model.graph.node:
        if node.name in choices:
            _fold_mvau(getCustomOp(node), choices[node.name], cycles)
        else:
            _fold(node.op_type, getCustomOp(node), cycles)
    named = {unit.layer: node for node, unit in zip(matrix_units, units, strict=True)}
    _override(model, named, overrides or {})
    for node in matrix_units:
        _check(getCustomOp(node), choices[node.name])
    for node in model.graph.node:
        if node.op_type == "Pool_rtl":
            _match_window_generator(model, node)
        if node.op_type == "MVAU_rtl":
            _widen_window_generator(model, node, cycles)
    return model


def _check(op: Any, unit: Choices) -> None:
    for name, allowed in (("PE", unit.pes), ("SIMD", unit.simds)):
        if op.get_nodeattr(name) not in allowed:
            raise ConfigError(
                f"folding of {unit.layer}: {name} must be one of {', '.join(map(str, allowed))}, got "
                f"{op.get_nodeattr(name)}."
            )


def _fold(op_type: str, op: Any, cycles: int) -> None:
    if op_type in ("Thresholding_rtl", "Pool_rtl"):
        channels = op.get_nodeattr("NumChannels" if op_type == "Thresholding_rtl" else "Channels")
        _smallest(op, "PE", channels, cycles)
    elif op_type == "FMPadding_rtl":
        _smallest(op, "SIMD", op.get_nodeattr("NumChannels"), cycles)
    elif op_type == "ConvolutionInputGenerator_rtl":
        op.set_nodeattr("parallel_window", 0)
        _smallest(op, "SIMD", op.get_nodeattr("IFMChannels"), cycles)


def _smallest(op: Any, attribute: str, limit: int, cycles: int) -> None:
    """The attribute is the smallest divisor of `limit` that meets the target, else `limit`."""
    for value in _divisors(limit):
        op.set_nodeattr(attribute, value)
        if op.get_exp_cycles() <= cycles:
            return


def _fold_mvau(op: Any, unit: Choices, cycles: int) -> None:
    """PE and SIMD with the fewest multipliers that meet the target; among equals the squarest beat."""
    bits = op.get_input_datatype(1).bitwidth()
    choices = [(pe * simd, abs(pe - simd), pe, simd) for pe in unit.pes for simd in unit.simds]
    fitting = sorted(c for c in choices if c[0] * bits <= MAX_WEIGHT_BEAT_BITS)
    for _, _, pe, simd in fitting:
        op.set_nodeattr("PE", pe)
        op.set_nodeattr("SIMD", simd)
        if op.get_exp_cycles() <= cycles:
            return


def _override(model: Any, named: Mapping[str, Any], overrides: Mapping[str, Mapping[str, Any]]) -> None:
    from qonnx.custom_op.registry import getCustomOp

    nodes = {**{node.name: node for node in model.graph.node}, **named}
    for name, attributes in overrides.items():
        if name not in nodes:
            raise ConfigError(
                f"folding must name a layer or node ({', '.join(nodes)}), got {name!r}; {nearest(name, nodes)}"
            )
        if not isinstance(attributes, Mapping):
            raise ConfigError(f'folding of {name} must map attributes to values, as {{"PE": 2}}, got {attributes!r}.')
        op = getCustomOp(nodes[name])
        for key, value in attributes.items():
            known = op.get_nodeattr_types()
            if key not in known:
                raise ConfigError(
                    f"folding of {name} must set attributes of its node, got {key!r}; {nearest(key, known)}"
                )
            kind = type(op.get_nodeattr(key))
            if type(value) is not kind:
                raise ConfigError(f"folding of {name}: {key} must be of type {kind.__name__}, got {value!r}.")
            op.set_nodeattr(key, value)
        if nodes[name].op_type != "MVAU_rtl":  # matrix units are checked against their layer's choices
            _check_channels(name, op, attributes)


def _check_channels(name: str, op: Any, attributes: Mapping[str, Any]) -> None:
    """FINN cuts streams short where parallelism does not divide channels, or asserts; here it is refused by name."""
    try:
        whole = all(
            math.prod(folded) == math.prod(normal)
            for folded, normal in (
                (op.get_folded_input_shape(), op.get_normal_input_shape()),
                (op.get_folded_output_shape(), op.get_normal_output_shape()),
            )
        )
    except (AssertionError, ZeroDivisionError):
        whole = False
    if not whole:
        raise ConfigError(f"folding of {name} must divide its channels, got {dict(attributes)}.")


def _match_window_generator(model: Any, pool: Any) -> None:
    """A depthwise window generator sends exactly as many channels a beat as its pooling layer takes."""
    from qonnx.custom_op.registry import getCustomOp

    producer = model.find_producer(pool.input[0])
    if producer is not None and producer.op_type == "ConvolutionInputGenerator_rtl":
        getCustomOp(producer).set_nodeattr("SIMD", getCustomOp(pool).get_nodeattr("PE"))


def _widen_window_generator(model: Any, mvau: Any, cycles: int) -> None:
    """A window generator that misses the target with all channels in a beat sends whole windows instead."""
    from qonnx.custom_op.registry import getCustomOp

    producer = model.find_producer(mvau.input[0])
    if producer is None or producer.op_type != "ConvolutionInputGenerator_rtl":
        return
    op = getCustomOp(producer)
    kernel_height, kernel_width = op.get_nodeattr("ConvKernelDim")
    is_full = op.get_nodeattr("SIMD") == op.get_nodeattr("IFMChannels")
    if is_full and op.get_exp_cycles() > cycles and kernel_height * kernel_width > 1:
        op.set_nodeattr("parallel_window", 1)
