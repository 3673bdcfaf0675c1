# SPDX-License-Identifier: Apache-2.0
"""Upsets that arrive at random and stay until something takes them out: what scrubbing is tried against."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from bitward.errors import ConfigError
from bitward.faults import Fault, Population
from bitward.faults.draw import below, stream
from bitward.manifest import Memory
from bitward.words import segments_of

from .rows import Image, Stores, read_rows, write_rows
from .scrub import scrub_pass


class Upsettable(Stores, Protocol):
    """What upsets strike: `bitward.targets.Target` is one."""

    def golden(self, memory: str, word: int, /) -> int:
        """The row `word` of a memory without faults."""

    def infer(self, images: npt.NDArray[Any], /) -> npt.NDArray[Any]:
        """The outputs for images as streamed, in their order."""


class Upsets:
    """Upsets in `memories` of a target: each inverts one live stored bit, every bit equally likely each time.

    A bit that is hit twice is right again. Draws are independent, so their number in a time is a Poisson one
    (`strike_at`). `count` is how many there were; the same seed gives the same ones on every target.
    """

    def __init__(self, target: Upsettable, memories: Sequence[Memory], seed: int) -> None:
        self._target = target
        self._population = Population(tuple(memories))
        self._places = stream(seed, "upsets: places")
        self._counts = np.random.default_rng(seed)
        self._rows: set[tuple[str, int]] = set()
        self._images: dict[str, Image] = {}  # golden, of memories that were struck
        self.count = 0

    @property
    def stored_bits(self) -> int:
        """Live stored bits that can be hit."""
        return self._population.size

    def strike(self, count: int) -> list[Fault]:
        """`count` upsets have arrived; they are given in their order."""
        if count < 0:
            raise ConfigError(f"upsets must be 0 or more, got {count}: they only add up")
        ranks = below(self._places, self._population.size, count)
        drawn, which = np.unique(ranks, return_inverse=True)
        each = list(self._population.faults(drawn)) if count else []
        made = [each[at] for at in which.tolist()]
        masks: dict[tuple[str, int], int] = {}
        for fault in made:
            row = (fault.memory, fault.word)
            masks[row] = fault.hit(masks.get(row, 0))
        for memory, rows in _by_memory(self._target, masks):
            flips = _stack(memory, [masks[memory.name, row] for row in rows])
            write_rows(self._target, memory, rows, read_rows(self._target, memory, rows) ^ flips)
        self._rows |= masks.keys()
        self.count += count
        return made

    def strike_at(self, per_bit: float) -> list[Fault]:
        """A Poisson number of upsets has arrived, on average `per_bit` for each live stored bit."""
        return self.strike(int(self._counts.poisson(per_bit * self._population.size)))

    def left(self) -> int:
        """Stored bits of the rows struck that are not golden now."""
        wrong = [
            read_rows(self._target, memory, rows) ^ self._golden(memory, rows)
            for memory, rows in _by_memory(self._target, self._rows)
        ]
        return sum(int(np.unpackbits(words.view(np.uint8)).sum()) for words in wrong)

    def restore(self) -> None:
        """Every row that was struck is golden again."""
        for memory, rows in _by_memory(self._target, self._rows):
            write_rows(self._target, memory, rows, self._golden(memory, rows))
        self._rows.clear()

    def _golden(self, memory: Memory, rows: Sequence[int]) -> Image:
        if memory.name not in self._images:
            beats = [self._target.golden(memory.name, row) for row in range(memory.depth)]
            self._images[memory.name] = _stack(memory, beats)
        return self._images[memory.name][list(rows)]


def _by_memory(target: Stores, rows: Collection[tuple[str, int]]) -> Iterator[tuple[Memory, list[int]]]:
    """The rows of each memory that has some, ascending."""
    for memory in target.manifest.memories:
        if chosen := sorted(row for name, row in rows if name == memory.name):
            yield memory, chosen


def _stack(memory: Memory, beats: Sequence[int]) -> Image:
    """Beats of a memory as rows of segments."""
    return np.stack([segments_of(beat, memory.segments) for beat in beats])


@dataclass(frozen=True)
class Exposure:
    """Upsets per stored bit and hour, hours a step, steps, and after how many of them a pass of scrubbing is made.

    `every` None is no scrubbing. What decides is `rate * step_h * every`, upsets per stored bit between two passes.
    """

    rate: float = 2e-3
    step_h: float = 1.0
    steps: int = 60
    every: int | None = 1

    def __post_init__(self) -> None:
        if not (self.rate >= 0 and self.step_h > 0 and self.steps >= 1 and (self.every is None or self.every >= 1)):
            raise ConfigError(
                "an exposure must be of rate >= 0, step_h > 0, steps >= 1 and every >= 1 or None, got "
                f"{self.rate}, {self.step_h}, {self.steps} and {self.every}: correct it"
            )


@dataclass(frozen=True, eq=False)
class Moment:
    """A step of an exposure: sums since its start, the bits wrong after its pass, and the outputs from before that.

    `corrected`, `detected` and `bits` are those of `scrub.Scrubbed`; a row that is known to be wrong is detected again
    in each pass.
    """

    hour: float
    upsets: int
    passes: int
    corrected: int
    detected: int
    bits: int
    left: int
    outputs: npt.NDArray[Any]


def expose(target: Upsettable, images: npt.NDArray[Any], exposure: Exposure, seed: int) -> Iterator[Moment]:
    """The target under upsets in all its memories, step by step; they are golden again when the last one was taken.

    With and without scrubbing, a seed has the same upsets at the same times.
    """
    upsets = Upsets(target, target.manifest.memories, seed)
    passes = corrected = detected = bits = 0
    try:
        for step in range(1, exposure.steps + 1):
            upsets.strike_at(exposure.rate * exposure.step_h)
            outputs = np.asarray(target.infer(images))
            if exposure.every is not None and step % exposure.every == 0:
                total = scrub_pass(target).total
                passes, corrected = passes + 1, corrected + total.corrected
                detected, bits = detected + total.detected, bits + total.bits
            hour = step * exposure.step_h
            yield Moment(hour, upsets.count, passes, corrected, detected, bits, upsets.left(), outputs)
    finally:
        upsets.restore()
