# SPDX-License-Identifier: Apache-2.0
"""Batch norm inside the layers before it: the same function with fewer parameters (B. Jacob et al., CVPR 2018, 3.2)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from bitward.errors import ModelError
from bitward.rewrites.torch_networks._graph import LAYERS, NORMS, Graph, by_output, copied, outputs_of, spread


def fold_batch_norm(network: nn.Module, *, leave: bool = False) -> tuple[nn.Module, dict[str, str]]:
    """(network, {norm: layer}): every batch norm is an Identity, its factor and offset in the layer before it.

    Weights become w * gamma / sqrt(variance + eps), biases (b - mean) * gamma / sqrt(variance + eps) + beta, computed
    in double precision; a layer without a bias gets one. Exact but for rounding, unless what the factor multiplies
    underflows. Convolutions, transposed convolutions and dense layers. ModelError: a norm that does not stand alone
    behind one of these (it stays as it is where `leave` is set), or has no statistics of its own, or parameters that
    are not finite.
    """
    made = copied(network)
    graph = Graph(made)
    folded: dict[str, str] = {}
    for node, name, norm in graph.calls(NORMS):
        before = node.all_input_nodes[0]
        layer = graph.module(before)
        if not isinstance(layer, LAYERS) or len(before.users) != 1:
            if leave:
                continue
            raise ModelError(
                f"batch norm {name} must alone read what a convolution or dense layer gives, got "
                f"{graph.name(before)} with {len(before.users)} readers: it cannot be folded"
            )
        _fold(layer, norm, str(before.target), name)
        parent, _, last = name.rpartition(".")
        setattr(made.get_submodule(parent), last, nn.Identity())
        folded[name] = str(before.target)
    return made, folded


@torch.no_grad()
def _fold(layer: Any, norm: Any, layer_name: str, name: str) -> None:
    if norm.running_mean is None:
        raise ModelError(f"batch norm {name} must have statistics of its own, got none: train it with them")
    ones = torch.ones_like(norm.running_mean)
    gamma, beta = (ones, 0 * ones) if norm.weight is None else (norm.weight, norm.bias)
    factor = gamma.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    bias = torch.zeros(outputs_of(layer), dtype=torch.float64) if layer.bias is None else layer.bias.double()
    offset = (bias - norm.running_mean.double()) * factor + beta.double()
    if not bool(torch.isfinite(factor).all() and torch.isfinite(offset).all()):
        raise ModelError(f"batch norm {name} must have finite parameters, got others: train it again")
    weights = by_output(layer, layer_name)
    weights.copy_(weights.double() * spread(factor, weights).double())
    layer.bias = nn.Parameter(offset.to(weights.dtype), requires_grad=False)
