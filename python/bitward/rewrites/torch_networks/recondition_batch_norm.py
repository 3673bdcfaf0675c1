# SPDX-License-Identifier: Apache-2.0
"""Batch norm without gammas at risk: a factor of two moves between a gamma and what it is divided by, or what reads it.

Gammas near 1 have exponents that one upset fills (Gutierrez-Zaballa et al., "Evaluating Single Event Upsets in Deep
Neural Networks for Semantic Segmentation", section 4.1.1): infinity or NaN, from which no layer recovers.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from bitward.errors import ConfigError, ModelError
from bitward.rewrites.protect_exponents import at_risk
from bitward.rewrites.torch_networks._graph import (
    NORMS,
    Graph,
    by_input,
    copied,
    is_homogeneous,
    require_activations,
    spread,
)

Into = Literal["statistics", "next"]
RULE = "positively homogeneous (ReLU, leaky or not)"
STEPS = (-1, 1, -2, 2, -3, 3)  # powers of two that are tried, in this order
Floats = npt.NDArray[np.float32]


def recondition_batch_norm(network: nn.Module, into: Into = "statistics") -> tuple[nn.Module, dict[str, int]]:
    """(network, {norm: how many of its gammas moved}): no gamma's exponent is at risk (`bitward.rewrites.at_risk`).

    A gamma at risk is multiplied with 2^k, the nearest to 1 that takes it out of risk. With `into` "statistics" its
    variance becomes (variance + eps) * 4^k - eps: the same function with any activation, but for rounding; where there
    is a choice, one that leaves the variance out of risk too. With "next" its beta is multiplied too, and the weights
    of the layers that read the channel divided: the same bit by bit, while nothing underflows, but their exponents move
    and some may come to be at risk. ModelError: with "next" an activation function that is not positively homogeneous
    (its name is said), or values that go elsewhere than into layers. ConfigError: another `into`.
    """
    if into not in ("statistics", "next"):
        raise ConfigError(f"into must be 'statistics' or 'next', got {into!r}: the first takes any activation")
    made = copied(network)
    graph = Graph(made)
    moved = {}
    for node, name, norm in graph.calls(NORMS):
        if norm.weight is None or norm.running_var is None or not at_risk(_array(norm.weight)).any():
            continue
        powers = _powers(norm, name, into)
        factor = torch.exp2(torch.from_numpy(powers).double())
        if into == "next":
            _into_next(graph, node, name, norm, factor)
        else:
            variance = norm.running_var.double()
            norm.running_var.copy_(torch.where(factor == 1, variance, (variance + norm.eps) * factor**2 - norm.eps))
        norm.weight.data.mul_(factor.to(norm.weight.dtype))
        moved[name] = int(np.count_nonzero(powers))
    return made, moved


def _array(tensor: torch.Tensor) -> Floats:
    return tensor.detach().numpy().astype(np.float32, copy=False)


def _powers(norm: Any, name: str, into: Into) -> npt.NDArray[np.int64]:
    """The k of each channel; 0 where its gamma is not at risk."""
    gammas, variances = _array(norm.weight), _array(norm.running_var).astype(np.float64)
    risky = at_risk(gammas)
    powers = np.zeros(len(gammas), np.int64)
    for channel in np.flatnonzero(risky):
        fitting = [k for k in STEPS if not at_risk(np.ldexp(gammas[channel], k))]
        if into == "statistics":
            new = {k: (variances[channel] + norm.eps) * 4.0**k - norm.eps for k in fitting}
            fitting = [k for k in fitting if new[k] > 0]
            fitting = sorted(fitting, key=lambda k: bool(at_risk(new[k])))  # stable: the nearest first otherwise
        if not fitting:
            raise ModelError(
                f"gamma {channel} of batch norm {name} must be one that a factor of two takes out of risk, got "
                f"{gammas[channel]} over a variance of {variances[channel]}: recondition into 'next'"
            )
        powers[channel] = fitting[0]
    return powers


@torch.no_grad()
def _into_next(graph: Graph, node: Any, name: str, norm: Any, factor: torch.Tensor) -> None:
    reach = graph.reach(node)
    require_activations(reach, name, graph, is_homogeneous(graph), RULE)
    if not (reach.is_whole and reach.readers):
        raise ModelError(
            f"batch norm {name} must be read by layers alone to be rescaled with them, got other readers: recondition "
            "it into 'statistics'"
        )
    norm.bias.copy_(norm.bias.double() * factor)
    for reader in reach.readers:
        taken = by_input(reader, len(factor))
        taken.copy_(taken.double() / spread(factor, taken).double())
