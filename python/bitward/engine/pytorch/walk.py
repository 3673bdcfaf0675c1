# SPDX-License-Identifier: Apache-2.0
"""Rows on their way through a program: as one channel for as long as they can be, as long as they differ."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bitward.engine.pytorch.changes import (
    ONE_TERM,
    Arrival,
    Change,
    channel_of,
    depends_on_order,
    differing,
    is_all_images,
    largest,
    whole,
)
from bitward.engine.pytorch.golden import Golden
from bitward.engine.pytorch.layers import Convolution, Norm, TransposedConvolution
from bitward.engine.pytorch.program import Program, Step
from bitward.engine.pytorch.rules import Activation, Add, Channelwise, MaxPool, Whole

BATCH_BYTES = 1 << 22  # of the largest value of rows that are computed together
OVERFLOW = 2.0**126  # sums of many terms beyond may overflow in some order of them: a quarter of the largest number
MOST = 0.7  # of a trial's images: where so many differ, the others stay too, as rows without gaps are quicker
SKIPPED = 15  # looks that are skipped where the last ones did not pay
MAC_NS, ELEMENT_NS, LOOK_NS = 0.012, 2.0, 3.0  # a product, a value that is written, one that is compared: by one thread


@dataclass
class Rows:
    """Pairs of a trial and an image, and what they change of golden values, by name.

    Those that are `idle` (rows,) change nothing and are there to leave no gap; None: none are.
    """

    trial: Tensor
    image: Tensor
    changes: dict[str, Change]
    idle: Tensor | None = None

    def of(self, kept: Tensor | slice) -> Rows:
        """These rows alone."""
        changes = {name: change.of(kept) for name, change in self.changes.items()}
        return Rows(self.trial[kept], self.image[kept], changes, None if self.idle is None else self.idle[kept])


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
        self.adds_up = [self._adds_up(step) for step in program.steps]
        self._work = [self._work_of(step) for step in program.steps]
        self._rules = {step.name: step.rule for step in program.steps}
        self.lanes = {index: tuple(self._lane(index)) for index, step in enumerate(program.steps) if step.layers}
        self.is_spent = [tuple(self._is_spent(step, index, name) for name in step.inputs)
                         for index, step in enumerate(program.steps)]  # fmt: skip

    def looks(self) -> dict[tuple[int, bool], Look]:
        """By step with weights, and whether rows are of one channel: whether to look there, nothing known yet."""
        looks = {}
        for index, step in enumerate(self.program.steps):
            if isinstance(step.rule, (Convolution, TransposedConvolution)):
                shape = self.shapes[step.inputs[0]]
                for is_sparse in (False, True):
                    parts = shape[0] if is_sparse and shape else 1
                    spared = self._work[index] / parts + sum(self._work[index + 1 :])
                    looks[index, is_sparse] = Look(spared / (LOOK_NS * torch.Size(shape).numel() / parts))
        return looks

    def _work_of(self, step: Step) -> float:
        """Nanoseconds, about, that a row takes through a step as a whole."""
        shape = self.shapes[step.name]
        work = ELEMENT_NS * torch.Size(shape).numel()
        if isinstance(step.rule, (Convolution, TransposedConvolution)):
            places = shape if isinstance(step.rule, Convolution) else self.shapes[step.inputs[0]]
            work += MAC_NS * step.rule.module.weight.numel() * torch.Size(places[1:]).numel()
        return work

    def _adds_up(self, step: Step) -> bool:
        """Does it give fewer values than it takes, as a mean does, whose sums nobody sees?"""
        if not isinstance(step.rule, Whole) or isinstance(step.rule, (Activation, MaxPool)):
            return False
        size = torch.Size(self.shapes[step.name]).numel()
        return any(torch.Size(self.shapes[name]).numel() > size for name in step.inputs)

    def lane_ends(self) -> set[str]:
        """The values at which the channels end that faults in parameters change."""
        return {self.program.steps[lane[-1] if lane else index].name for index, lane in self.lanes.items()}

    def _lane(self, index: int) -> Iterator[int]:
        """The steps behind this one that leave a change of one channel one, up to the first that does not."""
        name = self.program.steps[index].name
        while len(takers := self.program.takers(name)) == 1 and takers[0] != "user":
            index = next(each for each, step in enumerate(self.program.steps) if step.name == takers[0])
            if not isinstance(self._rules[takers[0]], (Channelwise, Norm, Add)):
                return
            yield index
            name = takers[0]

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
    """Whether it pays to compare rows with golden ones at some step, by how many went no further so far.

    Costs are counted, not timed: what is dropped, and so the order of sums, is the same in each run.
    """

    def __init__(self, worth: float) -> None:
        """`worth` is what a row takes from here to the end, in what it takes to look at one."""
        self._worth = worth
        self._dropped: float | None = None  # share of rows, smoothed
        self._skips = 0  # that are left before it is tried again

    def is_due(self) -> bool:
        """Whether to look now."""
        self._skips -= 1
        return self._skips < 0

    def took(self, before: int, after: int) -> None:
        """Of `before` rows `after` differed."""
        share = (before - after) / before
        self._dropped = share if self._dropped is None else (self._dropped + share) / 2
        if self._dropped * self._worth < 1:
            self._skips = SKIPPED


class Walk:
    """The way of rows of some images through a program, to a sink."""

    def __init__(self, route: Route, golden: Golden, sink: Sink) -> None:
        self.route, self.golden, self.sink = route, golden, sink
        self._steps = route.program.steps
        self._looks = route.looks()
        self._is_watched = False

    def send(self, index: int, rows: Rows, is_watched: bool = False) -> Tensor:
        """The rows, changed up to step `index`, are through; the trials of which any differed there, ascending.

        With `is_watched` the sink hears of rows whose values come near the end of what single precision holds.
        """
        differs = self._differs(rows)
        trials, rows = torch.unique(rows.trial[differs]), _mostly(rows, differs, self.golden.count)
        if not len(trials):
            return trials
        self._is_watched = is_watched
        self._watch(index, rows, ONE_TERM)
        at_once = self.route.at_once(index, any(change.channel is not None for change in rows.changes.values()))
        for start in range(0, len(rows.trial), at_once):
            self._through(index + 1, rows.of(slice(start, start + at_once)))
        return trials

    def along(self, index: int, rows: Rows, is_watched: bool = False) -> int:
        """The rows, changed in one channel by step `index`, are where that channel ends: behind the step given back."""
        self._is_watched = is_watched
        self._watch(index, rows, ONE_TERM)
        lane = self.route.lanes[index]
        for each in lane:
            self._step(each, rows)
        return lane[-1] if lane else index

    def _through(self, first: int, rows: Rows) -> None:
        for index in range(first, len(self._steps)):
            step = self._steps[index]
            if not any(name in rows.changes for name in step.inputs):
                continue
            is_sparse = any(change.channel is not None for change in rows.changes.values())
            look = self._looks.get((index, is_sparse))
            if look is not None and look.is_due():
                before = len(rows.trial)
                rows = _mostly(rows, self._differs(rows), self.golden.count)
                look.took(before, len(rows.trial))
                if not len(rows.trial):
                    return
            if look is not None and self._divide(index, rows):
                return
            self._step(index, rows)
        sink = self.route.program.sink
        if sink in rows.changes:
            rows = rows.of(torch.nonzero(self._differs(rows))[:, 0])
            self.sink.put(rows, whole(self.golden.value(sink), rows.image, rows.changes[sink]))

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
        self._watch_sums(index, rows)
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

    def _watch_sums(self, index: int, rows: Rows) -> None:
        """The sink has heard of rows of which sums inside this step may overflow in another order."""
        if self._is_watched and self.route.adds_up[index]:
            for name in self._steps[index].inputs:
                if (change := rows.changes.get(name)) is not None:
                    self.sink.doubt(rows.of(torch.nonzero(depends_on_order(change.values))[:, 0]))

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

    def _differs(self, rows: Rows) -> Tensor:
        """By row: does any value that is still to be taken differ from the golden one?"""
        differs = torch.zeros(len(rows.trial), dtype=torch.bool, device=rows.trial.device)
        for name, change in rows.changes.items() if len(rows.trial) else ():
            values, limit = self.golden.value(name), self.golden.limit(name)[rows.image]
            same = values[rows.image] if change.channel is None else channel_of(values, rows.image, change)
            differs |= differing(change.values, same, limit)
        return differs if rows.idle is None else differs & ~rows.idle


def _mostly(rows: Rows, differs: Tensor, count: int) -> Rows:
    """The rows that differ, and, of trials with all `count` images of which most do, the others too, as idle ones.

    Trials that stay whole come first.
    """
    if bool(differs.all()):
        return rows
    kept = torch.nonzero(differs)[:, 0]
    if not is_all_images(rows.image, count):
        return replace(rows.of(kept), idle=None)
    stays = (differs.view(-1, count).sum(dim=1) >= MOST * count).repeat_interleave(count)
    order = torch.cat([torch.nonzero(stays)[:, 0], kept[~stays[kept]]])
    return replace(rows.of(order), idle=~differs[order])
