# SPDX-License-Identifier: Apache-2.0
"""A first-order look at single faults: how far each can move the decisions, by one backward pass for all of them.

The margin of an image is its highest score less the second highest. What a fault changes is computed as it is for as
long as it is one channel; what that makes of the margin, by the margin's gradient there. That is no proof: a campaign
that leaves such trials out runs a random share of them all the same, and counts what it finds (bitward.statistics).
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any

import torch
from torch import Tensor

from bitward.engine.pytorch.changes import Change
from bitward.engine.pytorch.golden import Golden
from bitward.engine.pytorch.program import Program

SHARE = 0.5  # of a margin that a fault may take to first order and still be harmless
IMAGES = 32  # whose gradients are computed together


class Screen:
    """Gradients of the margins of some images, at some values of a program."""

    def __init__(self, program: Program, golden: Golden, names: Container[str]) -> None:
        """One forward and one backward pass, for the values of these names."""
        self._golden = golden
        parts = [_gradients(program, part, names) for part in golden.images.split(IMAGES)]
        self.margins = torch.cat([margins for margins, _ in parts])
        self._gradients = {name: torch.cat([each[name] for _, each in parts]) for name in parts[0][1]}

    def taken(self, name: str, change: Change, count: int) -> Tensor:
        """By fault and image: how much of the margin what a fault changes of value `name` takes, to first order.

        Shape (count, images). `change` has a row for every image of every fault, as a rule's `enter` gives them.
        Infinite where nobody knows.
        """
        gradient, output = self._gradients.get(name), self._golden.value(name)
        if gradient is None or change.channel is None:
            return torch.full((count, len(output)), torch.inf, device=output.device)
        images = len(output)
        values = change.values.reshape(count, images, -1)
        chosen = change.channel.reshape(count, images)[:, 0]
        golden = output[:, chosen].transpose(0, 1).reshape(count, images, -1)
        slope = gradient[:, chosen].transpose(0, 1).reshape(count, images, -1)
        moved = ((values - golden) * slope).sum(dim=2).abs() / self.margins
        return torch.where(torch.isnan(moved), torch.inf, moved)


def _gradients(program: Program, images: Tensor, names: Container[str]) -> tuple[Tensor, dict[str, Tensor]]:
    """(margins, their gradients at the values of these names) of some images."""
    wanted: dict[str, Tensor] = {}
    with torch.inference_mode(False), torch.enable_grad():
        values: dict[str, Any] = {program.source: images.clone().requires_grad_(True)}
        for step in program.steps:
            values[step.name] = step.rule.run(*(values[name] for name in step.inputs))
            if step.name in names and values[step.name].requires_grad:
                wanted[step.name] = values[step.name]
        first, second = values[program.sink].topk(2, dim=1).values.unbind(1)
        margins = first - second
        found = torch.autograd.grad(margins.sum(), list(wanted.values()), allow_unused=True)
    return margins.detach(), {name: each for name, each in zip(wanted, found, strict=True) if each is not None}
