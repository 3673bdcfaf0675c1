# SPDX-License-Identifier: Apache-2.0
"""Hardened graphs back to plain ones with a note of what is to be protected: what the lowering to hardware starts from."""

from __future__ import annotations

import json

import numpy as np
from onnx import helper
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.custom_op.registry import getCustomOp
from qonnx.transformation.base import Transformation

from bitward.errors import ModelError
from bitward.rewrites.layers import NAMES_KEY, Layer, find_layers
from bitward.schemes import Scheme, scheme_from_dict

PROTECTION_KEY = "bitward.protection"


def protection(model: ModelWrapper) -> dict[str, Scheme]:
    """An analysis: the scheme of each protected layer's weights, as `LiftVoters` noted it; {} for a plain model."""
    noted = json.loads(model.get_metadata_prop(PROTECTION_KEY) or "{}")
    return {layer: scheme_from_dict(scheme, f"the protection of layer '{layer}'") for layer, scheme in noted.items()}


class LiftVoters(Transformation):
    """Voters are gone: weights stand behind Quant nodes again, and the model's metadata says how each layer is protected.

    Same function. The inverse of `InsertMsbVoter`, also after cleanup passes have renamed nodes and tensors. Weights are as the
    voters read them. Layer names are noted too, in graph order, for those who rename later. Read with `protection`.
    """

    def apply(self, model: ModelWrapper) -> tuple[ModelWrapper, bool]:
        layers = find_layers(model)
        noted = {name: scheme.to_dict() for name, scheme in protection(model).items()}
        names = []
        for layer in layers.values():
            name = getCustomOp(layer.voter).get_nodeattr("layer") if layer.voter is not None else layer.name
            names.append(name)
            if layer.voter is not None:
                noted[name] = getCustomOp(layer.voter).scheme.to_dict()
                _lift(model, layer)
        left = [node.name for node in model.graph.node if node.op_type == "MsbVoter"]
        if left:
            raise ModelError(
                f"node '{left[0]}' (MsbVoter) must feed a layer through a Mul to be lifted, got another use; insert voters with "
                "bitward harden"
            )
        model.set_metadata_prop(PROTECTION_KEY, json.dumps(noted))
        model.set_metadata_prop(NAMES_KEY, json.dumps(names))
        return model, False  # one pass lifts all


def _lift(model: ModelWrapper, layer: Layer) -> None:
    """The layer's weights stand behind one Quant node, in the place of its voter and of what belongs to it."""
    voter, scaling = getCustomOp(layer.voter), layer.scaling
    width = model.find_producer(layer.voter.input[0])
    source = width.input[0] if width is not None else layer.voter.input[0]
    scale_name = next(name for name in scaling.input if name != layer.voter.output[0])
    scale = model.get_initializer(scale_name)
    values = voter.read(model.get_initializer(source)) * scale
    stem = f"{layer.node.name}.weight"
    names = {part: f"{stem}.{part}" for part in ("zero", "bits")}
    constants = {stem: values, names["zero"]: 0.0, names["bits"]: float(voter.scheme.bits)}
    position = list(model.graph.node).index(layer.voter)
    old = [node for node in (width, layer.voter, scaling) if node is not None]
    quantizer = helper.make_node(
        "Quant",
        [stem, scale_name, names["zero"], names["bits"]],
        [scaling.output[0]],
        name=f"{layer.node.name}.quant",
        domain="qonnx.custom_op.general",
        signed=voter.get_nodeattr("signed"),
        narrow=0,  # an upset makes every word: none may be thought impossible
        rounding_mode="ROUND",
    )
    model.graph.node.insert(position, quantizer)
    for node in old:
        model.graph.node.remove(node)
    read = {name for node in model.graph.node for name in node.input}
    for name in {name for node in old for name in node.input} - read:
        model.del_initializer(name)
    for name, value in constants.items():
        model.set_initializer(name, np.asarray(value, np.float32))
