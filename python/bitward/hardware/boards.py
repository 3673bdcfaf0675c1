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
