# SPDX-License-Identifier: Apache-2.0
"""Some images on their way through a graph: golden activations, and what faults change of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bitward.engine.datatypes import Stream
from bitward.engine.graph import Graph, Step
from bitward.engine.ops import StoredOp

Parameters = Sequence[npt.NDArray[Any] | None]
Rows = npt.NDArray[np.int64]


class Part:
    """The streams of some images, shape (images, elements) each, computed with `parameters`, one entry a step.

    With `keeps`, all streams are kept (the golden ones, which faults are compared with), else only the last.
    """

    def __init__(self, graph: Graph, source: Stream, parameters: Parameters, keeps: bool = True) -> None:
        self._graph = graph
        self._streams = {graph.source: source}
        for step, values in zip(graph.steps, parameters, strict=True):
            taken = tuple(self._streams[name] if keeps else self._streams.pop(name) for name in step.inputs)
            self._streams.update(zip(step.outputs, step.op.apply(taken, values), strict=True))

    @property
    def sink(self) -> Stream:
        """What the host receives."""
        return self._streams[self._graph.sink]

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self.sink)

    def stream(self, name: str) -> Stream:
        """The golden stream of that name."""
        return self._streams[name]

    def result(self, parameters: Parameters, faulty: set[str]) -> Stream:
        """What the host receives when the memories in `faulty` hold other parameters than the golden ones."""
        changed: dict[str, tuple[Rows, Stream]] = {}  # by stream: the images that differ from the golden ones, and how
        for step, values in zip(self._graph.steps, parameters, strict=True):
            is_faulty = isinstance(step.op, StoredOp) and step.op.memory.name in faulty
            rows = np.arange(len(self.sink)) if is_faulty else _union(changed, step)
            if not len(rows):
                continue
            taken = tuple(self._at(name, rows, changed.pop(name, None)) for name in step.inputs)
            for name, stream in zip(step.outputs, step.op.apply(taken, values), strict=True):
                differs = (stream != self._streams[name][rows]).any(axis=1)
                if differs.any():
                    changed[name] = rows[differs], stream[differs]
        return self._at(self._graph.sink, np.arange(len(self.sink)), changed.get(self._graph.sink))

    def _at(self, name: str, rows: Rows, change: tuple[Rows, Stream] | None) -> Stream:
        """The stream of the images `rows`, in which those that changed are."""
        if change is None:
            return self._streams[name][rows]
        if len(change[0]) == len(rows):
            return change[1]
        stream = self._streams[name][rows]
        stream[np.searchsorted(rows, change[0])] = change[1]
        return stream


def _union(changed: dict[str, tuple[Rows, Stream]], step: Step) -> Rows:
    """The images of which any stream that the step takes has changed, in ascending order."""
    rows = [changed[name][0] for name in step.inputs if name in changed]
    if len(rows) == 1:
        return rows[0]
    return np.unique(np.concatenate(rows)) if rows else np.arange(0)
