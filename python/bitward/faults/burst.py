# SPDX-License-Identifier: Apache-2.0
"""Bursts: one particle that upsets neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from bitward.errors import FormatError
from bitward.faults.draw import below
from bitward.faults.fault import Fault
from bitward.faults.model import Sampler, Trial


@dataclass(frozen=True)
class Burst(Sampler):
    """`burst` adjacent bits of one row (the physical word), at any place that leaves all of them in the row.

    Every place with a live bit in it is equally likely; dead bits of the burst are none of the trial's faults.
    Adjacent means by number: what is adjacent on silicon is the vendor's secret.
    """

    name: ClassVar[str] = "burst"

    burst: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        narrowest = min(self.population.memories, key=lambda memory: memory.width)
        if not 1 <= self.burst <= narrowest.width:
            raise FormatError(
                f"burst must be 1 to {narrowest.width}, the bits of a row of memory {narrowest.name}, got "
                f"{self.burst}: choose fewer bits, or other memories"
            )

    @cached_property
    def _ends(self) -> npt.NDArray[np.int64]:
        """One behind the last place of each memory."""
        places = [memory.depth * (memory.width - self.burst + 1) for memory in self.population.memories]
        return np.cumsum(places, dtype=np.int64)

    def _hit(self, number: int) -> Trial:
        source = self._stream(number)
        while True:
            place = int(below(source, int(self._ends[-1]), 1)[0])
            which = int(np.searchsorted(self._ends, place, side="right"))
            memory = self.population.memories[which]
            first = place - (int(self._ends[which - 1]) if which else 0)
            word, low = divmod(first, memory.width - self.burst + 1)
            bits = np.arange(low, low + self.burst)
            if hit := bits[memory.live(word, bits)].tolist():
                return tuple(Fault(memory.name, word, bit) for bit in hit)
