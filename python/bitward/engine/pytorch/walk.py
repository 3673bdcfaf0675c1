# SPDX-License-Identifier: Apache-2.0
"""Rows on their way through a program: as one channel for as long as they can be, as long as they differ."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from bitward.engine.pytorch.changes import Arrival, Change, channel_of, differing, largest, whole
from bitward.engine.pytorch.golden import Golden
from bitward.engine.pytorch.layers import Convolution, TransposedConvolution
from bitward.engine.pytorch.program import Program, Step
from bitward.engine.pytorch.rules import Add, Channelwise

BATCH_BYTES = 1 << 22  # of the largest value of rows that are computed together
OVERFLOW = 2.0**126  # sums beyond may overflow in some order of their terms: a quarter of the largest number
ONE_TERM = 0.98 * 2.0**128  # the same for sums in which one term is huge: little less than the largest number
SKIPPED = 15  # looks that are skipped where the last ones did not pay


@dataclass
class Rows:
    """Pairs of a trial and an image, and what they change of golden values, by name."""

    trial: Tensor
    image: Tensor
    changes: dict[str, Change]

    def of(self, kept: Tensor | slice) -> Rows:
        """These rows alone."""
        return Rows(self.trial[kept], self.image[kept], {n: c.of(kept) for n, c in self.changes.items()})


class Sink:
    """Whatever takes the rows that reach the end with other outputs than the golden ones."""

    @abstractmethod
    def put(self, rows: Rows, outputs: Tensor) -> None:
        """The rows' outputs are `outputs`, (rows, ...)."""

    @abstractmethod
    def doubt(self, rows: Rows) -> None:
        """Whatever comes of these rows: the network itself may overflow where the program does not."""


