# SPDX-License-Identifier: Apache-2.0
"""The layers of a QONNX graph: its multiply-accumulate nodes with constant weights, their names and integer weights."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.custom_op.general.quant import quant as quantize
from qonnx.custom_op.registry import getCustomOp

from bitward.errors import ModelError
from bitward.tools import atomic_write

MAC_OPS = ("Conv", "ConvTranspose", "MatMul", "Gemm")
NAMES_KEY = "bitward.layers"  # metadata of a model: its layers' names, in graph order
OF_MODULE = re.compile(r"(.+?)\.weight(?:_quant\..*)?")  # a weight tensor, or a parameter of its quantizer
NAME_KEY = "bitward.layer"  # metadata of a node: its name as a layer, which survives renaming and sorting


@dataclass(frozen=True, eq=False)
class Layer:
    """A MAC node with constant weights: plain (`quantizer` is its Quant node), hardened (`voter`), or neither.

    `scaling` is the Mul between a voter and the MAC.
    """

    name: str
    node: NodeProto
    quantizer: NodeProto | None = None
    voter: NodeProto | None = None
    scaling: NodeProto | None = None


@dataclass(frozen=True, eq=False)
class QuantizedWeights:
    """What a Quant node makes of initializer `tensor`: int64 of its shape, times `scale` (float32, broadcastable)."""

    tensor: str
    integers: npt.NDArray[np.int64]
    scale: npt.NDArray[np.float32]
    bits: int
    signed: bool

    @property
    def lowest(self) -> int:
        """The least integer of the width: the one that has no negative."""
        return -(2 ** (self.bits - 1)) if self.signed else 0

    @property
    def values(self) -> npt.NDArray[np.float32]:
        """What the MAC multiplies by."""
        return self.integers.astype(np.float32) * self.scale


def save_model(model: ModelWrapper, path: Path) -> None:
    """The file holds the model, whole, equal bytes for equal models; OutputError when it cannot be written."""
    atomic_write(path, model.model.SerializeToString(deterministic=True))


def find_layers(model: ModelWrapper) -> dict[str, Layer]:
    """An analysis: every layer by name, in the graph's order.

    Names come from the export (kept in the nodes' metadata, and in the model's, so that passes which rename and sort do
    not lose them), else from the torch module that the quantized weights name ("block1.conv" of "block1.conv.weight"),
    else from the nodes, else from operator and position ("MatMul_2").
    """
    found = [parts for node in model.graph.node if (parts := _layer_parts(model, node)) is not None]
    names = [_marked_name(parts["node"]) for parts in found]
    if "" in names:
        saved = json.loads(model.get_metadata_prop(NAMES_KEY) or "[]")
        names = saved if len(saved) == len(found) else [_own_name(parts) for parts in found]
    if "" in names or len(set(names)) < len(names):
        names = [f"{parts['node'].op_type}_{index}" for index, parts in enumerate(found)]
    return {name: Layer(name, **parts) for name, parts in zip(names, found, strict=True)}


def mark_layer(node: NodeProto, name: str) -> None:
    """The node carries that name as a layer in its metadata."""
    kept = [entry for entry in node.metadata_props if entry.key != NAME_KEY]
    del node.metadata_props[:]
    node.metadata_props.extend(kept)
    entry = node.metadata_props.add()
    entry.key, entry.value = NAME_KEY, name


def keep_names(model: ModelWrapper) -> None:
    """Layers carry the names that they have now in their nodes' metadata. Changes `model`."""
    for name, layer in find_layers(model).items():
        mark_layer(layer.node, name)


def _own_name(parts: dict[str, Any]) -> str:
    """The module that the parameters of the weights' quantizer name, as Brevitas exports them; else the node's name."""
    quantizer = parts.get("quantizer")
    modules = [match[1] for name in (quantizer.input if quantizer else ()) if (match := OF_MODULE.fullmatch(name))]
    return _plain_name(modules[0] if modules else parts["node"].name)


def _plain_name(name: str) -> str:
    """The name without what no file name or report should carry: "/c/Conv" is "c.Conv"."""
    return re.sub(r"[^\w.-]+", ".", name).strip(".")


