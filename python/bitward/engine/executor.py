# SPDX-License-Identifier: Apache-2.0
"""The executor: golden activations once per batch, then only what a fault can have changed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bitward.engine.datatypes import Stream
from bitward.engine.graph import chain, load_graph, stream_ends
from bitward.engine.images import StoredImages, load_images
from bitward.engine.injectable import Injectable
from bitward.engine.ops import Op, StoredOp
from bitward.errors import ManifestError
from bitward.manifest import Manifest

if TYPE_CHECKING:
    import onnx


class HardwareEngine(Injectable):
    """A hardware graph with its memories, which can be read, written and run.

    The activations of the last batch of images are kept, computed with golden memories. With faults, execution starts
    at the first faulty node, and an image is dropped as soon as its activations equal the golden ones: exact, since
    a node's output depends on its input and its parameters alone.
    """

    def __init__(
        self, graph: onnx.ModelProto, manifest: Manifest, images: Mapping[str, npt.NDArray[np.uint32]]
    ) -> None:
        """Runs `graph` with the memory images `images`. ModelError or ManifestError where they do not fit."""
        self._manifest = manifest
        self._io = stream_ends(manifest)
        self._ops = chain(graph, manifest)
        self._stored = StoredImages(manifest, images)
        self._parameters = [self._decoded(op) for op in self._ops]
        self._golden: list[Stream] = []  # the stream before the first operator, then behind each

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
        if not self._golden or not np.array_equal(stream, self._golden[0]):
            self._golden = self._activations(stream)
        faulty = set(self._stored.faulty())
        result = self._golden[-1] if not faulty else self._with_faults(faulty)
        return result.astype(np.int64).reshape(-1, *self._io.output.shape)

    def _decoded(self, op: Op) -> npt.NDArray[Any] | None:
        return op.parameters(self._stored.now(op.memory.name)) if isinstance(op, StoredOp) else None

    def _checked(self, images: npt.ArrayLike) -> Stream:
        array = np.asarray(images)
        shape, source = self._io.input.shape, self._ops[0].source
        if array.dtype.kind not in "iu" or array.ndim == 0 or array.shape[1:] != shape:
            raise ManifestError(
                f"images must be integers of shape (n, {', '.join(map(str, shape))}), got {array.dtype} of shape "
                f"{array.shape}; apply the manifest's io.pre first"
            )
        if array.size and (int(array.min()) < source.low or int(array.max()) > source.high):
            worst = array.min() if int(array.min()) < source.low else array.max()
            raise ManifestError(f"images must be {source}, got {worst}; quantize them as the model does")
        return array.astype(source.dtype).reshape(len(array), self._ops[0].inputs)

    def _activations(self, stream: Stream) -> list[Stream]:
        """The stream before and behind each operator, with golden memories."""
        streams = [stream]
        for op, parameters in zip(self._ops, self._parameters, strict=True):
            streams.append(op.run(streams[-1], parameters))
        return streams

    def _with_faults(self, faulty: set[str]) -> Stream:
        """The output stream of the kept batch when the memories in `faulty` are read as they are stored now."""
        stream = self._golden[0][:0]
        changed = np.arange(0)  # the images whose activations differ from the golden ones, and `stream` is theirs
        for at, op in enumerate(self._ops):
            parameters = self._parameters[at]
            if isinstance(op, StoredOp) and op.memory.name in faulty:
                everything = self._golden[at].copy()
                everything[changed] = stream
                stream, changed = everything, np.arange(len(everything))
                parameters = self._decoded(op)
            stream = op.run(stream, parameters)
            differs = (stream != self._golden[at + 1][changed]).any(axis=1)
            stream, changed = stream[differs], changed[differs]
        result = self._golden[-1].copy()
        result[changed] = stream
        return result
