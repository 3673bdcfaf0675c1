# SPDX-License-Identifier: Apache-2.0
"""A lowered graph becomes folded RTL nodes: specialised, folded, joined by queues, with the memories they hold."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bitward.errors import ConfigError
from bitward.hardware import memories as mem
from bitward.hardware.budget import choose_ram_styles
from bitward.hardware.fifos import insert_fifos, queues, safe_depths, set_depths
from bitward.hardware.finn_attributes import CHOSEN
from bitward.hardware.finn_config import DEFAULTS, Config, Translated, check_specialisation, hardware_nodes, translate
from bitward.hardware.folding import Choices, set_folding
from bitward.hardware.lowering import Lowered
from bitward.hardware.specialise import specialise
from bitward.hardware.stitch import Link, Node, Stream, Window, windows
from bitward.manifest import Io, Memory, StreamTensor
from bitward.schemes import Scheme

if TYPE_CHECKING:
    from bitward.hardware.ops._stored import StoredModule

MEMORY_KEY = "bitward.memory"  # metadata of a node: the manifest's memory that holds its parameters
BUILD_PATHS = ("code_gen_dir_ipgen", "ipgen_path", "ip_path")  # attributes that name FINN's folders, gone after a build


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
    steps: list[str]
    biases: Sequence[str] = ()  # what was done to biases before lowering
    notes: Sequence[str] = ()  # which nodes FINN's names mean, and what of its files is left out


def fold_graph(
    lowered: Lowered,
    schemes: Mapping[str, Scheme],
    cycles: int,
    overrides: Mapping[str, Mapping[str, Any]] | None,
    ram_style: str,
) -> Any:
    """The hardware graph, folded, with width converters and queues between its nodes.

    `schemes` maps a memory's name to how its words are stored; memories not named are plain. `ram_style` is that of
    weights. `overrides` are a folding configuration in FINN's form or bitward's own, with the depths of queues.
    """
    from finn.transformation.fpgadataflow.insert_dwc import InsertDWC

    model = specialise(copy.deepcopy(lowered.model), lowered.parameters)
    for op in stored_ops(model):
        _store(op, lowered, schemes, ram_style)
    units = {op.onnx_node.name: _choices(op, lowered) for op in stored_ops(model)}
    given = translate(overrides or {}, hardware_nodes(model, units))
    found = {name: _queue(name, values) for name, values in given.queues.items()}
    model = set_folding(model, units, cycles, given.overrides, given.called)
    choose_ram_styles(model, {name for name, values in given.overrides.items() if "ram_style" in values})
    model = specialise(model.transform(InsertDWC()), lowered.parameters)
    model = insert_fifos(_name_streams(model))
    ends = {queue.name: [queue.producer, queue.consumer] for queue in queues(model)}
    for name, values in found.items():
        between = values.get("between")
        if name in ends and between not in (None, ends[name]):
            raise ConfigError(
                f"folding of {name} must be of the queue between {' and '.join(ends[name])}, got the depth of one "
                f"between {' and '.join(map(str, between or ()))}: it is of another design; leave queues out to have "
                "them found."
            )
    return set_depths(model, {**safe_depths(model), **{name: values["depth"] for name, values in found.items()}})


def _queue(name: str, values: Any) -> dict[str, Any]:
    """What a folding configuration gives a queue: its depth, and the nodes that it stood between when it was found."""
    kinds = {"depth": int, "between": list}
    is_given = isinstance(values, Mapping) and "depth" in values and set(values) <= set(kinds)
    if not is_given or any(type(value) is not kinds[key] for key, value in values.items()):
        raise ConfigError(f'folding of {name} must give its depth, as {{"depth": 16}}, got {values!r}.')
    return dict(values)


def translated(lowered: Lowered, config: Config, where: str = "folding") -> Translated:
    """What a folding or specialisation file means for the design."""
    model = specialise(copy.deepcopy(lowered.model), lowered.parameters)
    units = {op.onnx_node.name: _choices(op, lowered) for op in stored_ops(model)}
    return translate(config, hardware_nodes(model, units), where)


def finn_notes(lowered: Lowered, folding: Config, specialize: Config) -> list[str]:
    """What FINN's names mean here, and what its files ask for that is left out. ConfigError where they ask for HLS."""
    given, checked = translated(lowered, folding), translated(lowered, specialize, "specialize")
    check_specialisation(checked)
    means = [f"{name} is {ours}" for name, ours in given.names.items()]
    return [*([f"FINN's names: {', '.join(means)}"] if means else []), *given.notes, *checked.notes]


def stored_ops(model: Any) -> Iterator[StoredModule]:
    """The nodes that hold a parameter memory."""
    from qonnx.custom_op.registry import getCustomOp

    from bitward.hardware.ops._stored import StoredModule

    ops = (getCustomOp(node) for node in model.graph.node)
    return (op for op in ops if isinstance(op, StoredModule))


def _store(op: StoredModule, lowered: Lowered, schemes: Mapping[str, Scheme], ram_style: str) -> None:
    """The node knows its scheme, and the engine where its parameters are."""
    name = op.memory_name()
    if name in schemes:
        op.set_nodeattr("scheme", json.dumps(schemes[name].to_dict()))
    if lowered.parameters[name].role == "weight":
        op.set_nodeattr("ram_style", ram_style)
    op.onnx_node.metadata_props.add(key=MEMORY_KEY, value=name)


def _choices(op: StoredModule, lowered: Lowered) -> Choices:
    parameter = lowered.parameters[op.memory_name()]
    return Choices(parameter.name, parameter.layer if parameter.role == "weight" else "", op.foldings(parameter))


