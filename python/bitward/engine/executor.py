# SPDX-License-Identifier: Apache-2.0
"""The executor: golden activations once per batch, then only what a fault can have changed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bitward.engine.datatypes import Stream
from bitward.engine.graph import load_graph, read_graph, stream_ends
from bitward.engine.hits import Changed, Hits
from bitward.engine.images import StoredImages, load_images
from bitward.engine.injectable import Injectable
from bitward.engine.ops import Op, StoredOp
from bitward.engine.part import Part, Rows
from bitward.engine.spread import Spread
from bitward.errors import ManifestError
from bitward.faults import Trial
from bitward.manifest import Manifest

if TYPE_CHECKING:
    import onnx

PART_BYTES = 1 << 28  # activations computed at a time
KEPT_BYTES = 1 << 30  # golden activations kept
RESULT_BYTES = 1 << 26  # outputs of trials computed together

PATHS = ("masked", "delta", "suffix")  # how trials are computed, from the quickest on


class HardwareEngine(Injectable):
    """A hardware graph with its memories, which can be read, written and run.

    Images are run in parts of `PART_BYTES`. The activations of the last batch are kept, computed with golden memories,
    as far as they fit into `KEPT_BYTES`; other parts are run from the start. With faults, execution starts at the first
    faulty node, and an image is dropped as soon as its activations equal the golden ones: exact, since what a node
    gives depends on what it takes and on its parameters alone.
    """

    def __init__(
        self, graph: onnx.ModelProto, manifest: Manifest, images: Mapping[str, npt.NDArray[np.uint32]]
    ) -> None:
        """Runs `graph` with the memory images `images`. ModelError or ManifestError where they do not fit."""
        self._manifest = manifest
        self._io = stream_ends(manifest)
        self._graph = read_graph(graph, manifest)
        self._stored = StoredImages(manifest, images)
        self._parameters = [self._decoded(step.op) for step in self._graph.steps]
        self._source: Stream | None = None  # the batch that is kept
        self._kept: list[Part] = []

    @classmethod
    def load(cls, build_dir: str | Path) -> HardwareEngine:
        """The engine of a build directory: its hardware.onnx, manifest.json and memories.npz."""
        folder = Path(build_dir)
        manifest = Manifest.load(folder / "manifest.json")
        return cls(load_graph(folder / "hardware.onnx"), manifest, load_images(folder / "memories.npz"))

    @property
    def manifest(self) -> Manifest:
        return self._manifest

    def read(self, memory: str, word: int) -> int:
        return self._stored.read(memory, word)

    def write(self, memory: str, word: int, value: int) -> None:
        self._stored.write(memory, word, value)

    def golden(self, memory: str, word: int) -> int:
        return self._stored.golden(memory, word)

    def infer(self, images: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Integer images, shape (n, *io.input.shape), through the hardware as it is stored now.

        Gives integers of shape (n, *io.output.shape). ManifestError for images out of shape or range.
        """
        stream = self._checked(images)
        faulty = set(self._stored.faulty())
        parameters = self._parameters if not faulty else self._now(faulty)
        self._take(stream)
        results = [part.result(parameters, faulty) for part in self._kept]
        done = sum(len(result) for result in results)
        if done < len(stream):
            later = self._parts(stream[done:])
            results += [Part(self._graph, part, parameters, keeps=False).sink for part in later]
        return np.concatenate(results).astype(np.int64).reshape(-1, *self._io.output.shape)

    def infer_whole(self, images: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """As `infer`, every node on every image: what all other ways are measured against."""
        parameters = self._now(set(self._stored.faulty()))
        parts = [Part(self._graph, part, parameters, keeps=False) for part in self._parts(self._checked(images))]
        return np.concatenate([part.sink for part in parts]).astype(np.int64).reshape(-1, *self._io.output.shape)

    def outcomes(
        self, images: npt.ArrayLike, trials: Sequence[Trial]
    ) -> Iterator[tuple[npt.NDArray[np.int64], str, float]]:
        """(outputs, path, seconds) of each trial, by itself, in order: what `inject`, `infer` and `restore` give.

        The path says how it was computed: "masked", no parameter changes; "delta", one channel followed as far as it
        goes; "suffix", whole from the first step that is hit. No memory is written. ManifestError where memories are
        not golden, for images as in `infer`, and in its turn for a trial whose faults are in no memory.
        """
        faulty = next(self._stored.faulty(), None)
        if faulty is not None:
            raise ManifestError(f"memories must be golden before trials, got faults in {faulty}; restore them first")
        stream = self._checked(images)
        size = max(1, len(stream) * self._graph.sink_ends.count * self._graph.sink_ends.type.dtype.itemsize)
        at_once = max(1, RESULT_BYTES // size)
        right = next((number for number, faults in enumerate(trials) if not self._has_places(faults)), len(trials))
        for start in range(0, right, at_once):
            yield from self._together(stream, trials[start : min(start + at_once, right)])
        for fault in trials[right] if right < len(trials) else ():
            self.check_place(fault)

    def _together(self, stream: Stream, trials: Sequence[Trial]) -> Iterator[tuple[npt.NDArray[np.int64], str, float]]:
        started = time.perf_counter()
        changes = self._hits.of(trials)
        paths = ["masked"] * len(trials)
        found: list[list[tuple[Rows, Stream]]] = [[] for _ in trials]
        golden: list[Stream] = []
        for part in self._golden_parts(stream):
            first = sum(map(len, golden))
            golden.append(part.sink)
            self._compare(part, first, changes, paths, found)
        result = np.concatenate(golden).astype(np.int64)
        seconds = (time.perf_counter() - started) / max(1, len(trials))
        for path, rows in zip(paths, found, strict=True):
            outputs = result.copy()
            for images, values in rows:
                outputs[images] = values
            yield outputs.reshape(-1, *self._io.output.shape), path, seconds

    def _compare(
        self,
        part: Part,
        first: int,
        changes: Sequence[Mapping[int, Changed]],
        paths: list[str],
        found: list[list[tuple[Rows, Stream]]],
    ) -> None:
        """What trials make of a part's outputs, whose first image is number `first`, is in `found`."""
        for number, changed in enumerate(changes):
            if changed:
                paths[number] = self._spread.path(changed)
        for rows in self._spread.results(part, changes):
            for number in np.unique(rows.trial).tolist():
                chosen = rows.trial == number
                found[number].append((first + rows.image[chosen], rows.streams[self._graph.sink][chosen]))

    def _golden_parts(self, stream: Stream) -> Iterator[Part]:
        """The golden activations of all images; those that do not fit are computed again each time."""
        self._take(stream)
        yield from self._kept
        done = sum(part.count for part in self._kept)
        for part in self._parts(stream[done:]) if done < len(stream) else ():
            yield Part(self._graph, part, self._parameters)

    def _has_places(self, faults: Trial) -> bool:
        try:
            for fault in faults:
                self.check_place(fault)
        except ManifestError:
            return False
        return True

    @cached_property
    def _spread(self) -> Spread:
        return Spread(self._graph, self._parameters)

    @cached_property
    def _hits(self) -> Hits:
        ops = [(number, step.op) for number, step in enumerate(self._graph.steps) if isinstance(step.op, StoredOp)]
        return Hits(ops, self._stored)

    def _take(self, stream: Stream) -> None:
        """The batch is the one that is kept."""
        if self._source is None or not np.array_equal(stream, self._source):
            self._source, self._kept = None, []  # freed before the next batch is computed
            self._kept, self._source = self._keep(stream), stream

    def _decoded(self, op: Op) -> npt.NDArray[Any] | None:
        return op.parameters(self._stored.now(op.memory.name)) if isinstance(op, StoredOp) else None

    def _now(self, faulty: set[str]) -> list[npt.NDArray[Any] | None]:
        """The parameters as they are stored now."""
        return [
            self._decoded(step.op) if isinstance(step.op, StoredOp) and step.op.memory.name in faulty else golden
            for step, golden in zip(self._graph.steps, self._parameters, strict=True)
        ]

    def _parts(self, stream: Stream) -> list[Stream]:
        """The images in parts whose activations take `PART_BYTES` at most (of one image at least)."""
        images = max(1, PART_BYTES // self._graph.bytes_per_image)
        return [stream[start : start + images] for start in range(0, max(1, len(stream)), images)]

    def _keep(self, stream: Stream) -> list[Part]:
        """Golden activations of the first images, as many as fit (one part at least)."""
        images = max(1, KEPT_BYTES // self._graph.bytes_per_image)
        return [Part(self._graph, part, self._parameters) for part in self._parts(stream[:images])]

    def _checked(self, images: npt.ArrayLike) -> Stream:
        array = np.asarray(images)
        shape, source = self._io.input.shape, self._graph.source_ends.type
        if array.dtype.kind not in "iu" or array.ndim == 0 or array.shape[1:] != shape:
            raise ManifestError(
                f"images must be integers of shape (n, {', '.join(map(str, shape))}), got {array.dtype} of shape "
                f"{array.shape}; apply the manifest's io.pre first"
            )
        if array.size and (int(array.min()) < source.low or int(array.max()) > source.high):
            worst = array.min() if int(array.min()) < source.low else array.max()
            raise ManifestError(f"images must be {source}, got {worst}; quantize them as the model does")
        return array.astype(source.dtype).reshape(len(array), self._graph.source_ends.count)
