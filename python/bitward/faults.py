# SPDX-License-Identifier: Apache-2.0
"""Faults and their samplers. One definition for the engine, the RTL and the board (DESIGN.md, "What a fault means").

Draws depend on the seed, the memory's name and the stored bit alone: adding a memory, asking for other strata or
raising the number per stratum leaves the faults drawn before as they were. Only numpy's raw PCG64 stream is used, which
numpy keeps stable, so a board with an older numpy draws the same faults.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bitward.errors import FormatError
from bitward.manifest import Manifest, Memory


@dataclass(frozen=True, order=True)
class Fault:
    """Bit `bit` of row `word` of memory `memory` is inverted; copies and check bits are bits of the row too.

    >>> str(Fault("conv1", 3, 17)), Fault.parse("conv1:3:17")
    ('conv1:3:17', Fault(memory='conv1', word=3, bit=17))
    """

    memory: str
    word: int
    bit: int

    def __str__(self) -> str:
        return f"{self.memory}:{self.word}:{self.bit}"

    @classmethod
    def parse(cls, text: str) -> Fault:
        """The fault that `str` wrote; FormatError otherwise."""
        match = re.fullmatch(r"(.+):(\d+):(\d+)", text)
        if match is None:
            raise FormatError(f"a fault must be memory:word:bit, got {text!r}; for example conv1:3:17")
        return cls(match[1], int(match[2]), int(match[3]))


def single_bit_stratified(
    manifest: Manifest,
    per_stratum: int,
    seed: int,
    memories: Sequence[str] | None = None,
    bits: Collection[int] | None = None,
) -> list[Fault]:
    """`per_stratum` live bits of each stratum (memory, stored bit), without replacement; all of one that is smaller.

    `memories` and `bits` (bits of the stored word, copies included) keep some strata only. Faults come in the order of
    the manifest, then of the stored bits, then of the draw: of a larger draw, a smaller one is the beginning.
    """
    if per_stratum < 1:
        raise FormatError(f"per_stratum must be at least 1, got {per_stratum}; it counts faults per memory and bit")
    if seed < 0:
        raise FormatError(f"seed must be 0 or more, got {seed}; numpy takes no negative seeds")
    chosen = manifest.select(memories)
    _check_bits(bits, chosen)
    faults: list[Fault] = []
    for memory in chosen:
        for stratum in memory.strata:
            if bits is None or stratum.stored_bit in bits:
                ranks = _draw(stratum.size, per_stratum, seed, f"{memory.name}:{stratum.stored_bit}")
                faults += _faults(memory, stratum.stored_bit, ranks)
    return faults


def every_fault(manifest: Manifest, memory: str, stored_bits: Iterable[int] | None = None) -> Iterator[Fault]:
    """Every live bit of a memory, stored bit by stored bit, then row by row, for exhaustive campaigns.

    `stored_bits` keeps some bits of the stored word only: `scheme.masked_bits` is every voted bit and its copies.
    """
    found = manifest.memory(memory)
    chosen = range(found.scheme.stored_bits) if stored_bits is None else sorted(set(stored_bits))
    _check_bits(chosen, (found,))
    for stored_bit in chosen:
        yield from _faults(found, stored_bit, None)


def _check_bits(bits: Collection[int] | None, memories: Sequence[Memory]) -> None:
    """Each bit is one that at least one of the memories has: a typo must not end in an empty campaign."""
    widest = max((memory.scheme.stored_bits for memory in memories), default=0)
    for bit in bits or ():
        if not 0 <= bit < widest:
            raise FormatError(f"bits must be 0 to {widest - 1} in the memories chosen, got {bit}; copies count as bits")


def _faults(memory: Memory, stored_bit: int, ranks: npt.NDArray[np.int64] | None) -> list[Fault]:
    return [Fault(memory.name, word, bit) for word, bit in memory.members(stored_bit, ranks).tolist()]


def _draw(size: int, count: int, seed: int, name: str) -> npt.NDArray[np.int64]:
    """`count` distinct numbers below `size`, all where that is less, in random order fixed by `seed` and `name`."""
    key = np.frombuffer(hashlib.sha256(name.encode()).digest(), dtype="<u4").tolist()
    stream = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key))
    keys = np.asarray(stream.random_raw(size))
    return np.argsort(keys, kind="stable")[:count]
