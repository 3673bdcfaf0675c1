# SPDX-License-Identifier: Apache-2.0
"""What is done to a QONNX graph before the walk: constants folded, nodes named, operators put where they cost least."""

from __future__ import annotations

import copy
from typing import Any

from bitward.hardware.lowering.reorder import join_slices, quantize_first
from bitward.hardware.lowering.values import unused
from bitward.rewrites.layers import find_layers, mark_layer


def prepare(model: Any) -> tuple[Any, list[str]]:
    """A copy of the model, ready to be walked, of the same function; and what each pass changed."""
    from qonnx.core.modelwrapper import ModelWrapper

    model = ModelWrapper(copy.deepcopy(model.model))
    for name, layer in find_layers(model).items():
        mark_layer(layer.node, name)  # sorting must not exchange names
    model, log = _clean(model)
    name_nodes(model)
    log.append(_said("drop_dead", drop_dead(model), "gone: no output depends on them"))
    log.append(_said("quantize_first", quantize_first(model), "before quantizers, now behind them"))
    log.append(_said("join_slices", join_slices(model), "together a Split"))
    order(model)
    return model, log


def _clean(model: Any) -> tuple[Any, list[str]]:
    """qonnx's own passes, those that rename nothing."""
    from qonnx.transformation.fold_constants import FoldConstants
    from qonnx.transformation.general import (
        GiveUniqueParameterTensors,
        RemoveStaticGraphInputs,
        RemoveUnusedTensors,
        SortGraph,
    )
    from qonnx.transformation.infer_shapes import InferShapes
    from qonnx.transformation.quant_constant_folding import FoldTransposeIntoQuantInit

    log = []
    for step in (
        InferShapes(), FoldConstants(), InferShapes(), GiveUniqueParameterTensors(), FoldTransposeIntoQuantInit(),
        InferShapes(), RemoveUnusedTensors(), RemoveStaticGraphInputs(), SortGraph(),
    ):  # fmt: skip
        before = _nodes(model)
        model = model.transform(step)
        log.append(_said(type(step).__name__, sorted(before - _nodes(model)), "gone"))
    return model, log


def drop_dead(model: Any) -> list[str]:
    """Nodes on which no output of the graph depends are gone; their names. `model` is changed."""
    wanted = {output.name for output in model.graph.output}
    dead = []
    for node in reversed(list(model.graph.node)):
        if wanted.isdisjoint(node.output):
            dead.append(node.name)
            model.graph.node.remove(node)
        else:
            wanted.update(node.input)
    return dead[::-1]


def _said(step: str, nodes: list[str], what: str) -> str:
    return f"{step}: {', '.join(nodes) + ' ' + what if nodes else 'no node changed'}"


def _nodes(model: Any) -> set[str]:
    return {f"{node.op_type} {node.output[0]}" for node in model.graph.node}


def order(model: Any) -> None:
    """Nodes stand in the order in which a walk back from the outputs, first inputs first, has met all they need.

    That order depends on the structure alone: twins of a model (plain and hardened) get the same names for the same
    nodes, so that a folding found for one holds for the other. `model` is changed.
    """
    maker = {tensor: index for index, node in enumerate(model.graph.node) for tensor in node.output}
    nodes = list(model.graph.node)
    done: list[int] = []
    met: set[int] = set()
    todo = [maker[output.name] for output in reversed(model.graph.output) if output.name in maker]
    while todo:
        index = todo[-1]
        needed = [maker[tensor] for tensor in nodes[index].input if tensor in maker]
        waiting = [each for each in reversed(needed) if each not in met]
        if waiting:
            todo += waiting
            continue
        todo.pop()
        if index not in met:
            met.add(index)
            done.append(index)
    ordered = [nodes[index] for index in done]
    del model.graph.node[:]
    model.graph.node.extend(ordered)


def name_nodes(model: Any) -> None:
    """Every node has a name, none twice: messages and logs name nodes."""
    given = {node.name for node in model.graph.node}
    taken: set[str] = set()
    for index, node in enumerate(model.graph.node):
        if not node.name or node.name in taken:
            node.name = unused(f"{node.op_type}_{index}", given | taken)
        taken.add(node.name)
