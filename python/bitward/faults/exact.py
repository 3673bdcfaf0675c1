# SPDX-License-Identifier: Apache-2.0
"""Exactly n distinct bits a trial."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bitward.errors import FormatError
from bitward.faults.draw import distinct
from bitward.faults.model import Sampler, Trial


@dataclass(frozen=True)
class Exact(Sampler):
    """`flips` distinct live bits a trial, every such set equally likely; trials are drawn independently."""

    name: ClassVar[str] = "exact"

    flips: int = 1
    bits: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.flips <= self.population.size:
            raise FormatError(
                f"flips must be 1 to the {self.population.size} live bits chosen, got {self.flips}: ask for fewer"
            )

    def _hit(self, number: int) -> Trial:
        return self.population.faults(distinct(self._stream(number), self.population.size, self.flips))
