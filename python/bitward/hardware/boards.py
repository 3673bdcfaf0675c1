# SPDX-License-Identifier: Apache-2.0
"""Boards: what a build must know of each, from `board/<name>/board.yaml`. A new board is one such folder."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from bitward.errors import ConfigError, nearest
from bitward.tools import resource


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Region(_Strict):
    """A range of physical addresses: first byte, and its size or the most it may be."""

    base: int
    size: int | None = None
    max_size: int | None = None


class AddressMap(_Strict):
    """Where the processor reaches the accelerator's AXI-Lite window and the AXI DMA."""

    accelerator: Region
    dma: Region


class Board(_Strict):
    """A kind of board: part, resources, clock source and address map."""

    name: str
    finn_board: str
    part: str
    resources: dict[Literal["lut", "ff", "bram36", "uram", "dsp"], int]
    pl_clock_source_mhz: float
    address_map: AddressMap
    is_simulated: bool = False


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


def board_names() -> list[str]:
    """All kinds of board this checkout knows."""
    return sorted(path.parent.name for path in resource("board").glob("*/board.yaml"))


def load_board(name: str) -> Board:
    """The board of that name. Raises ConfigError, with the nearest name, for one that is not known."""
    names = board_names()
    if name not in names:
        raise ConfigError(f"board must be one of {', '.join(names)}, got {name!r}. {nearest(name, names)}")
    fields = _read(resource(f"board/{name}/board.yaml"))
    if "simulates" in fields:
        simulated = _read(resource(f"board/{fields.pop('simulates')}/board.yaml"))
        fields = {**simulated, **fields, "is_simulated": True}
    try:
        return Board.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"board/{name}/board.yaml: {place}: {first['msg']}; compare board/kv260/board.yaml."
        ) from error


def _read(path: Path) -> dict:
    return yaml.safe_load(path.read_text())
