# SPDX-License-Identifier: Apache-2.0
"""A program that does the same in fewer, smaller steps: batch norm inside convolutions, flattening inside dense layers,
pooling before activations.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from bitward.engine.pytorch.layers import Convolution, Norm
from bitward.engine.pytorch.program import Program, Step
from bitward.engine.pytorch.rules import Activation, Flatten, MaxPool, Rule


def simplified(program: Program) -> Program:
    """The same program, its values equal but for rounding; unchanged where a step may turn rounding into more."""
    if not program.is_continuous:
        return program
    return _pooled_first(_joined(_joined(program, _folded), _flat))


def _joined(program: Program, join: Callable[[Rule, Rule], Rule | None]) -> Program:
    """Two steps are one, of the rule that `join` makes of theirs, where the second alone takes what the first gives."""
    steps: list[Step] = []
    for step in program.steps:
        before = steps[-1] if steps else None
        is_alone = before is not None and program.takers(before.name) == [step.name]
        rule = join(before.rule, step.rule) if before is not None and is_alone else None
        if before is not None and rule is not None:
            steps[-1] = Step(step.name, rule, before.inputs, before.layers + step.layers)
        else:
            steps.append(step)
    return Program(tuple(steps), program.source, program.sink)


def _folded(first: Rule, second: Rule) -> Rule | None:
    """A Norm is part of the convolution before it."""
    if not isinstance(first, Convolution) or not isinstance(second, Norm) or first.norm is not None:
        return None
    is_finite = all(bool(torch.isfinite(each).all()) for each in second.line())
    return Convolution(first.module, second) if is_finite else None


def _flat(first: Rule, second: Rule) -> Rule | None:
    """A Flatten is part of the dense layer behind it: images need not be put into another order."""
    if not isinstance(first, Flatten) or not isinstance(second, Convolution) or not second.is_dense:
        return None
    return Convolution(second.module, second.norm, flattens=True)


def _pooled_first(program: Program) -> Program:
    """max(f(x)) is f(max(x)) where f never falls, and f of fewer values."""
    steps = list(program.steps)
    for index in range(len(steps) - 1):
        first, second = steps[index], steps[index + 1]
        if (
            isinstance(first.rule, Activation)
            and isinstance(second.rule, MaxPool)
            and program.takers(first.name) == [second.name]
        ):
            steps[index] = Step(first.name, second.rule, first.inputs, ())
            steps[index + 1] = Step(second.name, first.rule, second.inputs, ())
    return Program(tuple(steps), program.source, program.sink)
