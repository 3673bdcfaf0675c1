# SPDX-License-Identifier: Apache-2.0
"""The executor: golden activations once per batch, then only what a fault can have changed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bitward.engine.datatypes import Stream
from bitward.engine.graph import load_graph, read_graph, stream_ends
from bitward.engine.images import StoredImages, load_images
from bitward.engine.injectable import Injectable
from bitward.engine.ops import Op, StoredOp
from bitward.engine.part import Part
from bitward.errors import ManifestError
from bitward.manifest import Manifest

if TYPE_CHECKING:
    import onnx

PART_BYTES = 1 << 28  # activations computed at a time
KEPT_BYTES = 1 << 30  # golden activations kept


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
        if self._source is None or not np.array_equal(stream, self._source):
            self._source, self._kept = None, []  # freed before the next batch is computed
            self._kept, self._source = self._keep(stream), stream
        results = [part.result(parameters, faulty) for part in self._kept]
        done = sum(len(result) for result in results)
        if done < len(stream):
            later = self._parts(stream[done:])
            results += [Part(self._graph, part, parameters, keeps=False).sink for part in later]
        return np.concatenate(results).astype(np.int64).reshape(-1, *self._io.output.shape)

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
