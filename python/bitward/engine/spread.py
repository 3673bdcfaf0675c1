# SPDX-License-Identifier: Apache-2.0
"""How far faults get: from the step that they hit to the sink, at the price of what they change.

A row is a pair of a trial and an image. A fault changes one channel of the step that it hits; that channel is followed
alone, of many trials at once, as long as operators treat channels by themselves. Behind them rows go through whole, and
each is dropped as soon as its streams equal the golden ones: exact, since what an operator gives depends on what it
takes and on its parameters alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bitward.engine.datatypes import Stream
from bitward.engine.graph import Graph, Step
from bitward.engine.hits import Changed
from bitward.engine.ops import StoredOp
from bitward.engine.ops._op import Parameters
from bitward.engine.ops.matrix import Matrix
from bitward.engine.order import Indices, Narrow, Order
from bitward.engine.part import Part
from bitward.engine.sparse import few_pixels, pairs

NARROW_ELEMENTS = 1 << 18  # of one channel of all images, of the trials that are followed together
ALL = 1 << 62  # elements that golden parameters are made ready for: however many
WIDE_BYTES = 1 << 23  # of the largest stream of the rows that go through together


@dataclass
class _Channel:
    """One channel of a stream of all images, by trial."""

    values: Narrow
    channels: Indices


@dataclass
class Rows:
    """Rows of trials, `trial` and `image` of each, with the whole streams, by name, in which they differ."""

    trial: Indices
    image: Indices
    streams: dict[str, Stream]

    def of(self, kept: npt.NDArray[Any]) -> Rows:
        return Rows(self.trial[kept], self.image[kept], {name: each[kept] for name, each in self.streams.items()})


class Spread:
    """The ways of a graph, with golden parameters."""

    def __init__(self, graph: Graph, parameters: Sequence[Parameters | None]) -> None:
        self._steps = graph.steps
        self._stored = {
            at: (step.op, values)
            for at, (step, values) in enumerate(zip(graph.steps, parameters, strict=True))
            if isinstance(step.op, StoredOp) and values is not None
        }
        self._ready = [step.op.ready(values, ALL) for step, values in zip(graph.steps, parameters, strict=True)]
        self._order = _orders(graph)
        self._windows = pairs(graph.steps)
        self._follows = [self._is_followed(step) for step in graph.steps]

    def results(self, part: Part, changes: Sequence[Mapping[int, Changed]]) -> Iterator[Rows]:
        """The rows of which the sink may differ, in any order; golden ones may be left out.

        `changes` are those of each trial, by step.
        """
        groups: dict[int, list[tuple[int, int, int]]] = {}
        for number, changed in enumerate(changes if part.count else ()):
            single = self._single(changed)
            if single is not None:
                groups.setdefault(single[0], []).append((number, *single[1:]))
            elif changed:
                yield from self._whole(part, number, changed)
        for step, hits in groups.items():
            count = self._together(part, step)
            for start in range(0, len(hits), count):
                yield from self._hit(part, step, hits[start : start + count])

    def path(self, changed: Mapping[int, Changed]) -> str:
        """How a trial of these changes is computed."""
        return "suffix" if self._single(changed) is None else "delta"

    def _single(self, changed: Mapping[int, Changed]) -> tuple[int, int, int] | None:
        """(step, flat index, value) where one parameter alone changes, of a step whose channels are known."""
        if len(changed) != 1:
            return None
        ((step, only),) = changed.items()
        takes_channels = isinstance(self._steps[step].op, Matrix) or self._follows[step]
        return (step, int(only.index[0]), int(only.value[0])) if len(only.index) == 1 and takes_channels else None

    # -- one channel ------------------------------------------------------------------------------------------------

    def _is_followed(self, step: Step) -> bool:
        """Do channels of what the step takes go through it each by itself?"""
        orders = [self._order.get(name) for name in step.inputs]
        found = zip(orders, step.op.takes, step.op.sources, strict=True)
        is_followed = all(order and order == taken and order.fits(ends.count) for order, taken, ends in found)
        return is_followed and None not in step.op.gives

    def _together(self, part: Part, step: int) -> int:
        """How many trials go together from that step on."""
        sizes = [part.stream(name).size // self._order[name].channels for name in self._behind(step)]
        return max(1, NARROW_ELEMENTS // max(sizes))

    def _behind(self, step: int) -> Iterator[str]:
        """The streams from a step's result to the next matrices, which take any channel."""
        reached = set(self._steps[step].outputs)
        yield from reached
        for at in range(step + 1, len(self._steps)):
            if reached.intersection(self._steps[at].inputs) and self._follows[at]:
                reached.update(self._steps[at].outputs)
                yield from self._steps[at].outputs

    def _hit(self, part: Part, step: int, hits: Sequence[tuple[int, int, int]]) -> Iterator[Rows]:
        """Trials that change one parameter of a step each."""
        (op, parameters), (name,) = self._stored[step], self._steps[step].outputs
        number, index, value = (np.array(each, np.int64) for each in zip(*hits, strict=True))
        source, result = part.stream(self._steps[step].inputs[0]), part.stream(name)
        channels = np.stack(np.unravel_index(index, parameters.shape))[op.channel_axis]
        changed = {name: _Channel(op.hit(source, result, parameters, index, value), channels)}
        yield from self._follow(part, step + 1, number, self._alive(part, number, changed))

    def _follow(
        self, part: Part, first: int, number: Indices, changed: tuple[Indices, dict[str, _Channel]]
    ) -> Iterator[Rows]:
        """Changes of one channel a stream, as far as they stay that."""
        number, streams = changed
        for at in range(first, len(self._steps)):
            step = self._steps[at]
            if not len(number):
                return
            if not any(name in streams for name in step.inputs):
                continue
            if not self._followed(part, at, streams):
                yield from self._widen(part, at, number, streams)
                return
            if step.op.forgets:
                number, streams = self._alive(part, number, streams)
        yield from self._widen(part, len(self._steps), number, streams)

    def _followed(self, part: Part, at: int, streams: dict[str, _Channel]) -> bool:
        """The step's change stands in `streams` instead of those that it takes, if it is one of single channels."""
        step, op = self._steps[at], self._steps[at].op
        changes = [streams.get(name) for name in step.inputs]
        given = [(place, change) for place, change in enumerate(changes) if change is not None]
        channels = given[0][1].channels
        if not self._follows[at] or any(not np.array_equal(change.channels, channels) for _, change in given):
            return False
        if len(given) == 1 and (offset := op.place_of(given[0][0])) is not None:
            results = [given[0][1].values]
            channels = channels + offset
        elif op.place_of(0) is not None:
            return False
        else:
            taken = [
                self._narrow(part, name, change, channels) for name, change in zip(step.inputs, changes, strict=True)
            ]
            ready = op.ready_of(self._ready[at], channels)
            results = list(
                op.of_channels(channels).apply_ready(tuple(each.reshape(len(each), -1) for each in taken), ready)
            )
        for name in step.inputs:
            streams.pop(name, None)
        for name, result in zip(step.outputs, results, strict=True):
            streams[name] = _Channel(result.reshape(len(result), -1, len(channels)), channels)
        return True

    def _narrow(self, part: Part, name: str, change: _Channel | None, channels: Indices) -> Narrow:
        return self._golden(part, name, channels) if change is None else change.values

    def _golden(self, part: Part, name: str, channels: Indices) -> Narrow:
        return self._order[name].take(part.stream(name), channels)

    def _differs(self, part: Part, streams: Mapping[str, _Channel]) -> npt.NDArray[np.bool_]:
        """By image and trial: is any value another than the golden one?"""
        found = [
            (change.values != self._golden(part, name, change.channels)).any(axis=1) for name, change in streams.items()
        ]
        return np.logical_or.reduce(found)

    def _alive(self, part: Part, number: Indices, streams: dict[str, _Channel]) -> tuple[Indices, dict[str, _Channel]]:
        """The trials of which any image still differs."""
        kept = np.flatnonzero(self._differs(part, streams).any(axis=0))
        if len(kept) == len(number):
            return number, streams
        return number[kept], {
            name: _Channel(each.values[:, :, kept], each.channels[kept]) for name, each in streams.items()
        }

    # -- whole rows -------------------------------------------------------------------------------------------------

    def _widen(self, part: Part, at: int, number: Indices, streams: dict[str, _Channel]) -> Iterator[Rows]:
        """Rows that differ go whole through step `at` and those behind it."""
        trial, image = np.nonzero(self._differs(part, streams).T)
        count = self._at_once(at)
        for start in range(0, len(trial), count):
            chosen, images = trial[start : start + count], image[start : start + count]
            rows = Rows(number[chosen], images, {})
            spread = self._spread(part, at, chosen, images, streams, rows)
            for name, change in streams.items():
                if name != spread:
                    rows.streams[name] = part.stream(name)[images]
                    values = change.values[images, :, chosen]
                    self._order[name].put(rows.streams[name], change.channels[chosen], values)
            yield from self._through(part, at if spread is None else at + 1, rows)

    def _spread(
        self, part: Part, at: int, trial: Indices, image: Indices, streams: dict[str, _Channel], rows: Rows
    ) -> str | None:
        """The stream that the matrix at step `at` takes, if it takes one; its result stands in `rows` then."""
        if at == len(self._steps):
            return None
        op, name = self._steps[at].op, self._steps[at].inputs[0]
        order, change = self._order.get(name), streams.get(name)
        if not isinstance(op, Matrix) or order is None or change is None or not op.spreads(order):
            return None
        channels = change.channels[trial]
        golden = self._golden(part, name, change.channels)[image, :, trial]
        moved = change.values[image, :, trial].astype(np.int64) - golden
        result = self._steps[at].outputs[0]
        rows.streams[result] = op.spread(part.stream(result)[image], self._ready[at], channels, moved, order)
        return name

    def _at_once(self, at: int) -> int:
        """How many rows go together through step `at` and those behind it."""
        ends = [ends for step in self._steps[max(0, at - 1) :] for ends in (*step.op.sources, *step.op.results)]
        return max(1, WIDE_BYTES // max(each.count * each.type.dtype.itemsize for each in ends))

    def _through(self, part: Part, first: int, rows: Rows) -> Iterator[Rows]:
        """Rows go through the steps from `first` on, dropped where they equal the golden ones."""
        for at in range(first, len(self._steps)):
            step = self._steps[at]
            if not any(name in rows.streams for name in step.inputs):
                continue
            if at not in self._windows or not self._few_pixels(part, at, rows):
                self._apply(part, at, rows, self._ready[at])
            if step.op.forgets:
                rows = self._different(part, rows)
                if not len(rows.trial):
                    return
        yield rows

    def _few_pixels(self, part: Part, at: int, rows: Rows) -> bool:
        """If few pixels differ: the result of the matrix behind the windows of step `at` stands in `rows`."""
        window, matrix, taker = self._windows[at]
        (name,), (result,) = self._steps[at].inputs, self._steps[taker].outputs
        golden, after = part.stream(name)[rows.image], part.stream(result)[rows.image]
        found = few_pixels(window, matrix, self._ready[taker], rows.streams[name], golden, after)
        if found is not None:
            del rows.streams[name]
            rows.streams[result] = found
        return found is not None

    def _apply(self, part: Part, at: int, rows: Rows, ready: Any) -> None:
        """The step's results stand in `rows` instead of what it takes."""
        step = self._steps[at]
        taken = tuple(
            part.stream(name)[rows.image] if (stream := rows.streams.pop(name, None)) is None else stream
            for name in step.inputs
        )
        rows.streams.update(zip(step.outputs, step.op.apply_ready(taken, ready), strict=True))

    def _different(self, part: Part, rows: Rows) -> Rows:
        """The rows of which any stream is another than the golden one."""
        differs = np.zeros(len(rows.trial), np.bool_)
        for name, stream in rows.streams.items():
            differs |= (stream != part.stream(name)[rows.image]).any(axis=1)
        return rows if differs.all() else rows.of(differs)

    def _whole(self, part: Part, number: int, changed: Mapping[int, Changed]) -> Iterator[Rows]:
        """A trial that changes several parameters, all images of it whole from the first step that it hits."""
        first = min(changed)
        count = self._at_once(first)
        for start in range(0, part.count, count):
            image = np.arange(start, min(start + count, part.count))
            rows = Rows(np.full(len(image), number), image, {})
            for at in range(first, max(changed) + 1):
                step = self._steps[at]
                if at in changed:
                    patched = changed[at].patched(self._stored[at][1])
                    self._apply(part, at, rows, step.op.ready(patched, len(image) * step.op.results[0].count))
                elif any(name in rows.streams for name in step.inputs):
                    self._apply(part, at, rows, self._ready[at])
            rows = self._different(part, rows)
            if len(rows.trial):
                yield from self._through(part, max(changed) + 1, rows)


def _orders(graph: Graph) -> dict[str, Order]:
    """By stream: where its channels lie, as its producer gives them; none of those of which nobody knows."""
    given = [pair for step in graph.steps for pair in zip(step.outputs, step.op.gives, strict=True)]
    return {name: order for name, order in given if order is not None}