def _marked_name(node: NodeProto) -> str:
    return next((entry.value for entry in node.metadata_props if entry.key == NAME_KEY), "")


def name_layers(model: ModelWrapper, names: list[str]) -> None:
    """The layers carry these names, in graph order: node, weight tensor and metadata. Changes `model` in place."""
    layers = list(find_layers(model).values())
    if len(names) != len(layers) or len(set(names)) < len(names):
        raise ModelError(
            f"names must be {len(layers)} different ones, one for each layer, got {names}; give them in graph order"
        )
    for name, layer in zip(names, layers, strict=True):
        layer.node.name = name
        mark_layer(layer.node, name)
        if layer.quantizer is not None:
            model.rename_tensor(layer.quantizer.input[0], f"{name}.weight")
    model.set_metadata_prop(NAMES_KEY, json.dumps(names))


def read_weights(model: ModelWrapper, layer: Layer) -> QuantizedWeights:
    """The integers that the layer's Quant node makes of its weights; ModelError when they are no plain integers."""
    if layer.quantizer is None:
        raise ModelError(
            f"layer '{layer.name}' must have weights behind a Quant node, got {'a voter' if layer.voter else 'none'}; "
            "quantize it with Brevitas, or use the QONNX as it was exported, cleaned up with qonnx-cleanup"
        )
    return read_quantizer(model, layer.quantizer, f"layer '{layer.name}'")


def read_quantizer(model: ModelWrapper, node: NodeProto, where: str) -> QuantizedWeights:
    """The integers that a Quant node makes of a constant, e.g. weights or biases."""
    values, scale, zero_point, bits = (model.get_initializer(name) for name in node.input)
    if np.any(zero_point != 0):
        raise ModelError(f"{where} must have zero point 0, got {zero_point.ravel()[0]:g}; quantize it symmetrically")
    if bits.size != 1 or bits.item() != int(bits.item()) or not 2 <= bits.item() <= 32:
        raise ModelError(
            f"{where} must have one whole width from 2 to 32 bits, got {bits.ravel().tolist()}; bipolar and mixed "
            "widths have no stored word"
        )
    if np.any(scale <= 0):
        raise ModelError(f"{where} must have scales above 0, got {scale.min():g}; fold signs in when exporting")
    op = getCustomOp(node)
    signed, narrow = bool(op.get_nodeattr("signed")), bool(op.get_nodeattr("narrow"))
    quantized = quantize(values, scale, zero_point, bits, signed, narrow, op.get_nodeattr("rounding_mode"))
    integers = np.rint(quantized / scale).astype(np.int64)
    return QuantizedWeights(node.input[0], integers, np.asarray(scale, np.float32), int(bits.item()), signed)


def declare_domain(model: ModelWrapper, domain: str) -> None:
    """The model says that it uses operators of that domain, as ONNX asks of every domain."""
    if domain not in {imported.domain for imported in model.model.opset_import}:
        model.model.opset_import.append(onnx.helper.make_opsetid(domain, 1))


def drop_unread(model: ModelWrapper, names: Sequence[str]) -> None:
    """Those of the initializers `names` that no node reads are gone."""
    read = {name for node in model.graph.node for name in node.input}
    for name in set(names) - read:
        model.del_initializer(name)


def _layer_parts(model: ModelWrapper, node: NodeProto) -> dict[str, Any] | None:
    """The fields of a Layer but its name; None when the node is no MAC or multiplies two activations."""
    if node.op_type not in MAC_OPS:
        return None
    source = model.find_producer(node.input[1])
    if source is None:
        return {"node": node} if model.get_initializer(node.input[1]) is not None else None
    if source.op_type == "Quant":
        constant = all(model.get_initializer(name) is not None for name in source.input)
        return {"node": node, "quantizer": source} if constant else None
    if source.op_type == "Mul":
        before = [model.find_producer(name) for name in source.input]
        voters = [up for up in before if up is not None and up.op_type == "MsbVoter"]
        return {"node": node, "voter": voters[0], "scaling": source} if voters else None
    return None
