# SPDX-License-Identifier: Apache-2.0
"""Hardened graphs back to plain ones, with a note of what is protected: what the lowering to hardware starts from."""

from __future__ import annotations

import json

import numpy as np
from onnx import NodeProto, helper
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.custom_op.registry import getCustomOp
from qonnx.transformation.base import Transformation

from bitward.errors import ModelError
from bitward.rewrites.layers import NAMES_KEY, drop_unread, find_layers, mark_layer
from bitward.schemes import Scheme, scheme_from_dict

PROTECTION_KEY = "bitward.protection"


def protection(model: ModelWrapper) -> dict[str, Scheme]:
    """An analysis: the scheme of each protected layer's weights, as `LiftVoters` noted it; {} for a plain model."""
    noted = json.loads(model.get_metadata_prop(PROTECTION_KEY) or "{}")
    return {layer: scheme_from_dict(scheme, f"the protection of layer '{layer}'") for layer, scheme in noted.items()}


class LiftVoters(Transformation):
    """Voters are gone: weights stand behind Quant nodes again, and the model's metadata says how each is protected.

    Same function. The inverse of `InsertMsbVoter`, also after cleanup passes have renamed nodes and tensors. Weights
    are as the voters read them. Layer names are noted too, in graph order. Read the note with `protection`.
    """

    def apply(self, model: ModelWrapper) -> tuple[ModelWrapper, bool]:
        layers = find_layers(model)
        noted = {name: scheme.to_dict() for name, scheme in protection(model).items()}
        names = []
        for layer in layers.values():
            voter, scaling, name = layer.voter, layer.scaling, layer.name
            if voter is not None and scaling is not None:
                name = getCustomOp(voter).get_nodeattr("layer")
                noted[name] = getCustomOp(voter).scheme.to_dict()
                _lift(model, voter, scaling)
            mark_layer(layer.node, name)
            names.append(name)
        left = [node.name for node in model.graph.node if node.op_type == "MsbVoter"]
        if left:
            raise ModelError(
                f"node '{left[0]}' (MsbVoter) must feed a layer through a Mul to be lifted, got another use; insert "
                "voters with bitward harden"
            )
        model.set_metadata_prop(PROTECTION_KEY, json.dumps(noted))
        model.set_metadata_prop(NAMES_KEY, json.dumps(names))
        return model, False  # one pass lifts all


def _lift(model: ModelWrapper, node: NodeProto, scaling: NodeProto) -> None:
    """The weights of `node`'s voter stand behind one Quant node, in the voter's place; what belonged to it is gone."""
    voter = getCustomOp(node)
    width = model.find_producer(node.input[0])
    source = width.input[0] if width is not None else node.input[0]
    scale = next(name for name in scaling.input if name != node.output[0])
    stem = f"{voter.get_nodeattr('layer')}.weight"
    position = list(model.graph.node).index(node)
    constants = {
        stem: voter.read(model.get_initializer(source)) * model.get_initializer(scale),
        f"{stem}.zero": 0.0,
        f"{stem}.bits": float(voter.scheme.bits),
    }
    quantizer = helper.make_node(
        "Quant",
        [stem, scale, f"{stem}.zero", f"{stem}.bits"],
        [scaling.output[0]],
        name=f"{voter.get_nodeattr('layer')}.quant",
        domain="qonnx.custom_op.general",
        signed=voter.get_nodeattr("signed"),
        narrow=0,  # an upset makes every word: none may be thought impossible
        rounding_mode="ROUND",
    )
    old = [part for part in (width, node, scaling) if part is not None]
    model.graph.node.insert(position, quantizer)
    for part in old:
        model.graph.node.remove(part)
    drop_unread(model, [name for part in old for name in part.input])
    for name, value in constants.items():
        model.set_initializer(name, np.asarray(value, np.float32))
