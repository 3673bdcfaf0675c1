# SPDX-License-Identifier: Apache-2.0
"""Single bits, stratified: so many of each memory and stored bit."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from bitward.errors import FormatError
from bitward.faults.draw import shuffled, stream
from bitward.faults.fault import Fault
from bitward.faults.model import Sampler, Trial
from bitward.faults.population import check_bits, stratum_faults
from bitward.manifest import Manifest


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
    stream(seed, "")  # refuses a negative seed, whatever is drawn
    chosen = manifest.select(memories)
    check_bits(bits, chosen)
    faults: list[Fault] = []
    for memory in chosen:
        for stratum in memory.strata:
            if bits is None or stratum.stored_bit in bits:
                source = stream(seed, f"{memory.name}:{stratum.stored_bit}")
                ranks = shuffled(stratum.size, per_stratum, source)
                faults += stratum_faults(memory, stratum.stored_bit, ranks)
    return faults


@dataclass(frozen=True)
class Single(Sampler):
    """Trial i is the i-th fault of `single_bit_stratified`: stratum by stratum, so its first trials are no sample."""

    name: ClassVar[str] = "single"
    is_sample: ClassVar[bool] = False

    per_stratum: int = 64
    bits: tuple[int, ...] | None = None

    @cached_property
    def faults(self) -> tuple[Fault, ...]:
        """All of them."""
        return tuple(single_bit_stratified(self.manifest, self.per_stratum, self.seed, self.memories, self.bits))

    @property
    def trials(self) -> int:
        return len(self.faults)

    def _hit(self, number: int) -> Trial:
        return (self.faults[number],)
