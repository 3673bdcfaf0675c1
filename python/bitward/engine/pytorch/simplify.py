# SPDX-License-Identifier: Apache-2.0
"""A program that does the same in fewer, smaller steps: batch norm inside convolutions, flattening inside dense layers,
pooling before activations.
"""

from __future__ import annotations

import torch

from bitward.engine.pytorch.layers import Convolution, Norm
from bitward.engine.pytorch.program import Program, Step
from bitward.engine.pytorch.rules import Activation, Flatten, MaxPool


def simplified(program: Program) -> Program:
    """The same program, its values equal but for rounding; unchanged where a step may turn rounding into more."""
    if not program.is_continuous:
        return program
    return _pooled_first(_flat(_folded(program)))


def _folded(program: Program) -> Program:
    """Each Norm that alone takes what a convolution gives is part of it."""
    steps: list[Step] = []
    for step in program.steps:
        before = steps[-1] if steps else None
        if (
            before is not None
            and isinstance(step.rule, Norm)
            and isinstance(before.rule, Convolution)
            and before.rule.norm is None
            and program.takers(before.name) == [step.name]
            and all(bool(torch.isfinite(each).all()) for each in step.rule.line())
        ):
            rule = Convolution(before.rule.module, step.rule)
            steps[-1] = Step(step.name, rule, before.inputs, before.layers + step.layers)
        else:
            steps.append(step)
    return Program(tuple(steps), program.source, program.sink)


def _flat(program: Program) -> Program:
    """A Flatten whose value a dense layer alone takes is part of it: images need not be put into another order."""
    steps: list[Step] = []
    for step in program.steps:
        before = steps[-1] if steps else None
        if (
            before is not None
            and isinstance(before.rule, Flatten)
            and isinstance(step.rule, Convolution)
            and step.rule.is_dense
            and program.takers(before.name) == [step.name]
        ):
            rule = Convolution(step.rule.module, step.rule.norm, flattens=True)
            steps[-1] = Step(step.name, rule, before.inputs, step.layers)
        else:
            steps.append(step)
    return Program(tuple(steps), program.source, program.sink)


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
