# SPDX-License-Identifier: Apache-2.0
"""Weights become stored words, read through a voter: hardening, declared on the QONNX graph, where it executes.

Before: weights -> Quant -> MAC. After: stored words -> Quant -> MsbVoter -> Mul(scale) -> MAC. This Quant leaves the
words as they are; it tells every QONNX tool their width (so memory is counted with its copies), and because constant
folding leaves Quant nodes alone, `qonnx-cleanup` does not fold the voter away. The triplication of biases is a rewrite
of its own, `insert_bias_tmr`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, TensorProto, helper
from qonnx.core.datatype import DataType
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.base import Transformation

from bitward.errors import ConfigError, ModelError, nearest
from bitward.formats import Int, UInt
from bitward.qonnx_ops import DOMAIN
from bitward.rewrites.layers import Layer, QuantizedWeights, declare_domain, drop_unread, find_layers, read_weights
from bitward.schemes import Tmr

MAX_STORED_BITS = 24  # QONNX carries integers in float32 tensors, exact up to here


@dataclass
class InsertMsbVoter(Transformation):
    """The weights of `layers` (None: all) are stored with three copies of their top `voted` bits and voted before use.

    The function computed does not change, bit for bit. Negative batch-norm scales must have been folded before
    (`FoldNegativeScales`); `harden_model` does both. Apply it once for each group of layers that share `voted`.

    ConfigError: an unknown layer, or more voted bits than a weight has. ModelError: a model without quantized weights,
    a layer that is hardened already, or one whose stored words no float32 can hold.
    """

    layers: Sequence[str] | None = None
    voted: int = 1

    def __post_init__(self) -> None:
        super().__init__()

    def apply(self, model: ModelWrapper) -> tuple[ModelWrapper, bool]:
        for layer in self._chosen(find_layers(model)):
            weights = read_weights(model, layer)
            if (readers := len(model.find_consumers(layer.node.input[1]))) > 1:
                raise ModelError(
                    f"layer '{layer.name}' must have weights of its own to be hardened, got {readers} layers that "
                    "share them; give each a copy"
                )
            _insert(model, layer, model.find_producer(layer.node.input[1]), weights, self._scheme(layer, weights))
        declare_domain(model, DOMAIN)
        return model, False  # done in one pass; a second one would find the layers hardened

    def _chosen(self, found: dict[str, Layer]) -> list[Layer]:
        if not any(layer.quantizer or layer.voter for layer in found.values()):
            raise ModelError(
                "the model must have layers with quantized weights to be hardened, got none; export it with Brevitas' "
                "export_qonnx, and clean it up with qonnx-cleanup"
            )
        names = list(found) if self.layers is None else list(self.layers)
        for name in names:
            if name not in found:
                raise ConfigError(f"layers must name layers of the model, got '{name}'; {nearest(name, found)}")
            if found[name].voter is not None:
                raise ModelError(
                    f"layer '{name}' must be plain to be hardened, got a voter on its weights; take the plain model"
                )
        return [found[name] for name in names]

    def _scheme(self, layer: Layer, weights: QuantizedWeights) -> Tmr:
        if isinstance(self.voted, bool) or not isinstance(self.voted, int) or not 1 <= self.voted <= weights.bits:
            raise ConfigError(
                f"voted must be 1 to {weights.bits} for the {weights.bits}-bit weights of layer '{layer.name}', got "
                f"{self.voted!r}; 1 votes the most significant bit"
            )
        scheme = Tmr(weights.bits, self.voted)
        if scheme.stored_bits > MAX_STORED_BITS:
            raise ModelError(
                f"stored words of layer '{layer.name}' must be at most {MAX_STORED_BITS} bits, got "
                f"{scheme.stored_bits}: float32 tensors hold no wider integers exactly; vote fewer bits"
            )
        return scheme


def stored_words(weights: QuantizedWeights, scheme: Tmr) -> npt.NDArray[np.float32]:
    """The layer's stored words, in the container that QONNX uses for integers."""
    numbers = Int(weights.bits) if weights.signed else UInt(weights.bits)
    return scheme.encode(numbers.encode(weights.integers)).astype(np.float32)


def _insert(model: ModelWrapper, layer: Layer, old: NodeProto, weights: QuantizedWeights, scheme: Tmr) -> None:
    """The layer reads its weights through a voter, which stands where its Quant node `old` stood."""
    name, shape = layer.name, list(weights.integers.shape)
    position = list(model.graph.node).index(old)
    tensor = {part: f"{name}.weight.{part}" for part in ("stored", "read", "voted", "one", "zero", "bits", "scale")}
    for part in ("read", "voted"):
        model.graph.value_info.append(helper.make_tensor_value_info(tensor[part], TensorProto.FLOAT, shape))
    constants = {"one": 1.0, "zero": 0.0, "bits": float(scheme.stored_bits), "scale": weights.scale}
    for part, value in {**constants, "stored": stored_words(weights, scheme)}.items():
        model.set_initializer(tensor[part], np.asarray(value, np.float32))
    width = helper.make_node(
        "Quant",
        [tensor["stored"], tensor["one"], tensor["zero"], tensor["bits"]],
        [tensor["read"]],
        name=f"{name}.stored",
        domain="qonnx.custom_op.general",
        signed=0,
        narrow=0,
        rounding_mode="ROUND",
    )
    voter = helper.make_node(
        "MsbVoter",
        [tensor["read"]],
        [tensor["voted"]],
        name=f"{name}.voter",
        domain=DOMAIN,
        bits=scheme.bits,
        voted=scheme.voted,
        signed=int(weights.signed),
        layer=name,
    )
    scale = helper.make_node("Mul", [tensor["voted"], tensor["scale"]], [old.output[0]], name=f"{name}.scale")
    model.graph.node.remove(old)
    for offset, node in enumerate((width, voter, scale)):
        model.graph.node.insert(position + offset, node)
    sign = "INT" if weights.signed else "UINT"
    for part in ("stored", "read"):
        model.set_tensor_datatype(tensor[part], DataType[f"UINT{scheme.stored_bits}"])
    model.set_tensor_datatype(tensor["voted"], DataType[f"{sign}{scheme.bits}"])
    drop_unread(model, old.input)
