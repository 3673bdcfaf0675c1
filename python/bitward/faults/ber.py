# SPDX-License-Identifier: Apache-2.0
"""A bit error rate: every live bit is hit with one probability, independently of the others."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from bitward.errors import FormatError
from bitward.faults.draw import Binomial, distinct
from bitward.faults.model import Sampler, Trial


@dataclass(frozen=True)
class Ber(Sampler):
    """Each live bit is hit with probability `ber`: the count is binomial, then so many distinct bits are drawn.

    `expected_flips` a trial belong beside every rate: the same rate is 100 times the flips on 100 times the bits. Those
    that `safe_exponents` leaves out (see `Population`) are no bits of it.
    """

    name: ClassVar[str] = "ber"

    ber: float = 1e-5
    bits: tuple[int, ...] | None = None
    safe_exponents: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.ber <= 1:
            raise FormatError(f"ber must be above 0 and at most 1, got {self.ber}; it is flips per stored bit")

    @cached_property
    def _count(self) -> Binomial:
        return Binomial(self.population.size, self.ber)

    @property
    def expected_flips(self) -> float:
        """Mean number of flips a trial."""
        return self.ber * self.population.size

    def _hit(self, number: int) -> Trial:
        source = self._stream(number)
        return self.population.faults(distinct(source, self.population.size, self._count.draw(source)))
