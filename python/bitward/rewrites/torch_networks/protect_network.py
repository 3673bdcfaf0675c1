# SPDX-License-Identifier: Apache-2.0
"""Exponent protection of every parameter of a network (`bitward.rewrites.protect_exponents` says what that is)."""

from __future__ import annotations

import torch
from torch import nn

from bitward.engine.pytorch.memories import tensors_of
from bitward.errors import ConfigError, nearest
from bitward.rewrites.protect_exponents import PROTECTION_TARGETS, ProtectionTarget, protect_exponents
from bitward.rewrites.torch_networks._graph import copied


def protect_network(
    network: nn.Module, target: str | ProtectionTarget, statistics: bool = True
) -> tuple[nn.Module, dict[str, int]]:
    """(network, {tensor: how many of its values moved}): no parameter whose mantissa is empty or full is at risk.

    Weights, biases, gammas and betas, and with `statistics` the means and variances of batch norm, which the papers
    leave out; every tensor has an entry. Each value moves by the target's share at most: the function moves a little,
    measure it with `drift`. `target` is one of PROTECTION_TARGETS (PT1 to PT4) by name, or another. ConfigError: there
    is no such target.
    """
    if isinstance(target, str):
        if target not in PROTECTION_TARGETS:
            raise ConfigError(
                f"target must be one of {', '.join(PROTECTION_TARGETS)}, got {target!r}; "
                f"{nearest(target, PROTECTION_TARGETS)}"
            )
        target = PROTECTION_TARGETS[target]
    made = copied(network)
    moved = {}
    for name, _, role, tensor in tensors_of(made):
        if role in ("mean", "variance") and not statistics:
            continue
        values, changed = protect_exponents(tensor.detach().numpy(), target.lower, target.upper)
        with torch.no_grad():
            tensor.copy_(torch.from_numpy(values))
        moved[name] = int(changed.sum())
    return made, moved
