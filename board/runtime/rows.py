# SPDX-License-Identifier: Apache-2.0
"""Rows of a target's memories as arrays: in one call where the target has one, else row by row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from bitward.errors import BoardError
from bitward.manifest import Manifest, Memory
from bitward.words import beat_of, segments_of

Image = npt.NDArray[np.uint32]


class Stores(Protocol):
    """What has memories: `bitward.targets.Target` is one.

    Where it also has `read_rows(memory, rows)` and `write_rows(memory, rows, words)`, which take and give uint32 of
    shape (rows, segments), these are used.
    """

    @property
    def manifest(self) -> Manifest:
        """The design's memories."""

    def read(self, memory: str, word: int, /) -> int:
        """The row `word` of a memory as it is stored now."""

    def write(self, memory: str, word: int, value: int, /) -> None:
        """Row `word` of a memory holds `value`."""


def read_rows(target: Stores, memory: Memory, rows: Sequence[int] | None = None) -> Image:
    """Those rows, or all, as they are stored now: uint32 of shape (rows, segments)."""
    chosen = list(range(memory.depth) if rows is None else rows)
    together: Callable[[str, list[int]], Any] | None = getattr(target, "read_rows", None)
    if together is None:
        found = [segments_of(target.read(memory.name, row), memory.segments) for row in chosen]
        return np.array(found, dtype=np.uint32).reshape(len(chosen), memory.segments)
    words = np.asarray(together(memory.name, chosen))
    if words.shape != (len(chosen), memory.segments) or words.dtype != np.uint32:
        raise BoardError(
            f"rows of memory {memory.name} must be uint32 of shape {(len(chosen), memory.segments)}, got {words.dtype} "
            f"of shape {words.shape}; is the manifest the loaded design's?"
        )
    return words


def write_rows(target: Stores, memory: Memory, rows: Sequence[int], words: Image) -> None:
    """Those rows hold `words`, uint32 of shape (rows, segments); nothing is written where there are none."""
    together: Callable[[str, list[int], Image], None] | None = getattr(target, "write_rows", None)
    if together is not None and len(rows):
        together(memory.name, list(rows), words)
        return
    for row, segments in zip(rows, words, strict=True):
        target.write(memory.name, row, beat_of(segments))
