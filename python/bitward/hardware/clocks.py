# SPDX-License-Identifier: Apache-2.0
"""The programmable logic's clock: which frequencies a board's source gives, and by which dividers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bitward.errors import ConfigError

if TYPE_CHECKING:
    from bitward.hardware.boards import Board

DIVISOR_MOST = 63  # DIVISOR0 and DIVISOR1 of PL0_REF_CTRL have 6 bits each (UG1087, CRL_APB)
CLOCK_TOLERANCE = 1e-4  # relative; 333.333 MHz asks for 1000 / 3


@dataclass(frozen=True)
class PlClock:
    """PL clock 0 as the board gives it: the source's frequency divided by a whole number, in two steps."""

    asked_mhz: float
    mhz: float
    divisors: tuple[int, int]  # DIVISOR0, DIVISOR1

    @property
    def is_as_asked(self) -> bool:
        """Whether the frequency is the one that was asked for, to 0.01 %."""
        return abs(self.mhz - self.asked_mhz) <= CLOCK_TOLERANCE * self.asked_mhz

    @property
    def sentence(self) -> str:
        """What a person who asked for another frequency must know."""
        source = self.mhz * math.prod(self.divisors)
        return (
            f"PL clock: {self.asked_mhz:g} MHz asked for, {self.mhz:g} MHz given, the nearest not above it "
            f"({source:g} MHz / {math.prod(self.divisors)})"
        )


def clock_divisors(divisor: int) -> tuple[int, int]:
    """(DIVISOR0, DIVISOR1) whose product it is, the second as small as can be. Raises ConfigError where none is.

    >>> clock_divisors(5), clock_divisors(100)
    ((5, 1), (50, 2))
    """
    pair = _pair(divisor)
    if pair is None:
        raise ConfigError(
            f"a PL clock's divisor must be a product of two numbers of 1 to {DIVISOR_MOST}, got {divisor}: ask for "
            "another clk_mhz."
        )
    return pair


def _pair(divisor: int) -> tuple[int, int] | None:
    for second in range(1, DIVISOR_MOST + 1):
        if divisor % second == 0 and 1 <= divisor // second <= DIVISOR_MOST:
            return divisor // second, second
    return None


def pl_clock(board: Board, asked_mhz: float) -> PlClock:
    """The frequency nearest to `asked_mhz` and not above it that the board's PL clock source gives.

    Raises ConfigError below the slowest one.
    """
    least = board.pl_clock_source_mhz / DIVISOR_MOST**2
    if not asked_mhz >= least:
        raise ConfigError(
            f"clk_mhz must be at least {least:.3f} on the {board.name} ({board.pl_clock_source_mhz:g} MHz / "
            f"{DIVISOR_MOST**2}), got {asked_mhz:g}: ask for a faster clock."
        )
    divisor = max(1, math.ceil(board.pl_clock_source_mhz / asked_mhz * (1 - CLOCK_TOLERANCE)))
    while (pair := _pair(divisor)) is None:
        divisor += 1
    return PlClock(asked_mhz, board.pl_clock_source_mhz / divisor, pair)
