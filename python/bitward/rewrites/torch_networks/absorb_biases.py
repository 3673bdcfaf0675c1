# SPDX-License-Identifier: Apache-2.0
"""Bias absorption: what of a large offset always passes a ReLU is added by the layers behind it instead.

(M. Nagel et al., "Data-Free Quantization through Weight Equalization and Bias Correction", ICCV 2019, section 4.1.3.)
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from bitward.errors import ConfigError
from bitward.rewrites.torch_networks._graph import (
    NORMS,
    RECTIFIERS,
    Graph,
    Reader,
    by_input,
    copied,
    outputs_of,
    require_activations,
)

RULE = "a ReLU"


def absorb_biases(network: nn.Module, sigmas: float = 3.0) -> tuple[nn.Module, dict[str, npt.NDArray[np.float64]]]:
    """(network, {norm: what its betas were lowered by, by channel}): relu(x) = relu(x - c) + c for x of at least c.

    c = max(0, beta - sigmas * |gamma|), and layers that read the channel add to their biases what c gave them. It
    assumes that a batch norm's outputs are normal with mean beta and deviation |gamma|, so that hardly one is below c;
    and at the borders of a convolution that pads with zeros it is wrong, as there the zeros are not lowered by c. So
    the function moves: measure it with `drift`. Norms whose values go into transposed convolutions (which add another
    sum at each place), groups, sums, other shapes or out of the network stay as they are. ModelError: another
    activation function than ReLU behind a norm (its name is said). ConfigError: sigmas that are no number of at least
    0.
    """
    if not sigmas >= 0:
        raise ConfigError(f"sigmas must be a number of at least 0, got {sigmas!r}: 3 is usual")
    made = copied(network)
    graph = Graph(made)
    lowered = {}
    for node, name, norm in graph.calls(NORMS):
        reach = graph.reach(node)
        require_activations(reach, name, graph, lambda each: graph.is_one(each, (nn.ReLU,), RECTIFIERS[1:]), RULE)
        is_rectified = bool(reach.activations)
        if not (reach.is_whole and is_rectified and norm.weight is not None and all(map(_adds_alike, reach.readers))):
            continue
        amount = (norm.bias.double() - sigmas * norm.weight.double().abs()).clamp(min=0)
        if bool((amount > 0).any()):
            _move(norm, reach.readers, amount)
            lowered[name] = amount.numpy()
    return made, lowered


def _adds_alike(reader: Reader) -> bool:
    """Does a constant input add the same at every place but the borders?"""
    module: Any = reader.module
    return isinstance(module, nn.Linear) or isinstance(module, nn.Conv2d) and module.groups == 1


@torch.no_grad()
def _move(norm: Any, readers: list[Reader], amount: torch.Tensor) -> None:
    norm.bias.copy_(norm.bias.double() - amount)
    for reader in readers:
        module: Any = reader.module
        taken = by_input(reader, len(amount)).double()  # (channels, outputs, *taps)
        given = (taken.flatten(2).sum(dim=2) if taken.ndim > 2 else taken).T @ amount
        if module.bias is None:
            module.bias = nn.Parameter(module.weight.new_zeros(outputs_of(module)), requires_grad=False)
        module.bias.copy_(module.bias.double() + given)
