# SPDX-License-Identifier: Apache-2.0
"""Memory images: the stored beats of every memory, golden and with faults."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bitward.errors import ManifestError, nearest, reason_of
from bitward.manifest import Manifest
from bitward.words import beat_of, segments_of

Image = npt.NDArray[np.uint32]


def load_images(path: str | Path) -> dict[str, Image]:
    """The images in a `memories.npz`: name -> uint32 of shape (depth, segments). ManifestError if it is none."""
    try:
        with np.load(path) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ManifestError(
            f"{path} must hold memory images, got {reason_of(error)}: name a folder that build wrote"
        ) from error


class StoredImages:
    """The images of a design's memories: golden, and as they are stored now."""

    def __init__(self, manifest: Manifest, images: Mapping[str, npt.NDArray[Any]]) -> None:
        """Both are `images`. ManifestError where they are not those of the manifest's memories."""
        self._golden: dict[str, Image] = {}
        for memory in manifest.memories:
            image = images.get(memory.name)
            expected = (memory.depth, memory.segments)
            if image is None or image.dtype != np.uint32 or image.shape != expected:
                got = "none" if image is None else f"{image.dtype} of shape {image.shape}"
                raise ManifestError(
                    f"the image of memory {memory.name} must be uint32 of shape {expected}, got {got}; take the "
                    "images of the manifest's build"
                )
            self._golden[memory.name] = image.copy()
        extra = next((name for name in images if name not in self._golden), None)
        if extra is not None:
            raise ManifestError(
                f"an image must be of a memory in the manifest, got {extra!r}; {nearest(extra, self._golden)}"
            )
        self._now = {name: image.copy() for name, image in self._golden.items()}
        self._written: set[str] = set()
        self._width = {memory.name: memory.width for memory in manifest.memories}

    def now(self, memory: str) -> Image:
        """The memory as it is stored now."""
        return self._now[memory]

    def golden_image(self, memory: str) -> Image:
        """The memory without faults."""
        return self._golden[memory]

    def faulty(self) -> Iterator[str]:
        """The memories that differ from the golden ones."""
        return (name for name in self._written if not np.array_equal(self._now[name], self._golden[name]))

    def read(self, memory: str, word: int) -> int:
        """The beat in row `word` as it is stored now."""
        return beat_of(self._row(self._now, memory, word))

    def golden(self, memory: str, word: int) -> int:
        """The beat in row `word` without faults."""
        return beat_of(self._row(self._golden, memory, word))

    def write(self, memory: str, word: int, value: int) -> None:
        """Row `word` holds `value`; ManifestError where that is wider than the row."""
        row = self._row(self._now, memory, word)
        width = self._width[memory]
        if not 0 <= value < 1 << width:
            raise ManifestError(f"a beat of memory {memory} must be {width} bits, got {value:#x}; mask it")
        row[:] = segments_of(value, len(row))
        self._written.add(memory)

    def _row(self, images: dict[str, Image], memory: str, word: int) -> Image:
        image = images.get(memory)
        if image is None:
            raise ManifestError(f"a memory must be one of the design's, got {memory!r}; {nearest(memory, images)}")
        if not 0 <= word < len(image):
            raise ManifestError(f"word must be 0 to {len(image) - 1} in memory {memory}, got {word}; count its rows")
        return image[word]
