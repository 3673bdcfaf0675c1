# SPDX-License-Identifier: Apache-2.0
"""Boards: what a build must know of each, from `board/<name>/board.yaml`. A new board is one such folder."""

from __future__ import annotations

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


def board_names() -> list[str]:
    """All kinds of board this checkout knows."""
    return sorted(path.parent.name for path in resource("board").glob("*/board.yaml"))


def board_kind(name: str) -> str:
    """The kind of board that is called so: its own name, FINN's word for it, or its part.

    Raises ConfigError, with the nearest name, for one that is not known.

    >>> board_kind("KV260_SOM"), board_kind("xck26-sfvc784-2LV-c"), board_kind("virtual")
    ('kv260', 'kv260', 'virtual')
    """
    names, aliases = board_names(), _aliases()
    if name not in names and name not in aliases:
        also = ", ".join(f"{alias} for {kind}" for alias, kind in aliases.items())
        raise ConfigError(
            f"board must be one of {', '.join(names)} (or {also}), got {name!r}. {nearest(name, [*names, *aliases])}"
        )
    return aliases.get(name, name)


def _aliases() -> dict[str, str]:
    """FINN's words for boards, and their parts: to the first kind of board that is a real one of these."""
    found: dict[str, str] = {}
    for kind in board_names():
        fields = _read(resource(f"board/{kind}/board.yaml"))
        for key in ("finn_board", "part"):
            if key in fields and "simulates" not in fields:
                found.setdefault(str(fields[key]), kind)
    return found


def load_board(name: str) -> Board:
    """The board of that name (see `board_kind`). Raises ConfigError, with the nearest name, for one not known."""
    name = board_kind(name)
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
