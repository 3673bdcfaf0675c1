# SPDX-License-Identifier: Apache-2.0
"""Rewrites of torch networks that keep the function, or tell by how much it moves. One file per idea.

Each takes a network and returns `(network, changed)`: a new network in evaluation mode, on the CPU, with the same names
of layers, and what was changed, by name (`divide_logits` gives both as a `Divided`, `quantize_int8` as a `Quantized`,
`prune_channels` as a `Pruned`). The one that was given stays as it is. `drift` measures what became of the function.
"""

from __future__ import annotations

from bitward.rewrites.torch_networks._channels import with_state
from bitward.rewrites.torch_networks.absorb_biases import absorb_biases
from bitward.rewrites.torch_networks.clip_activations import Clipped, clip_activations
from bitward.rewrites.torch_networks.divide_logits import Divided, divide_logits
from bitward.rewrites.torch_networks.drift import Drift, drift
from bitward.rewrites.torch_networks.equalize_layers import equalize_layers
from bitward.rewrites.torch_networks.fold_batch_norm import fold_batch_norm
from bitward.rewrites.torch_networks.protect_network import protect_network
from bitward.rewrites.torch_networks.prune_channels import (
    Pruned,
    Round,
    allowed_ratios,
    load_pruned,
    prune_channels,
    sensitivities,
)
from bitward.rewrites.torch_networks.prune_risky import prune_risky
from bitward.rewrites.torch_networks.quantize_int8 import Quantized, quantize_int8
from bitward.rewrites.torch_networks.recondition_batch_norm import recondition_batch_norm

__all__ = [
    "Clipped",
    "Divided",
    "Drift",
    "Pruned",
    "Quantized",
    "Round",
    "absorb_biases",
    "allowed_ratios",
    "clip_activations",
    "divide_logits",
    "drift",
    "equalize_layers",
    "fold_batch_norm",
    "load_pruned",
    "protect_network",
    "prune_channels",
    "prune_risky",
    "quantize_int8",
    "recondition_batch_norm",
    "sensitivities",
    "with_state",
]
