# SPDX-License-Identifier: Apache-2.0
"""Rewrites: transformations of QONNX graphs that keep, or knowingly bound, the function computed. One file per idea.

An analysis returns a dict; a transformation's `apply` returns `(model, changed)`, for `model.transform(...)` of qonnx.
"""

from __future__ import annotations

from bitward.rewrites.fold_negative_scales import FoldNegativeScales, negative_scales, saturated_weights
from bitward.rewrites.harden import Hardening, harden_model
from bitward.rewrites.insert_msb_voter import InsertMsbVoter
from bitward.rewrites.layers import (
    MAC_OPS,
    Layer,
    QuantizedWeights,
    find_layers,
    load_model,
    name_layers,
    read_weights,
    save_model,
)
from bitward.rewrites.lift_voters import LiftVoters, protection

__all__ = [
    "MAC_OPS",
    "FoldNegativeScales",
    "Hardening",
    "InsertMsbVoter",
    "Layer",
    "LiftVoters",
    "QuantizedWeights",
    "find_layers",
    "harden_model",
    "load_model",
    "name_layers",
    "negative_scales",
    "protection",
    "read_weights",
    "saturated_weights",
    "save_model",
]
