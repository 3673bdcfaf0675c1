# SPDX-License-Identifier: Apache-2.0
"""A design's memories on the board's side: scrubbed where they are, by the manifest that the client sends."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from bitward.errors import ManifestError
from bitward.manifest import Manifest, Memory

from .backend import Backend, Registers
from .guard import Caller
from .proto import bitward_pb2
from .refusals import LateError, LimitError, RequestError
from .rows import Image
from .scrub import SCRUBBED_FIELDS, has_redundancy, scrub_memory

MAX_SCRUB_WORDS = 1 << 22  # of a memory: 16 MiB, above all of a K26's block and Ultra RAM
MAX_WIDTH = 1 << 16  # bits of a row
WRONG = (ValueError, TypeError, KeyError, IndexError, OverflowError, ArithmeticError, RecursionError)


class Held:
    """The memories of the manifest's design, behind the accelerator's window at `base`, as `rows` reads and writes."""

    def __init__(self, backend: Backend, manifest: Manifest, base: int) -> None:
        self._backend, self._base = backend, base
        self.manifest = manifest

    def read_rows(self, memory: str, rows: Sequence[int]) -> Image:
        """Those rows as they are stored now: uint32 of shape (rows, segments); AddressError where they are not."""
        registers, offsets, segments = self._places(memory, rows)
        words = [registers.read(at + 4 * segment) for at in offsets for segment in range(segments)]
        return np.array(words, dtype=np.uint32).reshape(len(offsets), segments)

    def write_rows(self, memory: str, rows: Sequence[int], words: Image) -> None:
        """Those rows hold `words`."""
        registers, offsets, segments = self._places(memory, rows)
        for at, row in zip(offsets, words.tolist(), strict=True):
            for segment in range(segments):
                registers.write(at + 4 * segment, row[segment])

    def read(self, memory: str, word: int, /) -> int:
        """One row, all of its segments as one number."""
        found: int = sum(int(segment) << 32 * at for at, segment in enumerate(self.read_rows(memory, [word])[0]))
        return found

    def write(self, memory: str, word: int, value: int, /) -> None:
        """One row holds `value`."""
        segments = self.manifest.memory(memory).segments
        row = [value >> 32 * at & 0xFFFFFFFF for at in range(segments)]
        self.write_rows(memory, [word], np.array([row], dtype=np.uint32))

    def _places(self, memory: str, rows: Sequence[int]) -> tuple[Registers, list[int], int]:
        """What answers, the rows' first offsets in it, and words a row; the whole memory must be mapped."""
        place = self.manifest.memory(memory).hardware
        if place is None:
            raise RequestError(f"memory {memory} must be in hardware, got a software-only one; send the build's own")
        registers, first = self._backend.span(
            self._base + place.base, (place.depth - 1) * place.word_stride + 4 * place.segments
        )
        return registers, [first + row * place.word_stride for row in rows], place.segments


def scrubbed(backend: Backend, request: Any, caller: Caller) -> Any:
    """The answer to a ScrubRequest: one pass, memory by memory, each with its time.

    LateError where the caller's time is over before the next memory: those before it are scrubbed.
    """
    held, memories = _asked(backend, request)
    started = time.perf_counter()
    found: list[Any] = []
    for memory in memories:
        if time.perf_counter() - started > caller.seconds:
            raise LateError(f"a pass must end in time, got {len(found)} of {len(memories)} memories; ask for fewer")
        result = scrub_memory(held, memory)
        found.append(bitward_pb2.Scrubbed(**{name: getattr(result, name) for name in SCRUBBED_FIELDS}))
    return bitward_pb2.ScrubResponse(seconds=time.perf_counter() - started, memories=found)


def _asked(backend: Backend, request: Any) -> tuple[Held, list[Memory]]:
    """The memories that a request names; RequestError where its manifest is none, LimitError where it is too large."""
    try:
        manifest = Manifest.from_json(request.manifest)
        memories = [manifest.memory(name) for name in request.memories] or [
            each for each in manifest.memories if each.hardware is not None and _is_redundant(each)
        ]
    except ManifestError as error:
        raise RequestError(str(error)) from error
    except WRONG as error:
        raise RequestError(f"a manifest must describe a design, got {error}; send what build wrote") from error
    held = Held(backend, manifest, request.base)
    for memory in memories:
        if not _is_redundant(memory):
            raise RequestError(f"memory {memory.name} must have redundancy to be scrubbed, got none; leave it out")
        held._places(memory.name, [])  # AddressError before the first row is touched
    return held, memories


def _is_redundant(memory: Memory) -> bool:
    """`has_redundancy`; LimitError for a memory that no board has."""
    place = memory.hardware
    if place is not None and (place.depth * place.segments > MAX_SCRUB_WORDS or place.width > MAX_WIDTH):
        raise LimitError(
            f"a memory must have at most {MAX_SCRUB_WORDS} words in rows of at most {MAX_WIDTH} bits, got "
            f"{place.depth} rows of {place.width} for {memory.name}; is the manifest the build's?"
        )
    return has_redundancy(memory)
