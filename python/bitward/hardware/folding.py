# SPDX-License-Identifier: Apache-2.0
"""Folding: how parallel each layer works, from a target rate or from a FINN folding configuration.

The smallest parallelism that meets the target in every layer by itself is taken, so the slowest layer sets the rate;
of equally parallel foldings the one that is cheapest on the board (hardware.estimates).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bitward.errors import ConfigError, nearest
from bitward.hardware.estimates import in_luts, node_resources
from bitward.hardware.finn_attributes import CHOSEN

SLOWEST_CYCLES = 2**40  # an image in hours: a target below that asks for the smallest design as well
IN_TURN = ("Pool_rtl", "StoredVVAU_rtl")  # take a window's taps for some channels, then for the next ones
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
    """The folding of the node that holds `memory`: the values that each attribute can have, which cut no digit.

    `layer` is the layer that it is the unit of, "" for a node of another kind (thresholds, biases).
    """

    memory: str
    layer: str
    values: Mapping[str, Sequence[int]]

    @property
    def name(self) -> str:
        """What users call it."""
        return self.layer or self.memory


def set_folding(
    model: Any,
    units: Mapping[str, Choices],
    cycles: int,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    called: Mapping[str, str] | None = None,
) -> Any:
    """Every node of the specialised graph has its PE and SIMD; `overrides` win.

    `units` are the choices of the nodes that hold memories, by node name. `overrides` maps nodes to attributes
    (finn_config.translate makes them of a file); errors call a node as `called` does. Raises ConfigError for an
    override that no attribute is named by, or that cannot be had.
    """
    from qonnx.custom_op.registry import getCustomOp

    given = overrides or {}
    names = {name: choices.name for name, choices in units.items()} | dict(called or {})
    for node in model.graph.node:
        if node.name in units:
            _fold_unit(getCustomOp(node), units[node.name], cycles)
        else:
            _fold(model, node, cycles)
        if node.op_type in IN_TURN:
            _quicken_window_generator(model, node, units.get(node.name), cycles)
    nodes = {node.name: node for node in model.graph.node}
    for name, attributes in given.items():
        _override(getCustomOp(nodes[name]), names.get(name, name), attributes, name in units)
    for name, choices in units.items():
        _check(getCustomOp(nodes[name]), choices, names[name])
    for node in model.graph.node:
        if node.op_type in IN_TURN:
            _match_window_generator(model, node)
        if node.op_type == "StoredMVAU_rtl":
            _widen_window_generator(model, node, cycles, given)
    for name, attributes in given.items():
        _still(getCustomOp(nodes[name]), names.get(name, name), attributes)
    return model


def _check(op: Any, unit: Choices, called: str) -> None:
    for name, allowed in unit.values.items():
        if op.get_nodeattr(name) not in allowed:
            raise ConfigError(
                f"folding of {called}: {name} must be one of {', '.join(map(str, allowed))}, got "
                f"{op.get_nodeattr(name)}."
            )


def _fold(model: Any, node: Any, cycles: int) -> None:
    """Whichever of PE and SIMD the node has divides the channels of all its streams."""
    from qonnx.custom_op.registry import getCustomOp

    op = getCustomOp(node)
    attributes = [name for name in ("PE", "SIMD") if name in op.get_nodeattr_types()]
    if "parallel_window" in op.get_nodeattr_types():
        op.set_nodeattr("parallel_window", 0)
    if attributes:
        _smallest(op, attributes[0], _channels(model, node), cycles)


def _channels(model: Any, node: Any) -> int:
    """The greatest common divisor of the channels of all streams (constants are none; an index has no channels)."""
    from qonnx.custom_op.registry import getCustomOp

    op = getCustomOp(node)
    streams = [index for index, tensor in enumerate(node.input) if model.get_initializer(tensor) is None]
    sizes = [int(op.get_normal_input_shape(index)[-1]) for index in streams]
    if node.op_type != "LabelSelect_rtl":
        sizes += [int(op.get_normal_output_shape(index)[-1]) for index in range(len(node.output))]
    return math.gcd(*sizes)


def _smallest(op: Any, attribute: str, limit: int, cycles: int) -> None:
    """The attribute is the smallest divisor of `limit` that meets the target, else `limit`."""
    for value in _divisors(limit):
        op.set_nodeattr(attribute, value)
        if op.get_exp_cycles() <= cycles:
            return


def _fold_unit(op: Any, unit: Choices, cycles: int) -> None:
    """The fewest lanes that meet the target; of those the cheapest (several outputs share a DSP slice, inputs do not);
    among equals the squarest beat.
    """
    bits = op.get_input_datatype(1).bitwidth()
    choices = [choice for choice in itertools.product(*unit.values.values()) if _lanes_fit(choice, bits)]
    for _, equal in itertools.groupby(sorted(choices, key=math.prod), key=math.prod):
        best = min(equal, key=lambda choice: (_cost(op, unit, choice), max(choice) - min(choice), choice))
        _take(op, unit, best)
        if op.get_exp_cycles() <= cycles:
            return


def _lanes_fit(choice: Sequence[int], bits: int) -> bool:
    return math.prod(choice) * bits <= MAX_WEIGHT_BEAT_BITS


def _take(op: Any, unit: Choices, choice: Sequence[int]) -> None:
    for name, value in zip(unit.values, choice, strict=True):
        op.set_nodeattr(name, value)


def _cost(op: Any, unit: Choices, choice: Sequence[int]) -> float:
    _take(op, unit, choice)
    return in_luts(node_resources(op))


def _override(op: Any, called: str, attributes: Mapping[str, Any], is_unit: bool) -> None:
    for key, value in attributes.items():
        _set(op, called, key, value)
    if not is_unit:  # those are checked against their choices
        _check_channels(called, op, attributes)


def _set(op: Any, name: str, key: str, value: Any) -> None:
    """The attribute has the value that is asked for; ConfigError where it is none that folding can choose."""
    known = [each for each in CHOSEN if each in op.get_nodeattr_types()]
    if key not in known:
        raise ConfigError(f"folding of {name} must set what its node lets choose, got {key!r}; {nearest(key, known)}")
    kind = type(op.get_nodeattr(key))
    if type(value) is not kind:
        raise ConfigError(f"folding of {name}: {key} must be of type {kind.__name__}, got {value!r}.")
    if key == "ram_style" and value == "ultra" and op.onnx_node.op_type.startswith("Stored"):
        raise ConfigError(
            f"folding of {name}: ram_style must not be 'ultra' for parameters, got it: no bitstream holds what lies in "
            "UltraRAM at the start; take 'block' or 'distributed'."
        )
    allowed = op.get_nodeattr_types()[key][3:]
    if allowed and value not in allowed[0]:
        raise ConfigError(f"folding of {name}: {key} must be one of {', '.join(sorted(allowed[0]))}, got {value!r}.")
    op.set_nodeattr(key, value)


def _still(op: Any, called: str, attributes: Mapping[str, Any]) -> None:
    """What was asked for is what the node has, also where a window generator must go by the node behind it."""
    for key, value in attributes.items():
        got = op.get_nodeattr(key)
        if got != value:
            raise ConfigError(
                f"folding of {called}: {key} must go with the node behind it, which asks for {got}, got {value}: "
                "fold that one, or leave this out."
            )


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


def _quicken_window_generator(model: Any, node: Any, unit: Choices | None, cycles: int) -> None:
    """Pooling or a depthwise unit takes so many channels a beat that the window generator before it is quick enough."""
    from qonnx.custom_op.registry import getCustomOp

    op = getCustomOp(node)
    values = unit.values["PE"] if unit is not None else list(_divisors(_channels(model, node)))
    for value in (each for each in values if each >= op.get_nodeattr("PE")):
        op.set_nodeattr("PE", value)
        if _match_window_generator(model, node).get_exp_cycles() <= cycles:
            return


def _match_window_generator(model: Any, node: Any) -> Any:
    """The window generator before pooling or a depthwise unit, which sends as many channels a beat as that takes.

    Where that unit takes several taps a beat, the generator sends all of a window's at once.
    """
    from qonnx.custom_op.registry import getCustomOp

    op, generator = getCustomOp(node), getCustomOp(model.find_producer(node.input[0]))
    generator.set_nodeattr("SIMD", op.get_nodeattr("PE"))
    if "SIMD" in op.get_nodeattr_types() and op.get_nodeattr("SIMD") > 1:
        generator.set_nodeattr("parallel_window", 1)
    return generator


def _widen_window_generator(model: Any, mvau: Any, cycles: int, given: Mapping[str, Mapping[str, Any]]) -> None:
    """A window generator that misses the target with all channels in a beat sends whole windows instead.

    One whose way of sending is given keeps it.
    """
    from qonnx.custom_op.registry import getCustomOp

    producer = model.find_producer(mvau.input[0])
    if producer is None or producer.op_type != "ConvolutionInputGenerator_rtl":
        return
    if "parallel_window" in given.get(producer.name, {}):
        return
    op = getCustomOp(producer)
    kernel_height, kernel_width = op.get_nodeattr("ConvKernelDim")
    is_full = op.get_nodeattr("SIMD") == op.get_nodeattr("IFMChannels")
    if is_full and op.get_exp_cycles() > cycles and kernel_height * kernel_width > 1:
        op.set_nodeattr("parallel_window", 1)