class Route:
    """What is known of a program before anything goes through it."""

    def __init__(self, program: Program, values: Mapping[str, Tensor]) -> None:
        """`values` are golden ones of some images, by name, for their shapes."""
        self.program = program
        self.shapes = {name: tuple(value.shape[1:]) for name, value in values.items()}
        self.last_use = program.last_use()
        weighted = (Convolution, TransposedConvolution)
        self.looks = {index: Look() for index, step in enumerate(program.steps) if isinstance(step.rule, weighted)}
        self._rules = {step.name: step.rule for step in program.steps}
        self.is_spent = [tuple(self._is_spent(step, index, name) for name in step.inputs)
                         for index, step in enumerate(program.steps)]  # fmt: skip

    def _is_spent(self, step: Step, index: int, name: str) -> bool:
        producer = self._rules.get(name)
        is_used_once = self.last_use[name] == index and step.inputs.count(name) == 1
        return (
            producer is not None
            and producer.makes_own_tensor
            and is_used_once
            and isinstance(step.rule, (Add, Channelwise))
        )

    def at_once(self, index: int, is_sparse: bool) -> int:
        """How many rows go together through the steps behind `index`: their largest value, or channel, fits."""
        shapes = [self.shapes[step.name] for step in self.program.steps[index:]]
        sizes = [torch.Size(shape).numel() // (shape[0] if is_sparse and shape else 1) for shape in shapes]
        return max(1, BATCH_BYTES // (4 * max(sizes)))


class Look:
    """Whether it pays to compare rows with golden ones at some step, by what it cost and spared so far."""

    def __init__(self) -> None:
        self._cost = self._spared = 0.0  # seconds a row, smoothed
        self._skips = 0  # that are left before it is tried again

    def is_due(self) -> bool:
        """Whether to look now."""
        self._skips -= 1
        return self._skips < 0

    def took(self, looking: float, going_on: float, before: int, after: int) -> None:
        """Of `before` rows `after` differed: `looking` seconds for all, `going_on` seconds for these to the end."""
        cost, spared = looking / before, going_on / max(after, 1) * (before - after) / before
        self._cost, self._spared = (self._cost + cost) / 2, (self._spared + spared) / 2
        if self._spared < self._cost:
            self._skips = SKIPPED


class Walk:
    """The way of rows of some images through a program, to a sink."""

    def __init__(self, route: Route, golden: Golden, sink: Sink) -> None:
        self.route, self.golden, self.sink = route, golden, sink
        self._steps = route.program.steps
        self._is_watched = False

    def send(self, index: int, rows: Rows, is_watched: bool = False) -> Tensor:
        """The rows, changed up to step `index`, are through; the trials of which any differed there, ascending.

        With `is_watched` the sink hears of rows whose values come near the end of what single precision holds.
        """
        rows = self._differing(rows)
        if not len(rows.trial):
            return rows.trial
        self._is_watched = is_watched
        self._watch(index, rows, ONE_TERM)
        at_once = self.route.at_once(index, any(change.channel is not None for change in rows.changes.values()))
        for start in range(0, len(rows.trial), at_once):
            self._through(index + 1, rows.of(slice(start, start + at_once)))
        return torch.unique(rows.trial)

    def _through(self, first: int, rows: Rows) -> None:
        for index in range(first, len(self._steps)):
            step = self._steps[index]
            if not any(name in rows.changes for name in step.inputs):
                continue
            look = self.route.looks.get(index)
            if look is not None and look.is_due():
                self._look(index, rows, look)
                return
            if look is not None and self._divide(index, rows):
                return
            self._step(index, rows)
        sink = self.route.program.sink
        if sink in rows.changes:
            rows = self._differing(rows)
            self.sink.put(rows, whole(self.golden.value(sink), rows.image, rows.changes[sink]))

    def _look(self, index: int, rows: Rows, look: Look) -> None:
        """The rows that differ are through."""
        start = time.perf_counter()
        before = len(rows.trial)
        rows = self._differing(rows)
        looking = time.perf_counter() - start
        if len(rows.trial) and not self._divide(index, rows):
            self._step(index, rows)
            self._through(index + 1, rows)
        look.took(looking, time.perf_counter() - start - looking, before, len(rows.trial))

    def _divide(self, index: int, rows: Rows) -> bool:
        """Rows of one channel each, more than fit as whole ones, went on in batches, those of a channel together."""
        channel = next((c.channel for c in rows.changes.values() if c.channel is not None), None)
        at_once = self.route.at_once(index, False)
        if channel is None or len(rows.trial) <= at_once:
            return False
        rows = rows.of(torch.argsort(channel, stable=True))
        for start in range(0, len(rows.trial), at_once):
            part = rows.of(slice(start, start + at_once))
            self._step(index, part)
            self._through(index + 1, part)
        return True

    def _step(self, index: int, rows: Rows) -> None:
        """The rows are through this step; what nobody takes any more is gone."""
        step = self._steps[index]
        rows.changes[step.name] = self._follow(index, step, rows)
        self._watch(index, rows, OVERFLOW)
        rows.changes = {name: c for name, c in rows.changes.items() if self.route.last_use[name] > index}

    def _watch(self, index: int, rows: Rows, limit: float) -> None:
        """The sink has heard of rows of which some number behind this step's sums is beyond the limit."""
        step = self._steps[index]
        change = rows.changes.get(step.name)
        if self._is_watched and change is not None:
            over = ~(largest(step.rule.unscaled(change)) <= limit)
            if bool(over.any()):
                self.sink.doubt(rows.of(torch.nonzero(over)[:, 0]))

    def _follow(self, index: int, step: Step, rows: Rows) -> Change:
        changes = [rows.changes.get(name) for name in step.inputs]
        found = step.rule.follow(Arrival(
            changes, lambda place: self.golden.value(step.inputs[place]), lambda: self.golden.value(step.name),
            rows.image, self.route.is_spent[index],
        ))  # fmt: skip
        if found is not None:
            return found
        inputs = [change.values if change is not None and change.channel is None
                  else whole(self.golden.value(name), rows.image, change)
                  for name, change in zip(step.inputs, changes, strict=True)]  # fmt: skip
        return Change(step.rule.run_golden(*inputs))

    def _differing(self, rows: Rows) -> Rows:
        """The rows of which any value that is still to be taken differs from the golden one."""
        if not len(rows.trial):
            return rows
        differs = torch.zeros(len(rows.trial), dtype=torch.bool, device=rows.trial.device)
        for name, change in rows.changes.items():
            values, limit = self.golden.value(name), self.golden.limit(name)[rows.image]
            same = values[rows.image] if change.channel is None else channel_of(values, rows.image, change)
            differs |= differing(change.values, same, limit)
        return rows if bool(differs.all()) else rows.of(torch.nonzero(differs)[:, 0])
