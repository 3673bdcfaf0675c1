# SPDX-License-Identifier: Apache-2.0
"""Scrubbing: every row of every memory with redundancy is read, decoded, encoded again, and written back if it differs.

Redundancy masks an upset while a row is read; it goes on lying in the memory until a second one meets it. A pass takes
it out in time. What has no redundancy is left alone (nothing says what it should be), and so are rows that are known to
be wrong beyond correction. What redundancy takes for right and is not (two copies upset alike, three upsets of a
codeword) is written back as if it were. A design may go on inferring meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from bitward.errors import ConfigError
from bitward.manifest import Memory
from bitward.words import SEGMENT_BITS

from .rows import Image, Stores, read_rows, write_rows

SCRUBBED_FIELDS = ("memory", "rows", "written", "corrected", "detected", "bits", "seconds")


@dataclass(frozen=True)
class Scrubbed:
    """What a pass found in one memory, or in all of them.

    `corrected` and `detected` count stored words: a lane's where lanes are voted one by one, a whole row where it is
    one codeword. Those corrected were read otherwise than stored; those detected are known to be wrong and were left.
    `bits` are the stored bits that were inverted, padding (dead bits) not counted.
    """

    memory: str
    rows: int
    written: int  # rows
    corrected: int
    detected: int
    bits: int
    seconds: float = field(default=0.0, compare=False)  # of the clock of whoever did it


@dataclass(frozen=True)
class Pass:
    """One pass over all memories with redundancy: seconds of the host's clock, and what was found in each."""

    seconds: float
    memories: tuple[Scrubbed, ...]

    @property
    def total(self) -> Scrubbed:
        """All memories together."""
        return Scrubbed("total", *(sum(getattr(each, name) for each in self.memories) for name in SCRUBBED_FIELDS[1:]))


def has_redundancy(memory: Memory) -> bool:
    """Whether a pass can do anything for the memory."""
    return bool(memory.scheme.masked_bits)


def scrub_pass(target: Stores) -> Pass:
    """Every memory with redundancy was read once, and rows that redundancy says are wrong are as it says.

    A target that has a `scrub_pass` of its own does it there: a board whose server votes on its side.
    """
    own: Callable[[], Pass | None] | None = getattr(target, "scrub_pass", None)
    done = own() if own is not None else None
    if done is not None:
        return done
    started = time.perf_counter()
    found = tuple(scrub_memory(target, memory) for memory in target.manifest.memories if has_redundancy(memory))
    return Pass(time.perf_counter() - started, found)


def scrub(
    target: Stores,
    passes: int,
    every_s: float = 0.0,
    before: Callable[[], object] | None = None,
    each: Callable[[int, Pass], object] | None = None,
) -> tuple[Pass, ...]:
    """So many passes, one beginning every `every_s` seconds (or when the last has ended, if that is later).

    `before` is called before a pass, `each` after it with its number, from 1. ConfigError where no memory has
    redundancy.
    """
    if passes < 1 or not every_s >= 0:
        raise ConfigError(
            f"scrubbing must be 1 pass or more, every 0 s or more, got {passes} and {every_s}: correct it"
        )
    if not any(map(has_redundancy, target.manifest.memories)):
        raise ConfigError(
            f"design {target.manifest.design} must have memories with redundancy to be scrubbed, got none: build it "
            "with --protect msb, tmr or secded"
        )
    done: list[Pass] = []
    begun = time.monotonic()
    for number in range(1, passes + 1):
        time.sleep(max(0.0, begun - time.monotonic()))
        begun = time.monotonic() + every_s
        if before:
            before()
        done.append(scrub_pass(target))
        if each:
            each(number, done[-1])
    return tuple(done)


def scrub_memory(target: Stores, memory: Memory) -> Scrubbed:
    """One memory's pass, with its time."""
    started = time.perf_counter()
    done = _scrub(target, memory)
    return replace(done, seconds=time.perf_counter() - started)


def _scrub(target: Stores, memory: Memory) -> Scrubbed:
    """One memory's pass."""
    rows = read_rows(target, memory)
    stored, layout = rows[:, : memory.layout.segments], memory.layout
    reading = layout.read(stored)
    right = rows.copy()
    right[:, : layout.segments] = np.where(reading.detected[:, None], stored, layout.encode(reading.words))
    wrong = np.flatnonzero((right != rows).any(axis=1))
    write_rows(target, memory, wrong.tolist(), right[wrong])
    changed = _bits(rows ^ right)[:, np.setdiff1d(np.arange(layout.width), layout.dead)]
    if memory.scheme.check_bits:
        corrected = int(reading.corrected.sum())
    else:
        corrected = int(np.asarray(memory.scheme.corrected(layout.unpack(stored))).sum())
    return Scrubbed(memory.name, len(rows), len(wrong), corrected, int(reading.detected.sum()), int(changed.sum()))


def _bits(segments: Image) -> npt.NDArray[np.uint8]:
    """Rows of segments as bits, shape (rows, 32*segments), the lowest first."""
    octets = np.ascontiguousarray(segments.astype("<u4")).view(np.uint8)
    return np.unpackbits(octets, axis=1, count=segments.shape[1] * SEGMENT_BITS, bitorder="little")
