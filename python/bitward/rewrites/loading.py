# SPDX-License-Identifier: Apache-2.0
"""ONNX files as people have them become one form, or are refused with what is wrong with the graph, by its names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.custom_op.registry import getCustomOp

from bitward.errors import ModelError

EXPORT = "export one with bitward export, or with Brevitas' export_qonnx"
ONNX_DOMAINS = ("", "ai.onnx")
QUANTIZERS, QONNX_DOMAIN = ("BipolarQuant", "IntQuant", "Quant", "Trunc"), "qonnx.custom_op.general"
OLD_DOMAINS = ("finn", "finn.custom_op.general")  # of quantizers, which QONNX itself no longer finds there
CHANNELS_LAST = "qonnx.custom_op.channels_last"
PLAIN_VALUES = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}


def load_model(path: Path) -> ModelWrapper:
    """The ONNX model in that file: constants are initializers, and none of these is an input.

    ModelError where it is not there, is no ONNX model, or has a graph that cannot be executed: tensors that nothing
    makes, loops, operators that neither ONNX nor QONNX knows.
    """
    proto = _read(path)
    _keep_constants(proto, path)
    _check_operators(proto, path)
    _check_tensors(proto, path)
    try:
        return ModelWrapper(proto)
    except AssertionError as error:
        raise ModelError(f"{path} must be an ONNX model that agrees with itself, got: {error}; {EXPORT}") from error


def _read(path: Path) -> ModelProto:
    try:
        proto = onnx.load(str(path))
    except OSError as error:
        raise ModelError(f"{path} must be a readable ONNX file, got {error.strerror}: {EXPORT}") from error
    except DecodeError as error:
        raise ModelError(f"{path} must be an ONNX model, got a file that is none: {EXPORT}") from error
    except onnx.checker.ValidationError as error:
        said = " ".join(str(error).split())
        raise ModelError(f"{path} must have its external data beside it, got: {said} Copy that file too.") from error
    if not proto.graph.node:
        raise ModelError(f"{path} must be an ONNX model with nodes, got none: {EXPORT}")
    return proto


def _keep_constants(proto: ModelProto, path: Path) -> None:
    """What Constant nodes hold are initializers; quantizers have the one name, and a domain, that QONNX knows."""
    graph = proto.graph
    for node in list(graph.node):
        if node.op_type == "Constant" and node.domain in ONNX_DOMAINS:
            value = _value_of(node, path)
            value.name = node.output[0]
            graph.initializer.append(value)
            graph.node.remove(node)
        elif node.op_type in QUANTIZERS:
            node.op_type = "Quant" if node.op_type == "IntQuant" else node.op_type
            node.domain = QONNX_DOMAIN if node.domain in OLD_DOMAINS else node.domain
    constants = {tensor.name for tensor in graph.initializer}
    for entry in [entry for entry in graph.input if entry.name in constants]:
        graph.input.remove(entry)
        if entry.name in {known.name for known in graph.value_info}:
            continue
        graph.value_info.append(entry)


def _value_of(node: NodeProto, path: Path) -> TensorProto:
    for attribute in node.attribute:
        if attribute.name == "value":
            return attribute.t
        if attribute.name in PLAIN_VALUES:
            value = onnx.helper.get_attribute_value(attribute)
            return numpy_helper.from_array(np.asarray(value, PLAIN_VALUES[attribute.name]))
    held = ", ".join(attribute.name for attribute in node.attribute) or "nothing"
    raise ModelError(f"{path}: {_called(node)} must hold a tensor or numbers, got {held}: {EXPORT}")


def _called(node: NodeProto) -> str:
    return f"node {node.name or node.output[0]} ({node.op_type})"


def _check_operators(proto: ModelProto, path: Path) -> None:
    """Each operator is ONNX's, QONNX's or bitward's; all that are not are named."""
    import bitward.qonnx_ops  # noqa: F401 - registers our operators

    unknown = [
        f"{_called(node)} of domain {node.domain}"
        for node in proto.graph.node
        if node.domain not in ONNX_DOMAINS and not _is_known(node)
    ]
    if unknown:
        raise ModelError(
            f"{path} must have operators of ONNX and QONNX (domain qonnx.custom_op.general) alone, got "
            f"{', '.join(unknown)}: replace them, or leave that part to the host."
        )
    last = [_called(node) for node in proto.graph.node if node.domain == CHANNELS_LAST]
    if last:
        raise ModelError(
            f"{path} must have images channels first, got {', '.join(last)} of domain {CHANNELS_LAST}: take the file "
            "as it was before qonnx made it channels last, which the hardware will be anyway."
        )


def _is_known(node: NodeProto) -> bool:
    """Whether QONNX finds the operator, also in domains that older files name."""
    try:
        getCustomOp(node)
    except (KeyError, ImportError, AttributeError):
        return False
    return True


def _check_tensors(proto: ModelProto, path: Path) -> None:
    """Every tensor that is read is made, once, and none out of itself."""
    graph = proto.graph
    made = {tensor.name for tensor in (*graph.initializer, *graph.input)} | {""}
    made |= {tensor.values.name for tensor in graph.sparse_initializer}
    produced = {name for node in graph.node for name in node.output}
    for node in graph.node:
        for name in node.input:
            if name not in made | produced:
                raise ModelError(f"{path}: {_called(node)} must read tensors that are made, got {name!r}: {EXPORT}")
    for entry in graph.output:
        if entry.name not in made | produced:
            raise ModelError(f"{path}: output {entry.name} must be made by a node, got none that does: {EXPORT}")
    left = list(graph.node)
    while ready := [node for node in left if all(name in made for name in node.input)]:
        left = [node for node in left if not all(name in made for name in node.input)]
        made |= {name for node in ready for name in node.output}
    if left:
        around = ", ".join(_loop(left))
        raise ModelError(f"{path} must have no loop between nodes, got one of {around}: {EXPORT}")


def _loop(nodes: list[NodeProto]) -> Iterator[str]:
    """The names of nodes on one loop among these, each of which waits for another."""
    makers = {name: node for node in nodes for name in node.output}
    node, seen = nodes[0], list[str]()
    while node.output[0] not in seen:
        seen.append(node.output[0])
        node = next(makers[name] for name in node.input if name in makers)
    for name in seen[seen.index(node.output[0]) :]:
        yield makers[name].name or name
