# SPDX-License-Identifier: Apache-2.0
"""A first-order look at single faults: how far each can move the decisions, by one backward pass for all of them.

The margin of an image is its highest score less the second highest. What a fault changes of its own step's output is
computed as it is; what that makes of the margin, by the margin's gradient there. That is no proof: a campaign that
leaves such trials out runs a random share of them all the same, and counts what it finds (bitward.statistics).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bitward.engine.pytorch.program import Program
from bitward.engine.pytorch.rules import Change, Hit

SHARE = 0.5  # of a margin that a fault may take to first order and still be left out
CHANGE_BYTES = 1 << 25  # of the changes that are looked at together


class Screen:
    """Gradients of the margins of some images, by step."""

    def __init__(self, program: Program, images: Tensor, golden: dict[str, Tensor]) -> None:
        """One forward and one backward pass."""
        self.program, self.golden = program, golden
        with torch.inference_mode(False), torch.enable_grad():
            source = images.clone().requires_grad_(True)
            values: dict[str, Any] = {program.source: source}
            for step in program.steps:
                values[step.name] = step.rule.run(*(values[name] for name in step.inputs))
            scores = values[program.sink]
            first, second = scores.topk(2, dim=1).values.unbind(1)
            margins = first - second
            names = [step.name for step in program.steps if values[step.name].requires_grad]
            found = torch.autograd.grad(margins.sum(), [values[name] for name in names], allow_unused=True)
        self.margins = margins.detach()
        self._gradients = {name: each for name, each in zip(names, found, strict=True) if each is not None}

    def moves(self, index: int, hits: Sequence[Hit]) -> Tensor | None:
        """To first order, how each hit at step `index` moves each margin: (hits, images). None where nobody knows."""
        step = self.program.steps[index]
        gradient, output = self._gradients.get(step.name), self.golden[step.name]
        if gradient is None or output.ndim < 2:
            return None
        inputs = [self.golden[name] for name in step.inputs]
        channel = output[0].numel() // output.shape[1]
        at_once = max(1, CHANGE_BYTES // (4 * len(output) * channel))
        moved = []
        for start in range(0, len(hits), at_once):
            part = hits[start : start + at_once]
            change = step.rule.enter(inputs, output, part)
            if change is None:
                return None
            moved.append(self._moved(change, gradient, output, len(part)))
        return torch.cat(moved)

    def _moved(self, change: Change, gradient: Tensor, output: Tensor, count: int) -> Tensor:
        images = len(output)
        values = change.values.reshape(count, images, -1)
        channels = torch.as_tensor(change.channel)
        chosen = channels.reshape(count, images)[:, 0]
        golden = output[:, chosen].transpose(0, 1).reshape(count, images, -1)
        slope = gradient[:, chosen].transpose(0, 1).reshape(count, images, -1)
        return ((values - golden) * slope).sum(dim=2)

    def leaves_out(self, index: int, hits: Sequence[Hit]) -> Tensor:
        """Which hits move no margin by more than SHARE of it: (hits,)."""
        moved = self.moves(index, hits)
        if moved is None:
            return torch.zeros(len(hits), dtype=torch.bool)
        return (moved.abs() <= SHARE * self.margins).all(dim=1)
