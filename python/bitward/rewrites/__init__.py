# SPDX-License-Identifier: Apache-2.0
"""Rewrites: transformations of QONNX graphs that keep, or knowingly bound, the function computed. One file per idea.

An analysis returns a dict; a transformation's `apply` returns `(model, changed)`, for `model.transform(...)` of qonnx.
"""

from __future__ import annotations

from bitward.rewrites.biases import integer_biases
from bitward.rewrites.fixed_scale import FixedScale
from bitward.rewrites.fold_negative_scales import FoldNegativeScales, negative_scales, saturated_weights
from bitward.rewrites.harden import Hardening, harden_model
from bitward.rewrites.insert_bias_tmr import InsertBiasTmr, LiftBiasTmr, bias_schemes
from bitward.rewrites.insert_msb_voter import InsertMsbVoter
from bitward.rewrites.layers import (
    MAC_OPS,
    Layer,
    QuantizedWeights,
    find_layers,
    mark_layer,
    name_layers,
    read_weights,
    save_model,
)
from bitward.rewrites.lift_voters import LiftVoters, protection
from bitward.rewrites.loading import load_model
from bitward.rewrites.protect_exponents import PROTECTION_TARGETS, ProtectionTarget, at_risk, protect_exponents
from bitward.rewrites.quantize_biases import QuantizeBiases, bias_notes, refused_biases, rounded_biases
from bitward.rewrites.weight_scaling import Q2_5, Q2_5_AS_WRITTEN, WeightScaling, largest_scaled

__all__ = [
    "MAC_OPS",
    "Q2_5",
    "Q2_5_AS_WRITTEN",
    "PROTECTION_TARGETS",
    "FixedScale",
    "FoldNegativeScales",
    "Hardening",
    "InsertBiasTmr",
    "InsertMsbVoter",
    "Layer",
    "LiftBiasTmr",
    "LiftVoters",
    "QuantizeBiases",
    "QuantizedWeights",
    "ProtectionTarget",
    "WeightScaling",
    "at_risk",
    "bias_notes",
    "bias_schemes",
    "find_layers",
    "harden_model",
    "integer_biases",
    "largest_scaled",
    "load_model",
    "mark_layer",
    "name_layers",
    "negative_scales",
    "protect_exponents",
    "protection",
    "read_weights",
    "refused_biases",
    "rounded_biases",
    "saturated_weights",
    "save_model",
]