def _name_streams(model: Any) -> Any:
    """Streams are named by their producers, so that two builds of a design are equal (FINN draws names at random)."""
    ends = {tensor.name for tensor in (*model.graph.input, *model.graph.output)}
    for node in model.graph.node:
        for index, tensor in enumerate(node.output):
            if tensor not in ends:
                model.rename_tensor(tensor, f"{node.name}_out{index}")
    return model


def generate(lowered: Lowered, model: Any, part: str, clk_ns: float) -> Design:
    """RTL code of every node is generated (in FINN's build folder), and memories, windows and streams are laid out."""
    from finn.transformation.fpgadataflow.prepare_ip import PrepareIP
    from qonnx.custom_op.registry import getCustomOp

    model = model.transform(PrepareIP(part, clk_ns))
    ops = [getCustomOp(node) for node in model.graph.node]
    constants = {tensor.name for tensor in model.graph.initializer}
    nodes = [_node(op, part, constants) for op in ops]
    placed = windows(nodes)
    at = {window.node: window for window in placed}
    memories = [
        mem.memory_of(op, lowered.parameters[op.memory_name()], at[op.onnx_node.name]) for op in stored_ops(model)
    ]
    images = mem.golden_images(memories, {name: each.values for name, each in lowered.parameters.items()})
    io, source, sink = _io(lowered, model)
    return Design(model, nodes, placed, memories, images, io, source, sink, _folding(model), lowered.steps)


def with_depths(design: Design, depths: Mapping[str, int], part: str) -> Design:
    """The design with queues of these depths."""
    from qonnx.custom_op.registry import getCustomOp

    model = set_depths(design.model, depths)
    ops = {node.name: getCustomOp(node) for node in model.graph.node}
    nodes = [
        replace(node, parameters=ops[node.name].parameters(part)) if node.name in depths else node
        for node in design.nodes
    ]
    return replace(design, nodes=nodes, folding=_folding(model))


def _folding(model: Any) -> dict[str, dict[str, Any]]:
    """FINN's folding configuration as it was applied: a build that is given it is the same build."""
    from qonnx.custom_op.registry import getCustomOp

    result: dict[str, dict[str, Any]] = {DEFAULTS: {}}
    depths = {
        queue.name: {"depth": queue.depth, "between": [queue.producer, queue.consumer]} for queue in queues(model)
    }
    for node in model.graph.node:
        op = getCustomOp(node)
        values = {key: np.asarray(op.get_nodeattr(key)).tolist() for key in CHOSEN if key in op.get_nodeattr_types()}
        if values := depths.get(node.name, values):
            result[node.name] = values
    return result


def _node(op: Any, part: str, constants: set[str]) -> Node:
    from bitward.hardware.ops._module import RtlModule
    from bitward.hardware.ops._stored import StoredModule

    node = op.onnx_node
    is_stored = isinstance(op, StoredModule)
    inputs = [tensor for tensor in node.input if tensor not in constants]
    return Node(
        name=node.name,
        module=op.get_nodeattr("gen_top_module"),
        parameters=op.parameters(part) if isinstance(op, RtlModule) else {},
        inputs=tuple(Link(tensor, op.get_instream_width_padded(index)) for index, tensor in enumerate(inputs)),
        outputs=tuple(Link(tensor, op.get_outstream_width_padded(index)) for index, tensor in enumerate(node.output)),
        address_bits=op.address_bits() if is_stored else 0,
        idle_axilite=5 if node.op_type == "FMPadding_rtl" else 0,
        memory=op.memory_name() if is_stored else "",
        counts=is_stored and bool(op.scheme().voted or op.scheme().check_bits),
    )


def _io(lowered: Lowered, model: Any) -> tuple[Io, Stream, Stream]:
    from qonnx.custom_op.registry import getCustomOp

    first_name, last_name = model.graph.input[0].name, model.graph.output[0].name
    first, last = model.find_consumer(first_name), model.find_producer(last_name)
    end, start = getCustomOp(last), getCustomOp(first)
    into, out = list(first.input).index(first_name), list(last.output).index(last_name)
    source, tensor_in = _stream(
        start.get_normal_input_shape(into), start.get_folded_input_shape(into), start.get_input_datatype(into)
    )
    sink, tensor_out = _stream(
        end.get_normal_output_shape(out), end.get_folded_output_shape(out), end.get_output_datatype(out)
    )
    return Io(tensor_in, tensor_out, tuple(lowered.pre), tuple(lowered.post)), source, sink


def _stream(normal: Any, folded: Any, datatype: Any) -> tuple[Stream, StreamTensor]:
    elements, beats = int(folded[-1]), int(math.prod(folded[:-1]))
    stream = Stream(elements * datatype.bitwidth(), beats)
    shape = tuple(int(n) for n in normal[1:])
    return stream, StreamTensor(shape, datatype.name, stream.wire_bits, elements, beats)


def write_memory_files(design: Design, directory: Path) -> None:
    """The initial content of every memory, as the RTL reads it, is written to the folder of RTL files."""
    for op, memory in zip(stored_ops(design.model), design.memories, strict=True):
        op.write_contents(design.images[memory.name], directory)


def without_paths(model: Any) -> Any:
    """A copy of the model that names no folder of the machine that built it."""
    portable = copy.deepcopy(model)
    for node in portable.graph.node:
        for attribute in [a for a in node.attribute if a.name in BUILD_PATHS]:
            node.attribute.remove(attribute)
    return portable
