# SPDX-License-Identifier: Apache-2.0
"""What a measurement is of: the design, what it runs on, whether that is real, and which sensor sees its power."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bitward.errors import BoardError
from bitward.manifest import Manifest

from .power import Ina260, find_ina260, local_files

SIMULATED = "simulated: says nothing of a KV260's speed"
ENGINE = "software, which computes equal images once: says nothing of a KV260's speed"
_STANDS_IN = {"engine": "the engine (software)", "rtl": "the RTL, simulated by Verilator"}
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Described(Protocol):
    """What runs: a target. Where it also has `name`, `is_simulated` or `read_file`, these are used."""

    @property
    def manifest(self) -> Manifest:
        """The design's memories and clock."""


@dataclass(frozen=True)
class Source:
    """What is measured, and where its figures come from.

    `cycles_per_image` and `latency_cycles` are those that the build counted in RTL simulation, None where it did not.
    """

    on: str  # "engine", "rtl", "board"
    name: str  # what the board calls itself, or what stands in for one
    is_simulated: bool
    design: str
    design_id: int
    clk_mhz: float
    cycles_per_image: float | None = None
    latency_cycles: int | None = None

    @property
    def says(self) -> str:
        """What figures of time are of."""
        if self.on == "engine":
            return ENGINE
        return SIMULATED if self.is_simulated else f"measured on {self.name}"

    @property
    def fps_by_cycles(self) -> float | None:
        """Frames per second that the cycles counted in RTL make at the clock: computed, not measured on a board."""
        return self.clk_mhz * 1e6 / self.cycles_per_image if self.cycles_per_image else None


def source_of(target: Described, on: str, build: str | Path) -> Source:
    """What is measured on an open target of that kind; cycles are None where the build's record is not there.

    A board is simulated where it says so, or calls itself virtual.
    """
    name = getattr(target, "name", None) or _STANDS_IN.get(on, "a board")
    says_so = bool(getattr(target, "is_simulated", False))
    manifest, cycles = target.manifest, _cycles(Path(build))
    return Source(
        on=on,
        name=name,
        is_simulated=on == "rtl" or says_so or "virtual" in name,
        design=manifest.design,
        design_id=manifest.design_id,
        clk_mhz=manifest.clk_mhz,
        cycles_per_image=cycles.get("steady_per_image"),
        latency_cycles=cycles.get("latency"),
    )


def sensor_of(target: Described, source: Source, host: str | None) -> tuple[Ina260 | None, str]:
    """The sensor of the board that is measured, or None and why there is none.

    Its files are read through the target where it can (`read_file`), and on the board itself from here. What is
    simulated has no sensor, whatever sensors this machine has.
    """
    if source.on != "board" or source.is_simulated:
        return None, "simulated board" if source.on == "board" else "what is simulated takes no power"
    files = getattr(target, "read_file", None) or (local_files() if host in _LOOPBACK else None)
    if files is None:
        return None, "the board's server shows no sensor; measure on the board itself"
    try:
        return find_ina260(files), ""
    except BoardError as error:
        return None, str(error)


def _cycles(build: Path) -> dict[str, Any]:
    try:
        cycles = json.loads((build / "build.json").read_text(encoding="utf-8"))["cycles"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return cycles if isinstance(cycles, dict) else {}
