# SPDX-License-Identifier: Apache-2.0
"""The heat map: the share of faults that changed something, memory by memory and bit by bit, plain beside hardened."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from bitward.report.figures import cell_text, number, sentence
from bitward.report.load import SIDES, Missing, Side
from bitward.report.statistics import Estimate, Metric, Stratum, of_memory
from bitward.schemes import CHECK

Key = tuple[int, int]  # (bit, copy)
ROLES = {"weight": "Weights", "bias": "Biases", "threshold": "Thresholds"}
METRICS: dict[Metric, str] = {
    "outputs_changed": "changed any output value",
    "top1_changed": "changed a top-1 answer",
}
WIDE = 8  # more columns than this are drawn narrow
PACKED = 18  # with more than this panels stand one under the other
CROWDED = 30  # with more than this cells have no numbers
HOT, WARM = 0.78, 0.56  # from here on text is white on a light page, black on a dark one: 4.5 to 1 everywhere


@dataclass(frozen=True)
class Column:
    """A bit of the plain word, or a copy of it, or a check bit of the row (copy -1)."""

    bit: int
    copy: int

    @property
    def title(self) -> str:
        """The column in words."""
        if self.copy == CHECK:
            return f"check bit {self.bit}"
        return f"bit {self.bit}" + (f", {self.note}" if self.note else "")

    @property
    def note(self) -> str:
        """What stands under the bit's number; "" for a bit of the word itself."""
        if self.copy == CHECK:
            return "check"
        return f"copy {self.copy}" if self.copy else ""


@dataclass(frozen=True)
class Cell:
    """One square: `heat` 0 to 1 of the map's scale, `kind` for its look, `says` for people who ask."""

    text: str
    heat: float
    kind: Literal["measured", "zero", "missing", "absent"]
    says: str
    is_voted: bool
    tone: str


@dataclass(frozen=True)
class Row:
    """A memory's cells."""

    memory: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Panel:
    """One side's memories of one role."""

    side: Side
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    @property
    def is_crowded(self) -> bool:
        """Whether there is no room for numbers."""
        return len(self.columns) > CROWDED


@dataclass(frozen=True)
class Group:
    """The memories of one role, plain beside hardened."""

    title: str
    panels: tuple[Panel | Missing, ...]

    @property
    def columns(self) -> int:
        """Columns of the widest panel: cells of both sides are of one size."""
        return max(len(panel.columns) for panel in self.panels if not isinstance(panel, Missing))

    @property
    def is_wide(self) -> bool:
        """Whether cells must be drawn narrow."""
        return self.columns > WIDE

    @property
    def is_packed(self) -> bool:
        """Whether there is no room for two panels side by side."""
        return self.columns > PACKED


@dataclass(frozen=True)
class HeatMap:
    """One metric over every memory and bit. `top` is the share at the hot end of the scale."""

    metric: Metric
    title: str
    top: float
    groups: tuple[Group, ...]


def heat_maps(strata: Mapping[Side, Sequence[Stratum] | Missing]) -> list[HeatMap]:
    """A map for each metric; both sides share one scale."""
    measured = [part for side in SIDES if not isinstance(found := strata[side], Missing) for part in found]
    maps = []
    for metric, title in METRICS.items():
        shares = [share.value for part in measured if (share := part.share(metric))]
        top = max(shares, default=0.0) or 1.0
        groups = [_group(role, strata, metric, top) for role in ROLES if any(p.memory.role == role for p in measured)]
        maps.append(HeatMap(metric, title, top, tuple(groups)))
    return maps


def _group(role: str, strata: Mapping[Side, Sequence[Stratum] | Missing], metric: Metric, top: float) -> Group:
    panels: list[Panel | Missing] = []
    for side in SIDES:
        parts = strata[side]
        if isinstance(parts, Missing):
            panels.append(parts)
        else:
            panels.append(_panel(side, [part for part in parts if part.memory.role == role], metric, top))
    return Group(ROLES[role], tuple(panels))


def _panel(side: Side, parts: Sequence[Stratum], metric: Metric, top: float) -> Panel:
    keys = sorted({(part.bit, part.copy) for part in parts}, key=_by_significance)
    memories = dict.fromkeys(part.memory.name for part in parts)
    rows = tuple(Row(name, tuple(_cells(of_memory(parts, name), keys, metric, top))) for name in memories)
    return Panel(side, tuple(Column(*key) for key in keys), rows)


def _by_significance(key: Key) -> tuple[bool, int, int]:
    """The most significant bit first, its copies behind it; check bits behind all others."""
    bit, copy = key
    return copy == CHECK, -bit, copy


def _cells(parts: Sequence[Stratum], keys: Sequence[Key], metric: Metric, top: float) -> Iterable[Cell]:
    by_key = {(part.bit, part.copy): part for part in parts}
    for key in keys:
        part = by_key.get(key)
        if part is None:
            yield Cell("", 0, "absent", "", False, "")
        else:
            yield _cell(part, part.share(metric), Column(*key), top, METRICS[metric])


def _cell(part: Stratum, share: Estimate | None, column: Column, top: float, title: str) -> Cell:
    voted = " (voted)" if part.is_voted else ""
    where = f"{part.memory.name}, {column.title}{voted}: "
    if share is None:
        says = f"{where}not measured, none of its {number(part.size)} bits was tried"
        return Cell("–", 0, "missing", says, part.is_voted, "")
    heat = share.value / top
    tone = " ".join(name for name, limit in (("hot", HOT), ("warm", WARM)) if heat >= limit)
    says = f"{where}{sentence(share)}; {number(part.size)} live bits; {title}"
    kind: Literal["zero", "measured"] = "zero" if share.count == 0 else "measured"
    return Cell(cell_text(share.value), heat, kind, says, part.is_voted, tone)


def stratum_rows(strata: Mapping[Side, Sequence[Stratum] | Missing]) -> list[dict[str, str]]:
    """Every stratum of both sides as text, for the table under the map."""
    rows: list[dict[str, str]] = []
    for side in SIDES:
        parts = strata[side]
        for part in () if isinstance(parts, Missing) else parts:
            shares: dict[str, str] = {metric: sentence(part.share(metric)) for metric in METRICS}
            rows.append(
                {
                    "side": side,
                    "memory": part.memory.name,
                    "bit": Column(part.bit, part.copy).title + (" (voted)" if part.is_voted else ""),
                    "size": number(part.size),
                    **shares,
                }
            )
    return rows
