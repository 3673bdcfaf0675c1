# SPDX-License-Identifier: Apache-2.0
"""Golden values of some images: what rows are compared with, and where those that a fault changes set out from."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bitward.engine.pytorch.changes import largest
from bitward.engine.pytorch.program import Program, execute
from bitward.engine.pytorch.rules import Channelwise, Flatten

ROUNDING = 2.0**-20  # of the largest value of an image: a change of less is no more than another order of sums makes
NEAR = 2e-6  # of the scores' size: closer decisions are computed again, as torch would
FIRM = 1e-4  # of the scores' size: decisions that no rounding moves


class Golden:
    """Values of some images at every step; those that are quickly computed from others are not kept."""

    def __init__(self, program: Program, images: Tensor, outputs: Tensor) -> None:
        """`outputs` are those of the network itself, bit by bit: what an image without changes has."""
        self.images, self.outputs = images, outputs
        self._producers = {step.name: step for step in program.steps}
        self._kept = execute(program, images, kept_names(program))
        self._scales: dict[str, Tensor] = {}
        self._firm = is_firm(outputs) if program.is_continuous else torch.zeros(len(outputs), device=outputs.device)

    @property
    def count(self) -> int:
        """How many images these are."""
        return len(self.images)

    def value(self, name: str) -> Tensor:
        """The value of that name, (images, ...)."""
        if name in self._kept:
            return self._kept[name]
        step = self._producers[name]
        return step.rule.run_golden(*(self.value(each) for each in step.inputs))

    def limit(self, name: str) -> Tensor:
        """By image: how far a value may be from the golden one and be the same but for rounding; 0 where none may.

        None may where the image's decision is not firm, where outputs are no decisions, and where some step quantizes.
        """
        if name not in self._scales:
            self._scales[name] = ROUNDING * self._firm * largest(self.value(name))
        return self._scales[name]


def kept_names(program: Program) -> set[str]:
    """What is expensive to compute again, or asked for by every row: inputs and outputs of steps with parameters."""
    names = {program.sink}
    for step in program.steps:
        names.update(step.inputs if step.layers or not isinstance(step.rule, (Channelwise, Flatten)) else ())
        names.update((step.name,) if step.layers else ())
    return names


def bytes_per_image(program: Program, images: Tensor) -> int:
    """Size of all golden values that are kept of one image."""
    kept = execute(program, images[:1], kept_names(program))
    return sum(value.numel() * value.element_size() for value in kept.values())


def is_close(scores: Tensor) -> Tensor:
    """Rows of which the two highest scores are so close that rounding may decide between them."""
    return _gap_is(scores, lambda gap, scale: torch.isnan(gap) | (torch.isfinite(gap) & (gap <= NEAR * scale)))


def is_firm(scores: Tensor) -> Tensor:
    """1 for rows whose highest score is far above the next, 0 for others, and for all that are no decisions."""
    return _gap_is(scores, lambda gap, scale: torch.isfinite(gap) & (gap > FIRM * scale)).to(scores.dtype)


def _gap_is(scores: Tensor, rule: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    if scores.ndim != 2 or scores.shape[1] < 2:
        return torch.zeros(len(scores), dtype=torch.bool, device=scores.device)
    first, second = _two_largest(scores)
    _, size = _two_largest(scores.abs())  # one wild score, as of a fault in the last layer, says nothing of the others
    return rule(first - second, size)


def _two_largest(scores: Tensor) -> tuple[Tensor, Tensor]:
    """By row. topk is slower by far."""
    first, place = scores.max(dim=1)
    return first, scores.scatter(1, place[:, None], -torch.inf).amax(dim=1)
