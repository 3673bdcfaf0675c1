# SPDX-License-Identifier: Apache-2.0
"""Biases are stored three times and voted: bias hardening, declared on the QONNX graph, where it executes.

Before: integer bias -> Quant -> layer. After: three copies -> Quant -> BiasTmr -> Mul(scale) -> layer. The Quant leaves
the words as they are; it tells QONNX tools their width and keeps constant folding away, as in `insert_msb_voter`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto, TensorProto, helper
from qonnx.core.datatype import DataType
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.custom_op.registry import getCustomOp
from qonnx.transformation.base import Transformation

from bitward.errors import ConfigError, ModelError, nearest
from bitward.qonnx_ops import DOMAIN
from bitward.rewrites.biases import integer_biases
from bitward.rewrites.layers import Layer, QuantizedWeights, declare_domain, drop_unread, find_layers
from bitward.schemes import Scheme, scheme_from_dict

BIAS_PROTECTION_KEY = "bitward.bias_protection"
_HELP = "store and vote integer biases: quantize them, or rewrite them with QuantizeBiases"


def bias_schemes(model: ModelWrapper) -> dict[str, Scheme]:
    """An analysis: the scheme of each layer's hardened bias, by nodes or as `LiftBiasTmr` noted it."""
    noted = json.loads(model.get_metadata_prop(BIAS_PROTECTION_KEY) or "{}")
    schemes = {name: scheme_from_dict(scheme, f"the bias of layer '{name}'") for name, scheme in noted.items()}
    for node in model.get_nodes_by_op_type("BiasTmr"):
        op = getCustomOp(node)
        schemes[op.get_nodeattr("layer")] = op.scheme
    return schemes


@dataclass
class InsertBiasTmr(Transformation):
    """The integer biases of `layers` (None: all that have one) are stored three times and voted; same function.

    A layer has an integer bias where a Quant node makes it whole steps of the layer's sums (`integer_biases`): layers
    without one are left as they are when `layers` is None.

    ConfigError: an unknown layer. ModelError: a model without integer biases, a layer named that has none, a bias that
    is hardened already or that layers share.
    """

    layers: Sequence[str] | None = None

    def __post_init__(self) -> None:
        super().__init__()

    def apply(self, model: ModelWrapper) -> tuple[ModelWrapper, bool]:
        found, biases = find_layers(model), integer_biases(model)
        for name in self._chosen(model, found, biases):
            _insert(model, found[name], biases[name])
        declare_domain(model, DOMAIN)
        return model, False  # done in one pass; a second one would find the biases hardened

    def _chosen(
        self, model: ModelWrapper, found: dict[str, Layer], biases: dict[str, QuantizedWeights]
    ) -> Sequence[str]:
        hardened = bias_schemes(model)
        for name in self.layers or hardened:
            if name not in found:
                raise ConfigError(f"layers must name layers of the model, got '{name}'; {nearest(name, found)}")
            if name in hardened:
                raise ModelError(f"layer '{name}' must have a plain bias, got a voter behind it; take the plain model")
        chosen = list(biases) if self.layers is None else self.layers
        if not chosen:
            raise ModelError(f"the model must have a layer with an integer bias, got none; {_HELP}")
        for name in chosen:
            if name not in biases:
                raise ModelError(f"layer '{name}' must have an integer bias, got none; {_HELP}")
            if (readers := len(model.find_consumers(found[name].node.input[2]))) > 1:
                raise ModelError(f"layer '{name}' must have a bias of its own, got one of {readers}; give each a copy")
        return chosen


