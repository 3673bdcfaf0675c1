# SPDX-License-Identifier: Apache-2.0
"""What a node of a folded hardware graph will take, estimated from its shapes.

Memories and DSP slices follow from shapes. LUTs and flip-flops are rules of thumb, fitted to Yosys' counts of a small
residual network (5,194 LUTs counted, 5,168 estimated; single kinds of node are off by up to a factor of three).
`bitward resources` counts what synthesis makes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bitward.hardware import costs

Resources = dict[str, float]
KINDS = ("lut", "ff", "bram36", "uram", "dsp")
_DSP_A_BITS = 27  # of DSP48E2's wide factor, which holds the weights of several outputs
_STREAM_LUTS, _STREAM_FFS = 0.9, 1.2  # a bit of a node's streams
_MAC_LUTS, _MAC_FFS = 10.0, 12.0  # a lane of a matrix unit, beside its DSP slice: sums of lanes and of overflows
_UNIT_LUTS, _UNIT_FFS = 130.0, 180.0  # a unit with a memory: AXI-Lite, addresses
_SEARCH_LUTS = 1.1  # LUTs a bit of a comparator and its pipeline


def _memory(rows: int, bits: int, style: str) -> Resources:
    if style == "auto":
        style = costs.memory_style(rows, bits)
    if style == "ultra":
        return {"uram": costs.uram(rows, bits)}
    if style == "distributed":
        return {"lut": costs.lutram_luts(rows, bits)}
    return {"bram36": costs.ramb18(rows, bits) / 2}


def _sum(*parts: Mapping[str, float]) -> Resources:
    return {kind: sum(part.get(kind, 0) for part in parts) for kind in KINDS}


def _stream_bits(op: Any) -> int:
    """Bits of all streams of a node."""
    inputs = 1 if op.onnx_node.op_type.startswith("Stored") else len(op.onnx_node.input)
    bits = sum(int(op.get_instream_width(index)) for index in range(inputs))
    return bits + sum(int(op.get_outstream_width(index)) for index in range(len(op.onnx_node.output)))


def _queue(op: Any) -> Resources:
    depth, bits, style = op.get_nodeattr("depth"), op.get_instream_width(), op.resolve_ram_style()
    if style == "srl":
        held = {"lut": costs.srl_luts(depth - 1, bits)} if depth > 2 else {"ff": bits, "lut": bits}
    else:
        held = _memory(depth - 1, bits, style)
    return _sum(held, {"lut": 14, "ff": bits + 14})


def _window(op: Any) -> Resources:
    bits = op.get_nodeattr("SIMD") * op.get_input_datatype(0).bitwidth()
    return _sum(_memory(op.get_buffer_depth(), bits, op.get_nodeattr("ram_style")), {"lut": 150, "ff": 100})


def _matrix(op: Any) -> Resources:
    weight_bits, act_bits = op.scheme().bits, op.get_input_datatype(0).bitwidth()
    lanes = 1 + (_DSP_A_BITS - 1 - weight_bits) // (weight_bits + act_bits - 1)
    pe, simd = op.get_nodeattr("PE"), op.get_nodeattr("SIMD")
    logic = {"lut": _UNIT_LUTS + _MAC_LUTS * pe * simd, "ff": _UNIT_FFS + _MAC_FFS * pe * simd}
    return _sum(_rows(op), logic, {"dsp": -(-pe // lanes) * simd})


def _depthwise(op: Any) -> Resources:
    lanes = op.get_nodeattr("PE") * op.get_nodeattr("SIMD")
    logic = {"lut": _UNIT_LUTS + _MAC_LUTS * lanes, "ff": _UNIT_FFS + _MAC_FFS * lanes, "dsp": lanes}
    return _sum(_rows(op), logic)


def _rows(op: Any) -> Resources:
    """The memory of a stored node, and a LUT for each voted bit."""
    scheme, lanes = op.scheme(), op.lanes()
    memory = _memory(op.depth(), op.layout().width, op.get_nodeattr("ram_style"))
    return _sum(memory, {"lut": scheme.voted * lanes + 4 * scheme.check_bits, "ff": op.layout().width})


def _thresholds(op: Any) -> Resources:
    """An array for each stage of the search, lane and copy; the stages in a pipeline."""
    scheme, pe, bits = op.scheme(), op.get_nodeattr("PE"), op.get_input_datatype(0).bitwidth()
    copies = 3 if scheme.voted else 1
    parts: list[Resources] = []
    for stage in range(op.index_bits()):
        rows = op.folds() << stage
        style = op.get_nodeattr("ram_style")
        style = ("block" if rows >= costs.BLOCK_ROWS else "distributed") if style == "auto" else style
        memory = _memory(rows, scheme.bits, style)
        parts.append({kind: copies * pe * count for kind, count in memory.items()})
        parts.append({"lut": pe * _SEARCH_LUTS * (bits + scheme.voted), "ff": pe * 2.0 * (bits + scheme.bits * copies)})
    return _sum(*parts, {"lut": 0.6 * _UNIT_LUTS, "ff": 0.6 * _UNIT_FFS})


def _other(op: Any) -> Resources:
    bits = _stream_bits(op)
    return _sum({"lut": 10 + _STREAM_LUTS * bits, "ff": 8 + _STREAM_FFS * bits})


_RULES: dict[str, Callable[[Any], Resources]] = {
    "StreamingFIFO_rtl": _queue,
    "ConvolutionInputGenerator_rtl": _window,
    "StoredMVAU_rtl": _matrix,
    "StoredVVAU_rtl": _depthwise,
    "StoredThresholding_rtl": _thresholds,
}


def estimate(model: Any) -> dict[str, Resources]:
    """By node of the folded hardware graph: LUTs, flip-flops, block RAMs of 36 Kb (halves count), URAMs, DSP slices."""
    from qonnx.custom_op.registry import getCustomOp

    return {node.name: node_resources(getCustomOp(node)) for node in model.graph.node}


def node_resources(op: Any) -> Resources:
    """What one node takes."""
    return _RULES.get(op.onnx_node.op_type, _node)(op)


def _node(op: Any) -> Resources:
    """Of a node without a rule of its own: its streams, and its memory where it has one."""
    return _sum(_other(op), _rows(op)) if op.onnx_node.op_type.startswith("Stored") else _other(op)


def total(estimates: Mapping[str, Resources]) -> Resources:
    """The sum over nodes; block RAMs are whole."""
    summed = _sum(*estimates.values())
    return {kind: float(-(-count // 1)) for kind, count in summed.items()}


def in_luts(needed: Mapping[str, float]) -> float:
    """One figure for all: what is taken, in LUTs, at the rate at which the K26 has each (a flip-flop is half a LUT).

    >>> in_luts({"lut": 10.0, "ff": 4.0, "bram36": 0.5, "dsp": 2.0})
    606.0
    """
    rates = {"lut": 1.0, "ff": 0.5, "bram36": 812.0, "uram": 1830.0, "dsp": 94.0}
    return sum(rates[kind] * count for kind, count in needed.items())
