# SPDX-License-Identifier: Apache-2.0
"""A QONNX file to a hardened QONNX file: signs folded, then weights and biases stored with copies and voted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from qonnx.core.modelwrapper import ModelWrapper
from qonnx.custom_op.registry import getCustomOp
from qonnx.transformation.general import GiveUniqueParameterTensors
from qonnx.transformation.infer_shapes import InferShapes
from qonnx.transformation.quant_constant_folding import FoldTransposeIntoQuantInit

from bitward.rewrites.fold_negative_scales import FoldNegativeScales, negative_scales, saturated_weights
from bitward.rewrites.insert_bias_tmr import InsertBiasTmr, bias_schemes
from bitward.rewrites.insert_msb_voter import InsertMsbVoter
from bitward.rewrites.layers import NAMES_KEY, find_layers, keep_names, save_model
from bitward.rewrites.loading import load_model
from bitward.rewrites.quantize_biases import QuantizeBiases, refused_biases, rounded_biases
from bitward.schemes import Scheme
from bitward.tools import output_directory

BiasProtection = Literal["none", "tmr"]


@dataclass(frozen=True)
class Hardening:
    """What was done: the scheme of each hardened layer, signs folded by node, weights that saturated by layer.

    With bias hardening also each layer's scheme of its bias, by how much of a step rounding moved biases that were no
    integers, and why layers have no hardened bias.
    """

    schemes: dict[str, Scheme]
    folded_signs: dict[str, int]
    saturated_weights: dict[str, int]
    bias_schemes: dict[str, Scheme] = field(default_factory=dict)
    rounded_biases: dict[str, float] = field(default_factory=dict)
    without_bias: dict[str, str] = field(default_factory=dict)


def prepare(model: ModelWrapper) -> ModelWrapper:
    """The same function with shapes known, parameters unshared, transposes of weights gone; names stay as they are."""
    for step in (InferShapes(), GiveUniqueParameterTensors(), FoldTransposeIntoQuantInit(), InferShapes()):
        model = model.transform(step)
    if not model.get_metadata_prop(NAMES_KEY):
        keep_names(model)
    return model


def harden_model(
    source: Path,
    target: Path,
    *,
    voted: int = 1,
    layers: Sequence[str] | None = None,
    saturate: bool = False,
    bias: BiasProtection = "none",
) -> Hardening:
    """`target` is the model of `source` with the weights of `layers` (None: all) under Tmr(bits, voted); same function.

    `saturate` allows sign folding to change a weight of -2^(b-1) by one step. `bias` "tmr" stores the biases of all
    layers three times, rounded to whole steps first where they are no integers (`QuantizeBiases`). Errors: see
    `load_model`, `FoldNegativeScales`, `InsertMsbVoter`, `InsertBiasTmr`; OutputError when `target` cannot be written.
    """
    model = prepare(load_model(source))
    folded = negative_scales(model)
    model = model.transform(FoldNegativeScales(saturate))
    if bias == "tmr":
        model = model.transform(QuantizeBiases()).transform(InsertBiasTmr())
    model = model.transform(InsertMsbVoter(layers, voted))
    output_directory(target.parent)
    save_model(model, target)
    schemes: dict[str, Scheme] = {
        name: getCustomOp(layer.voter).scheme for name, layer in find_layers(model).items() if layer.voter is not None
    }
    biases = bias_schemes(model), rounded_biases(model), refused_biases(model)
    return Hardening(schemes, folded, saturated_weights(model), *biases)
