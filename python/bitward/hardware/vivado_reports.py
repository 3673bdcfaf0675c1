# SPDX-License-Identifier: Apache-2.0
"""What Vivado's report files and logs say, as numbers. Anything that is not there is an error, never 0.

The tables are those of report_utilization, report_timing_summary and report_power for UltraScale+ (UG835, UG906,
UG907).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from bitward.errors import ToolError

RECORD = "implementation"  # the part of build.json that holds what is read here
_CRITICAL = re.compile(r"^CRITICAL WARNING: \[([^\]]+)\] ?(.*)$", flags=re.MULTILINE)
_MEMORY_READ = re.compile(r"^INFO: \[Synth 8-3876\] \$readmem data file '([^']+)' is read successfully", re.MULTILINE)


@dataclass(frozen=True)
class Utilisation:
    """Resources used, of the whole PL design."""

    lut: int
    ff: int
    bram36: float  # a half is one RAMB18
    uram: int
    dsp: int


@dataclass(frozen=True)
class Timing:
    """Worst and total slack in ns: setup (WNS, TNS), hold (WHS, THS), pulse width (WPWS)."""

    wns: float
    tns: float
    whs: float
    ths: float
    wpws: float

    @property
    def is_met(self) -> bool:
        """Whether no slack is negative."""
        return min(self.wns, self.tns, self.whs, self.ths, self.wpws) >= 0


@dataclass(frozen=True)
class Power:
    """Vivado's estimate in W, from default activities; no measurement."""

    total: float
    dynamic: float
    static: float
    confidence: str


def read_report(path: Path) -> str:
    """The text of a report or log; ToolError where Vivado left none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ToolError(f"Vivado must leave {path.name} in {path.parent}, got none: see bitward.log there") from error


def tool_version(text: str, where: str) -> str:
    """The version in a report's head, such as "Vivado v.2024.1 (lin64) Build 5076996"."""
    return _row(text, where, r"\|\s*Tool Version\s*:\s*(Vivado v\.\S+ \S+ Build \d+)", "Tool Version")


def utilisation(text: str, where: str = "utilization.rpt") -> Utilisation:
    """The numbers of report_utilization."""

    def used(site: str) -> float:
        return _number(text, where, rf"^\|\s*{site}\*?\s*\|\s*([\d.]+)\s*\|", site)

    luts, registers, urams, dsps = (int(used(site)) for site in ("CLB LUTs", "CLB Registers", "URAM", "DSPs"))
    return Utilisation(lut=luts, ff=registers, bram36=used("Block RAM Tile"), uram=urams, dsp=dsps)


def block_rams(text: str, where: str = "utilization.rpt") -> tuple[int, int]:
    """(RAMB36, RAMB18) of report_utilization: the two kinds that its tiles are made of."""
    wide, narrow = (
        _number(text, where, rf"^\|\s*{site}\*?\s*\|\s*(\d+)\s*\|", site) for site in ("RAMB36/FIFO", "RAMB18")
    )
    return int(wide), int(narrow)


def timing(text: str, where: str = "timing.rpt") -> Timing:
    """The numbers of report_timing_summary's table "Design Timing Summary".

    Raises ToolError for NA, which stands there where nothing is constrained.
    """
    table = _row(text, where, r"\| Design Timing Summary\n(?:.*\n)*?\s*WNS\(ns\)[^\n]*\n[-\s]+\n([^\n]+)", "WNS(ns)")
    fields = table.split()
    places = {"wns": 0, "tns": 1, "whs": 4, "ths": 5, "wpws": 8}
    try:
        return Timing(**{name: float(fields[place]) for name, place in places.items()})
    except (IndexError, ValueError) as error:
        raise ToolError(
            f"{where} must hold numbers for WNS, TNS, WHS, THS and WPWS, got {table.strip()!r}: is every clock "
            "constrained?"
        ) from error


def power(text: str, where: str = "power.rpt") -> Power:
    """The numbers of report_power's summary."""

    def watts(row: str) -> float:
        return _number(text, where, rf"^\|\s*{re.escape(row)}\s*\|\s*([\d.]+)[^|]*\|", row)

    confidence = _row(text, where, r"^\|\s*Confidence Level\s*\|\s*(\w+)\s*\|", "Confidence Level")
    return Power(watts("Total On-Chip Power (W)"), watts("Dynamic (W)"), watts("Device Static (W)"), confidence)


def critical_warnings(log: str, allowed: frozenset[str]) -> list[str]:
    """The critical warnings of a log whose id is not allowed, each once, in order."""
    found = [f"[{match[1]}] {match[2]}" for match in _CRITICAL.finditer(log) if match[1] not in allowed]
    return list(dict.fromkeys(found))


def allowed_ids(text: str) -> frozenset[str]:
    """The message ids of allowed_critical_warnings.txt, whose lines are "[id] reason".

    >>> sorted(allowed_ids("# a comment\\n[BD 41-1356] a segment that nobody uses\\n"))
    ['BD 41-1356']
    """
    return frozenset(re.findall(r"^\[([^\]]+)\]", text, flags=re.MULTILINE))


def memories_read(log: str) -> set[str]:
    """Names of the memory files that a log of synthesis says were read."""
    return {re.split(r"[/\\]", path)[-1] for path in _MEMORY_READ.findall(log)}


def _row(text: str, where: str, pattern: str, name: str) -> str:
    found = re.search(pattern, text, flags=re.MULTILINE)
    if found is None:
        raise ToolError(f"{where} must hold {name}, got no such row: is it Vivado's report for an UltraScale+ part?")
    return found[1]


def _number(text: str, where: str, pattern: str, name: str) -> float:
    return float(_row(text, where, pattern, name))
