# SPDX-License-Identifier: Apache-2.0
"""Single bits, every stored live bit equally likely."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from bitward.faults.model import Sampler, Trial
from bitward.faults.permutation import Permutation


@dataclass(frozen=True)
class Uniform(Sampler):
    """Trial i is bit number i of the whole population in a random order: each comes once, and it ends when all have.

    The honest single upset: a memory of twice the stored bits is hit twice as often, copies and check bits included.
    """

    name: ClassVar[str] = "uniform"

    bits: tuple[int, ...] | None = None

    @cached_property
    def _order(self) -> Permutation:
        return Permutation(self.population.size, self.seed, self.name)

    @property
    def trials(self) -> int:
        return self.population.size

    def _hit(self, number: int) -> Trial:
        return self.population.faults(np.array([self._order(number)]))