def _insert(model: ModelWrapper, layer: Layer, bias: QuantizedWeights) -> None:
    """The layer reads its bias through a voter, which stands where its Quant node stood."""
    stem, shape = f"{layer.name}.bias", list(bias.integers.shape)
    old = model.find_producer(layer.node.input[2])
    tensor = {part: f"{stem}.{part}" for part in ("stored", "read", "voted", "one", "zero", "bits", "scale")}
    voter = helper.make_node(
        "BiasTmr", [tensor["read"]], [tensor["voted"]], name=f"{stem}.voter", domain=DOMAIN, bits=bias.bits,
        layer=layer.name,
    )  # fmt: skip
    width = helper.make_node(
        "Quant", [tensor["stored"], tensor["one"], tensor["zero"], tensor["bits"]], [tensor["read"]],
        name=f"{stem}.stored", domain="qonnx.custom_op.general", signed=0, narrow=0, rounding_mode="ROUND",
    )  # fmt: skip
    scale = helper.make_node("Mul", [tensor["voted"], tensor["scale"]], [old.output[0]], name=f"{stem}.scaled")
    _replace(model, [old], [width, voter, scale])
    model.graph.value_info.append(helper.make_tensor_value_info(tensor["read"], TensorProto.FLOAT, [3, *shape]))
    model.graph.value_info.append(helper.make_tensor_value_info(tensor["voted"], TensorProto.FLOAT, shape))
    words = getCustomOp(voter).store(bias.integers)
    constants = {"one": 1.0, "zero": 0.0, "bits": float(bias.bits), "scale": bias.scale, "stored": words}
    for part, value in constants.items():
        model.set_initializer(tensor[part], np.asarray(value, np.float32))
    for part in ("stored", "read"):
        model.set_tensor_datatype(tensor[part], DataType[f"UINT{bias.bits}"])
    model.set_tensor_datatype(tensor["voted"], DataType[f"INT{bias.bits}"])


class LiftBiasTmr(Transformation):
    """Voters on biases are gone: biases stand behind Quant nodes, and the metadata says how each is protected.

    Same function; the inverse of `InsertBiasTmr`, also after cleanup passes. Biases are as the voters read them. Read
    the note with `bias_schemes`.
    """

    def apply(self, model: ModelWrapper) -> tuple[ModelWrapper, bool]:
        noted = {name: scheme.to_dict() for name, scheme in bias_schemes(model).items()}
        for node in list(model.get_nodes_by_op_type("BiasTmr")):
            readers = model.find_consumers(node.output[0])
            if len(readers) != 1 or readers[0].op_type != "Mul":
                raise ModelError(
                    f"node '{node.name}' (BiasTmr) must feed a layer through a Mul to be lifted, got another use; "
                    "insert voters with bitward harden"
                )
            _lift(model, node, readers[0])
        model.set_metadata_prop(BIAS_PROTECTION_KEY, json.dumps(noted))
        return model, False  # one pass lifts all


def _lift(model: ModelWrapper, node: NodeProto, scaling: NodeProto) -> None:
    voter = getCustomOp(node)
    width = model.find_producer(node.input[0])
    source = width.input[0] if width is not None else node.input[0]
    scale = model.get_initializer(next(name for name in scaling.input if name != node.output[0]))
    stem = f"{voter.get_nodeattr('layer')}.bias"
    parts = [stem, f"{stem}.scale", f"{stem}.zero", f"{stem}.bits"]
    values = (voter.read(model.get_initializer(source)) * scale, scale, 0.0, float(voter.get_nodeattr("bits")))
    quantizer = helper.make_node(
        "Quant", parts, [scaling.output[0]], name=f"{stem}.quant", domain="qonnx.custom_op.general", signed=1, narrow=0,
        rounding_mode="ROUND",
    )  # fmt: skip
    _replace(model, [part for part in (width, node, scaling) if part is not None], [quantizer])
    for part, value in zip(parts, values, strict=True):
        model.set_initializer(part, np.asarray(value, np.float32))


def _replace(model: ModelWrapper, old: list[NodeProto], new: list[NodeProto]) -> None:
    """The nodes `new` stand in the place of `old`, whose own constants are gone."""
    position = min(list(model.graph.node).index(node) for node in old)
    names = [name for node in old for name in node.input]
    for node in old:
        model.graph.node.remove(node)
    for offset, node in enumerate(new):
        model.graph.node.insert(position + offset, node)
    drop_unread(model, names)
