# SPDX-License-Identifier: Apache-2.0
"""Which faults are tried: so many of each parameter set and bit, by Leveugle's sample size; all of small sets."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from bitward.faults import Fault, single_bit_stratified
from bitward.manifest import Manifest
from bitward.metrics import sample_size
from bitward.sensitivity.sets import ParameterSet


@dataclass(frozen=True)
class Sampling:
    """The margin and confidence of a parameter set's share of faults (Leveugle et al., DATE 2009), and the seed.

    The papers take 0.025 at 95 %, 1,537 faults a set where it is large.
    """

    margin: float = 0.025
    confidence: float = 0.95
    seed: int = 1

    def per_cell(self, found: ParameterSet) -> int:
        """How many faults of each bit: the set's sample in equal parts, rounded up.

        All faults of a set that has no more parameters than a set without end would get by bit.
        """
        bits = len(found.bits)
        most = math.ceil(sample_size(math.inf, self.margin, self.confidence) / bits)
        if found.parameters <= most:
            return found.parameters
        return math.ceil(sample_size(found.parameters * bits, self.margin, self.confidence) / bits)


def faults_of(manifest: Manifest, sets: Iterable[ParameterSet], sampling: Sampling) -> tuple[Fault, ...]:
    """The faults of every set and bit, none twice; those of a set come together, bit by bit."""
    drawn: list[Fault] = []
    for found in sets:
        count = sampling.per_cell(found)
        drawn += single_bit_stratified(manifest, count, sampling.seed, [found.name], found.bits)
    return tuple(drawn)
