# SPDX-License-Identifier: Apache-2.0
"""Sparse pruning for protection: weights at risk that hardly matter become 0.

An upset makes a 0 into 2 at most (the largest bit of its exponent; any other leaves it next to nothing), where it can
make a weight at risk into one beyond 1, or infinite.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from bitward.errors import ConfigError
from bitward.rewrites.protect_exponents import at_risk
from bitward.rewrites.torch_networks._graph import LAYERS, copied
from bitward.rewrites.torch_networks.drift import AT_ONCE, drift


def prune_risky(
    network: nn.Module, images: npt.NDArray[Any], allowed: float = 0.001
) -> tuple[nn.Module, dict[str, int]]:
    """(network, {tensor: how many of its weights became 0}): of the weights at risk, those that matter least are 0.

    Weights of convolutions, transposed convolutions and dense layers whose exponent is at risk
    (`bitward.rewrites.at_risk`), by relevance |w * dL/dw|, L the cross-entropy to the network's own decisions on the
    images, its first-order change (P. Molchanov et al., ICLR 2017, section 2.2). As many as bisection finds for which
    no more than the share `allowed` of the decisions on the images changes; on other images measure it with `drift`.
    ConfigError: no images, or a share that is not 0 to 1.
    """
    if not 0 <= allowed <= 1:
        raise ConfigError(f"allowed must be a share of decisions, 0 to 1, got {allowed!r}: 0 keeps all of them")
    if not len(images):
        raise ConfigError("images must be at least one, got none: give some that the network was trained on")
    made = copied(network)
    weights = {
        f"{name}.weight" if name else "weight": module.weight
        for name, module in made.named_modules()
        if isinstance(module, LAYERS)
    }
    golden = {name: weight.detach().clone() for name, weight in weights.items()}
    order = _order(made, weights, images)
    least, most = 0, len(order)
    while least < most:  # pruning `least` of them is allowed
        middle = (least + most + 1) // 2
        _prune(weights, golden, order[:middle])
        found = drift(network, made, images)
        if found.changed_decisions <= allowed * found.decisions:
            least = middle
        else:
            most = middle - 1
    _prune(weights, golden, order[:least])
    places = np.array([place for place, _ in order[:least]], dtype=np.int64)
    return made, {name: int(np.sum(places == place)) for place, name in enumerate(weights)}


def _order(made: nn.Module, weights: dict[str, Any], images: npt.NDArray[Any]) -> list[tuple[int, int]]:
    """(place of the tensor, flat index) of every weight at risk, the least relevant first."""
    gradients = _gradients(made, list(weights.values()), images)
    places, indices, relevances = [], [], []
    for place, (weight, gradient) in enumerate(zip(weights.values(), gradients, strict=True)):
        values = weight.detach().numpy().reshape(-1)
        risky = np.flatnonzero(at_risk(values))
        places.append(np.full(len(risky), place))
        indices.append(risky)
        relevances.append(np.abs(values * gradient.numpy().reshape(-1))[risky])
    by_relevance = np.argsort(np.concatenate(relevances), kind="stable")
    pairs = np.column_stack([np.concatenate(places), np.concatenate(indices)])[by_relevance]
    return [(int(place), int(index)) for place, index in pairs]


def _gradients(made: nn.Module, weights: list[torch.Tensor], images: npt.NDArray[Any]) -> list[torch.Tensor]:
    """Of the cross-entropy to the network's own decisions, summed over the images."""
    total = [torch.zeros_like(weight) for weight in weights]
    for weight in weights:
        weight.requires_grad_(True)
    for start in range(0, len(images), AT_ONCE):
        scores = made(torch.from_numpy(np.asarray(images[start : start + AT_ONCE], dtype=np.float32)))
        loss = F.cross_entropy(scores, scores.argmax(dim=1), reduction="sum")
        for sum_, part in zip(total, torch.autograd.grad(loss, weights), strict=True):
            sum_ += part
    for weight in weights:
        weight.requires_grad_(False)
    return total


@torch.no_grad()
def _prune(weights: dict[str, Any], golden: dict[str, torch.Tensor], chosen: list[tuple[int, int]]) -> None:
    """Those weights are 0, and all others golden."""
    indices: dict[int, list[int]] = {}
    for place, index in chosen:
        indices.setdefault(place, []).append(index)
    for place, (name, weight) in enumerate(weights.items()):
        weight.copy_(golden[name])
        weight.view(-1)[indices.get(place, [])] = 0
