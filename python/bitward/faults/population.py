# SPDX-License-Identifier: Apache-2.0
"""The fault population: every live bit of the memories chosen, numbered, and the way from numbers to faults."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from bitward.errors import FormatError
from bitward.faults.fault import Fault
from bitward.faults.faults import Faults, Indices
from bitward.manifest import Manifest, Memory, Stratum
from bitward.schemes import CHECK

FEW = 64  # faults of a trial that are quicker handled one by one


def check_bits(bits: Collection[int] | None, memories: Sequence[Memory]) -> None:
    """Each bit is one that at least one of the memories has: a typo must not end in an empty campaign."""
    widest = max((memory.scheme.stored_bits for memory in memories), default=0)
    for bit in bits or ():
        if not 0 <= bit < widest:
            raise FormatError(f"bits must be 0 to {widest - 1} in the memories chosen, got {bit}; copies count as bits")


def stratum_faults(memory: Memory, stored_bit: int, ranks: npt.NDArray[np.int64] | None = None) -> list[Fault]:
    """The members of a stratum, all of them or those of `ranks`, as faults."""
    return [Fault(memory.name, word, bit) for word, bit in memory.members(stored_bit, ranks).tolist()]


def every_fault(manifest: Manifest, memory: str, stored_bits: Iterable[int] | None = None) -> Iterator[Fault]:
    """Every live bit of a memory, stored bit by stored bit, then row by row, for exhaustive campaigns.

    `stored_bits` keeps some bits of the stored word only: `scheme.masked_bits` is every voted bit and its copies.
    """
    found = manifest.memory(memory)
    chosen = range(found.scheme.stored_bits) if stored_bits is None else sorted(set(stored_bits))
    check_bits(chosen, (found,))
    for stored_bit in chosen:
        yield from stratum_faults(found, stored_bit)


@dataclass(frozen=True)
class Population:
    """The live bits of `memories`, in those `bits` of the stored word alone if given.

    With `safe_exponents` the most significant bit of floating-point words' exponents is none of them, in no copy: the
    assumption of the weight-scaling paper. They are numbered memory by memory, then by stored bit, then row by row.
    """

    memories: tuple[Memory, ...]
    bits: tuple[int, ...] | None = None
    safe_exponents: bool = False

    def __post_init__(self) -> None:
        check_bits(self.bits, self.memories)
        if self.size == 0:
            names = ", ".join(memory.name for memory in self.memories) or "no memory"
            raise FormatError(f"the memories chosen must have live bits, got none in {names}: choose others")

    @cached_property
    def _strata(self) -> tuple[tuple[Memory, Stratum], ...]:
        found = ((memory, stratum) for memory in self.memories for stratum in memory.strata)
        return tuple(pair for pair in found if self._is_hit(*pair))

    def _is_hit(self, memory: Memory, stratum: Stratum) -> bool:
        if self.bits is not None and stratum.stored_bit not in self.bits:
            return False
        copy, bit = memory.scheme.origin(stratum.stored_bit)
        return not (self.safe_exponents and copy != CHECK and bit == memory.format.exponent_msb)

    @cached_property
    def _ends(self) -> npt.NDArray[np.int64]:
        """One behind the last rank of each stratum."""
        return np.cumsum([stratum.size for _, stratum in self._strata], dtype=np.int64)

    @property
    def size(self) -> int:
        """Number of bits."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def faults(self, ranks: npt.NDArray[np.int64]) -> Sequence[Fault]:
        """The faults of ascending `ranks`, each 0 to size - 1: as a tuple where they are few, as arrays else."""
        drawn = Faults(self.places(ranks))
        return drawn if len(drawn) > FEW else tuple(drawn)

    def places(self, ranks: npt.NDArray[np.int64]) -> dict[str, tuple[Indices, Indices]]:
        """(rows, bits) of ascending `ranks` by memory, as `Faults` has them."""
        which = np.searchsorted(self._ends, ranks, side="right")
        starts = np.flatnonzero(np.diff(which, prepend=-1)).tolist()
        found: dict[str, list[npt.NDArray[np.int64]]] = {}
        for start, end in zip(starts, [*starts[1:], len(ranks)], strict=False):
            memory, stratum = self._strata[which[start]]
            first = int(self._ends[which[start]]) - stratum.size
            members = memory.members(stratum.stored_bit, ranks[start:end] - first)
            found.setdefault(memory.name, []).append(members)
        whole = {memory: np.concatenate(parts) for memory, parts in found.items()}
        return {memory: (places[:, 0], places[:, 1]) for memory, places in whole.items()}
