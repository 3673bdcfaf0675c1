# SPDX-License-Identifier: Apache-2.0
"""A lowered graph becomes folded RTL nodes: specialised, folded, joined by FIFOs, with the memories they hold."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitward.errors import ModelError
from bitward.hardware import memories as mem
from bitward.hardware.folding import set_folding
from bitward.hardware.lower import Layer, Lowered
from bitward.hardware.stitch import Node, Stream, Window, windows
from bitward.layout import BeatLayout
from bitward.manifest import Io, Memory, StreamTensor
from bitward.schemes import Scheme

MEMORY_KEY = "bitward.memory"  # metadata of a node: the manifest's memory that holds its parameters


@dataclass(frozen=True)
class Design:
    """Everything the RTL top, the manifest and the engine are made from."""

    model: Any
    nodes: list[Node]
    windows: list[Window]
    memories: list[Memory]
    images: dict[str, NDArray[np.uint32]]
    io: Io
    source: Stream
    sink: Stream
    folding: dict[str, dict[str, Any]]


def fold_graph(
    lowered: Lowered,
    schemes: Mapping[str, Scheme],
    part: str,
    cycles: int,
    overrides: Mapping[str, Mapping[str, Any]] | None,
    ram_style: str,
) -> Any:
    """The hardware graph, folded, with width converters and FIFOs between its nodes.

    `schemes` maps a layer's name to how its weights are stored; layers not named are plain.
    """
    from finn.transformation.fpgadataflow.insert_dwc import InsertDWC
    from finn.transformation.fpgadataflow.insert_fifo import InsertFIFO
    from finn.transformation.fpgadataflow.specialize_layers import SpecializeLayers
    from qonnx.transformation.general import GiveReadableTensorNames, GiveUniqueNodeNames

    import bitward.hardware.ops  # noqa: F401 - registers our back ends

    model = _prepare(lowered.model, ram_style)
    model = _specialise(model, part)
    model = _minimise(model)
    model = set_folding(model, [mem.foldings(layer) for layer in lowered.layers], cycles, overrides)
    _store_weights(model, lowered.layers, schemes)
    model = model.transform(InsertDWC())
    _set_fifo_depths(model)
    model = model.transform(InsertFIFO(create_shallow_fifos=True))
    model = model.transform(SpecializeLayers(part))
    model = model.transform(GiveUniqueNodeNames())
    return model.transform(GiveReadableTensorNames())


def _prepare(model: Any, ram_style: str) -> Any:
    """Attributes that must be set before anything is minimised, so that widths allow for any written parameter."""
    from qonnx.custom_op.registry import getCustomOp

    for node in model.graph.node:
        op = getCustomOp(node)
        if node.op_type == "MVAU":
            op.set_nodeattr("mem_mode", "internal_decoupled")
            op.set_nodeattr("runtime_writeable_weights", 1)
            op.set_nodeattr("resType", "dsp")
            op.set_nodeattr("ram_style", ram_style)
            op.set_nodeattr("preferred_impl_style", "rtl")
        elif node.op_type == "Thresholding":
            op.set_nodeattr("runtime_writeable_weights", 1)
            op.set_nodeattr("preferred_impl_style", "rtl")
    return _minimise(model)


def _minimise(model: Any) -> Any:
    from finn.transformation.fpgadataflow.minimize_accumulator_width import MinimizeAccumulatorWidth
    from finn.transformation.fpgadataflow.minimize_weight_bit_width import MinimizeWeightBitWidth
    from finn.transformation.streamline.round_thresholds import RoundAndClipThresholds
    from qonnx.transformation.infer_datatypes import InferDataTypes

    for step in (
        MinimizeWeightBitWidth(),
        MinimizeAccumulatorWidth(),
        InferDataTypes(),
        RoundAndClipThresholds(),
        InferDataTypes(),
        MinimizeWeightBitWidth(),
    ):
        model = model.transform(step)
    return model


def _specialise(model: Any, part: str) -> Any:
    from finn.transformation.fpgadataflow.specialize_layers import SpecializeLayers
    from finn.util.fpgadataflow import is_rtl_node

    model = model.transform(SpecializeLayers(part))
    for node in model.graph.node:
        if not is_rtl_node(node):
            raise ModelError(
                f"node {node.name} ({node.op_type}) has no RTL: FINN would need Vitis HLS for it; use weights of 2 to "
                "8 bits, activations of 2 to 8 bits, max pooling and no depthwise convolution."
            )
    return model


def _store_weights(model: Any, layers: list[Layer], schemes: Mapping[str, Scheme]) -> None:
    """Every matrix unit is a StoredMVAU_rtl; it knows its scheme, and its weights are the exported ones."""
    from qonnx.custom_op.registry import getCustomOp

    units = [node for node in model.graph.node if node.op_type == "MVAU_rtl"]
    if len(units) != len(layers):
        raise ModelError(f"the hardware must have one matrix unit per weight layer ({len(layers)}), got {len(units)}.")
    for node, layer in zip(units, layers, strict=True):
        node.op_type = "StoredMVAU_rtl"
        op = getCustomOp(node)
        mem.check_survival(op, layer, model.get_initializer(node.input[1]))
        if layer.name in schemes:
            op.set_nodeattr("scheme", json.dumps(schemes[layer.name].to_dict()))
        if op.scheme().bits != op.get_input_datatype(1).bitwidth():
            _widen_weights(model, op, op.scheme().bits)


def _widen_weights(model: Any, op: Any, bits: int) -> None:
    """Weights are kept at the exported width, though the trained ones might fit fewer bits: a flip must not vanish."""
    from qonnx.core.datatype import DataType

    op.set_nodeattr("weightDataType", f"INT{bits}")
    model.set_tensor_datatype(op.onnx_node.input[1], DataType[f"INT{bits}"])


def _set_fifo_depths(model: Any) -> None:
    """FIFOs deep enough that a chain runs at the pace of its slowest node: what a consumer takes in one go."""
    from qonnx.custom_op.registry import getCustomOp

    for node in model.graph.node:
        op = getCustomOp(node)
        if node.op_type == "StoredMVAU_rtl":
            depth = op.get_nodeattr("MW") // op.get_nodeattr("SIMD") + 2
        elif node.op_type == "FMPadding_rtl":
            depth = 2 * int(np.prod(op.get_folded_input_shape()[-3:-1])) + 2
        else:
            depth = 2
        op.set_nodeattr("inFIFODepths", [max(2, depth)])


def generate(lowered: Lowered, model: Any, part: str, clk_ns: float) -> Design:
    """RTL code of every node is generated (in FINN's build folder), and memories, windows and streams are laid out."""
    from finn.transformation.fpgadataflow.prepare_ip import PrepareIP
    from qonnx.custom_op.registry import getCustomOp

    model = model.transform(PrepareIP(part, clk_ns))
    ops = [getCustomOp(node) for node in model.graph.node]
    nodes = [_node(op, part) for op in ops]
    placed = windows(nodes)
    memories, parameters = _memories(model, ops, lowered.layers, placed)
    io, source, sink = _io(lowered, ops)
    return Design(
        model, nodes, placed, memories, mem.golden_images(memories, parameters), io, source, sink, _folding(ops)
    )


def _folding(ops: list[Any]) -> dict[str, dict[str, Any]]:
    """FINN's folding configuration as it was applied."""
    wanted = ("PE", "SIMD", "ram_style", "parallel_window", "depth", "inFIFODepths")
    result: dict[str, dict[str, Any]] = {"Defaults": {}}
    for op in ops:
        types = op.get_nodeattr_types()
        values = {key: op.get_nodeattr(key) for key in wanted if key in types}
        result[op.onnx_node.name] = {k: (np.asarray(v).tolist()) for k, v in values.items()}
    return result


def _node(op: Any, part: str) -> Node:
    from bitward.hardware.ops._module import RtlModule

    kind = op.onnx_node.op_type
    is_ours = isinstance(op, RtlModule)
    address_bits = 0
    if kind == "StoredMVAU_rtl":
        depth = (op.get_nodeattr("MW") // op.get_nodeattr("SIMD")) * (op.get_nodeattr("MH") // op.get_nodeattr("PE"))
        width = BeatLayout(op.scheme(), op.get_nodeattr("PE") * op.get_nodeattr("SIMD")).width
        address_bits = mem.weight_address_bits(depth, width)
    elif kind == "Thresholding_rtl":
        address_bits = mem.threshold_address_bits(op)
    return Node(
        name=op.onnx_node.name,
        module=op.get_nodeattr("gen_top_module"),
        parameters=op.parameters(part) if is_ours else {},
        in_bits=op.get_instream_width_padded(0),
        out_bits=op.get_outstream_width_padded(0),
        address_bits=address_bits,
        has_strobe=not is_ours,
        idle_axilite=5 if kind == "FMPadding_rtl" else 0,
    )


def _memories(
    model: Any, ops: list[Any], layers: list[Layer], placed: list[Window]
) -> tuple[list[Memory], dict[str, NDArray[np.int64]]]:
    window = {w.node: w for w in placed}
    memories, parameters = [], {}
    remaining, before = list(layers), "input"
    for op in ops:
        node = op.onnx_node
        if node.op_type == "StoredMVAU_rtl":
            layer = remaining.pop(0)
            vectors = int(np.prod(op.get_nodeattr("numInputVectors")))
            depth = (op.get_nodeattr("MW") // op.get_nodeattr("SIMD")) * (
                op.get_nodeattr("MH") // op.get_nodeattr("PE")
            )
            memory = mem.weight_memory(op, layer, window[node.name], depth * vectors)
            values, before = layer.weights, layer.name
        elif node.op_type == "Thresholding_rtl":
            thresholds = model.get_initializer(node.input[1])
            _check_stages(op)
            memory = mem.threshold_memory(op, before, node.input[1], thresholds.shape, window[node.name])
            values = thresholds.astype(np.int64)
        else:
            continue
        _tag(node, memory.name)
        memories.append(memory)
        parameters[memory.name] = values
    return memories, parameters


def _check_stages(op: Any) -> None:
    """FINN lays thresholds out for as many search stages as the output type has bits, the RTL for clog2(count + 1)."""
    count, datatype = op.get_nodeattr("numSteps"), op.get_output_datatype(0)
    if int(count).bit_length() != datatype.bitwidth():
        raise ModelError(
            f"node {op.onnx_node.name} (Thresholding) must have an output type as wide as its {count} thresholds need "
            f"({int(count).bit_length()} bits), got {datatype.name}: use the whole range of the activation's quantizer."
        )


def _tag(node: Any, memory: str) -> None:
    entry = node.metadata_props.add()
    entry.key, entry.value = MEMORY_KEY, memory


def _io(lowered: Lowered, ops: list[Any]) -> tuple[Io, Stream, Stream]:
    source, tensor_in = _stream(
        ops[0].get_normal_input_shape(0), ops[0].get_folded_input_shape(0), ops[0].get_input_datatype(0)
    )
    last = ops[-1]
    sink, tensor_out = _stream(
        last.get_normal_output_shape(0), last.get_folded_output_shape(0), last.get_output_datatype(0)
    )
    return Io(tensor_in, tensor_out, tuple(lowered.pre), tuple(lowered.post)), source, sink


def _stream(normal: Any, folded: Any, datatype: Any) -> tuple[Stream, StreamTensor]:
    elements, beats = int(folded[-1]), int(math.prod(folded[:-1]))
    stream = Stream(elements * datatype.bitwidth(), beats)
    shape = tuple(int(n) for n in normal[1:])
    return stream, StreamTensor(shape, datatype.name, stream.wire_bits, elements, beats)


def write_memory_files(design: Design, directory: Path) -> None:
    """The initial content of every memory, as the RTL reads it, is written to the folder of RTL files."""
    import shutil

    from qonnx.custom_op.registry import getCustomOp

    held = {memory.name: memory for memory in design.memories}
    for node in design.model.graph.node:
        op = getCustomOp(node)
        if node.op_type == "StoredMVAU_rtl":
            name = next(entry.value for entry in node.metadata_props if entry.key == MEMORY_KEY)
            mem.write_hex(design.images[name], held[name].width, directory / op.memory_file())
        elif node.op_type == "Thresholding_rtl":
            for path in Path(op.get_nodeattr("code_gen_dir_ipgen")).glob("*.dat"):
                shutil.copyfile(path, directory / path.name)
