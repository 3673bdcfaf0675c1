# SPDX-License-Identifier: Apache-2.0
"""From memory bits and what faults in them do to figures of a device: FIT, upsets per hour, P_drop, RAP.

FIT is failures (here: upsets) in 1e9 device hours; Mb is 1e6 bits. FIT/Mb of a device comes from its manufacturer and
is never assumed here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from bitward.errors import FormatError
from bitward.manifest import Manifest, Memory

HOURS_PER_FIT = 1e9
BITS_PER_MB = 1e6


@dataclass(frozen=True)
class MemoryBits:
    """Bits of memories, by what they are.

    `plain_bits` is parameters times the width of the format; `stored_bits` what a fault can hit and is read, copies and
    check bits included; `allocated_bits` also counts rows and columns that no computation reads.
    """

    parameters: int
    plain_bits: int
    stored_bits: int
    allocated_bits: int

    @property
    def overhead(self) -> float:
        """Stored bits over plain bits: 1.5 for 4-bit words with a triplicated MSB."""
        return self.stored_bits / self.plain_bits


def memory_bits(manifest: Manifest) -> dict[str, MemoryBits]:
    """The bits of a design's memories by role (weight, bias, threshold; those it has), and of all under "total"."""
    chosen: dict[str, list[Memory]] = {}
    for memory in manifest.memories:
        chosen.setdefault(memory.role, []).append(memory)
    chosen["total"] = list(manifest.memories)
    return {
        name: MemoryBits(
            parameters=sum(memory.parameters for memory in memories if memory.role != "outlier"),
            plain_bits=sum(memory.parameters * memory.format.bits for memory in memories),
            stored_bits=sum(memory.population for memory in memories),
            allocated_bits=sum(memory.depth * memory.width for memory in memories),
        )
        for name, memories in chosen.items()
    }


def fit(stored_bits: float, fit_per_mb: float) -> float:
    """The upsets in 1e9 hours of `stored_bits` bits: stored_bits / 1e6 * fit_per_mb.

    An upset is no failure: times the share of faults that are critical, it is the FIT of critical failures.
    """
    _check("stored_bits", stored_bits, math.inf)
    _check("fit_per_mb", fit_per_mb, math.inf)
    return stored_bits / BITS_PER_MB * fit_per_mb


def upsets_per_hour(stored_bits: float, fit_per_mb: float) -> float:
    """The upsets expected in one hour in `stored_bits` bits: stored_bits / 1e6 * fit_per_mb / 1e9.

    The SEU paper's 31.14 M words of 8 bits at 20 FIT/Mb (its 4.2.3) see one upset in 23 years, not five an hour:

    >>> upsets_per_hour(8 * 31.14e6, 20)
    4.9824e-06
    """
    return fit(stored_bits, fit_per_mb) / HOURS_PER_FIT


def double_upsets_per_hour(groups: float, bits: int, upsets_per_bit_hour: float, period_h: float) -> float:
    """How often two upsets meet in a group of `bits` stored bits before it is scrubbed: groups n (n-1)/2 lambda^2 T.

    `groups` is how many such groups there are, scrubbed every `period_h` hours; upsets are rare and independent. Of a
    triplicated bit n is 3: 3 N lambda^2 T. At 10 FIT/Mb, 1 Mb of them and a year that is 2.6e-9 FIT:

    >>> round(double_upsets_per_hour(1e6, 3, upsets_per_hour(1, 10), 8760) * 1e9, 11)
    2.63e-09
    """
    for name, value in (("groups", groups), ("upsets_per_bit_hour", upsets_per_bit_hour), ("period_h", period_h)):
        _check(name, value, math.inf)
    return groups * math.comb(bits, 2) * upsets_per_bit_hour**2 * period_h


def p_drop(stored_bits: float, ber: float, accuracy_drop: float, p_single: float, intervals: float) -> float:
    """FORTUNE's P_drop: (N W)^2 * T/t * P_single * BER * acc_drop (equation 6). An index, not a probability.

    `stored_bits` is N W, copies included; `ber` and `accuracy_drop` are fractions; `p_single` is the probability that
    one bit flips in one interval t, `intervals` is T/t, how many of them the device lives. It has the squared number
    of bits as a factor and no upper limit: the paper itself prints 2.66. Its Table II has p_single * intervals
    = 1.33e-13 (1.33e-24 per nanosecond, 1e11 nanoseconds), and the drop at a BER of 3e-4 in every column:

    >>> round(p_drop(66_991_616, ber=1e-5, accuracy_drop=0.3229, p_single=1.33e-24, intervals=1e11), 5)
    0.00193
    """
    _check("stored_bits", stored_bits, math.inf)
    _check("ber", ber, 1)
    _check("accuracy_drop", accuracy_drop, 1, least=-1)
    _check("p_single", p_single, 1)
    _check("intervals", intervals, math.inf)
    return stored_bits**2 * intervals * p_single * ber * accuracy_drop


def rap(accuracy_drop: float, memory_overhead: float, time_overhead: float) -> float:
    """FORTUNE's Reliability-Aware Performance: acc_drop * mem_ovh * perf_ovh (equation 7); less is better.

    `accuracy_drop` is a fraction; the overheads are ratios to the same baseline (the unprotected 8-bit network), not
    percent. VGG11 P-3-bit at a BER of 3e-4: 140.7 Mb for 225.1 Mb, 1.4172 of the time, a drop of 67.13 points:

    >>> round(rap(0.6713, 140_665_280 / 225_064_448, 1.4172), 4), round(rap(0.7452, 1, 1), 4)
    (0.5946, 0.7452)
    """
    _check("accuracy_drop", accuracy_drop, 1, least=-1)
    _check("memory_overhead", memory_overhead, math.inf)
    _check("time_overhead", time_overhead, math.inf)
    return accuracy_drop * memory_overhead * time_overhead


def _check(name: str, value: float, most: float, least: float = 0) -> None:
    if not least <= value <= most or math.isinf(value):
        limit = f"{least:g} or more" if math.isinf(most) else f"{least:g} to {most:g}"
        raise FormatError(f"{name} must be {limit}, got {value}; fractions and ratios, not percent")
