# SPDX-License-Identifier: Apache-2.0
"""The page's figures for print: drawn by matplotlib from what the page shows, as SVG with text as text, and as PNG.

Plain is an orange circle, hardened a blue square, so that neither colour nor shape is needed to tell them apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitward.report.figures import Bar
from bitward.report.graph import Layer, lanes
from bitward.report.headline import TONES
from bitward.report.heatmap import HOT, Column, Group, HeatMap, Panel
from bitward.report.load import NOT_MEASURED, Missing
from bitward.report.scatter import Dot
from bitward.report.sensitivity_figures import saved
from bitward.report.tables import MaskedRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 7.2  # inches: the text of a printed page
COLOURS = {"plain": "#b84a00", "hardened": "#00639c", "neutral": "#4d5560"}
DPI = 300
MARKS = {"plain": "o", "hardened": "s", "neutral": "D"}
HEAT = ("#fdf1e3", "#9c2f00")
INK, SOFT, LINE = "#1b1f24", "#59616b", "#d8d4cb"
PLAIN_TEXT = str.maketrans({"\u202f": " ", "\u2013": "-"})


@dataclass(frozen=True)
class Plot:
    """A figure, and the sentence that belongs under it."""

    figure: Figure
    caption: str


def save(plots: Mapping[str, Plot], folder: Path) -> list[Path]:
    """Every plot lies in the folder as NAME.svg and NAME.png, its caption in the metadata of both; the PNGs."""
    return [saved(plot.figure, folder / name, plot.caption, DPI) for name, plot in plots.items()]


def heat_map(found: HeatMap, title: str) -> Figure:
    """Memories down, bits across, plain beside hardened; framed before a voter, hatched where nothing was tried."""
    groups = [(group, _height(group)) for group in found.groups]
    rows = sum(height for _, height in groups)
    figure = _figure(title, WIDTH, 1.1 + (0.3 if rows < 16 else 0.2) * rows)
    ratios = [height for _, height in groups]
    axes = figure.subplots(len(groups), 2, squeeze=False, gridspec_kw={"height_ratios": ratios})
    for row, (group, _) in enumerate(groups):
        for column, panel in enumerate(group.panels):
            _heat_panel(axes[row][column], panel, group)
    figure.supxlabel(f"% of single-bit faults that {found.title}; scale 0 to {100 * found.top:.0f} %", fontsize=7)
    return figure


def _height(group: Group) -> float:
    return 2.0 + max(len(panel.rows) for panel in group.panels if not isinstance(panel, Missing))


def _heat_panel(axes: Axes, panel: Panel | Missing, group: Group) -> None:
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.patches import Rectangle

    if isinstance(panel, Missing) or not panel.rows:
        axes.axis("off")
        says = NOT_MEASURED if isinstance(panel, Missing) else f"{group.title}, {TONES[panel.side].lower()}: none"
        axes.text(0, 0.5, says, fontsize=7, color=SOFT)
        return
    colour = LinearSegmentedColormap.from_list("heat", HEAT)
    for y, row in enumerate(panel.rows):
        for x, cell in enumerate(row.cells):
            if cell.kind == "absent":
                continue
            face = {"zero": "white", "missing": "none"}.get(cell.kind) or colour(cell.heat)
            frame = COLOURS["hardened"] if cell.is_voted else LINE
            width = 0.4 if not cell.is_voted else 0.6 if panel.is_crowded else 1.4
            axes.add_patch(
                Rectangle(
                    (x + 0.05, y + 0.05), 0.9, 0.9, facecolor=face, edgecolor=frame,
                    linewidth=width, hatch="////" if cell.kind == "missing" else None,
                )
            )  # fmt: skip
            ink = "white" if cell.heat >= HOT else INK
            size = 4.5 if group.is_wide else 6.5
            if not panel.is_crowded:
                axes.text(x + 0.5, y + 0.5, cell.text, ha="center", va="center", fontsize=size, color=ink)
    axes.set_xlim(0, len(panel.columns) if group.is_packed else group.columns)
    axes.set_ylim(len(panel.rows), 0)
    names = [_column_name(column, panel.is_crowded) for column in panel.columns]
    axes.set_xticks([x + 0.5 for x in range(len(names))], names, fontsize=5)
    axes.set_yticks([y + 0.5 for y in range(len(panel.rows))], [row.memory for row in panel.rows], fontsize=6)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(f"{group.title}, {TONES[panel.side].lower()}", fontsize=7, loc="left", color=COLOURS[panel.side])


def _column_name(column: Column, is_crowded: bool) -> str:
    if is_crowded:
        return "" if column.copy > 0 else f"{column.bit}"
    return "\n".join(filter(None, (f"{column.bit}", column.note)))


def curves(title: str, dots: Sequence[Dot], across: str, up: str) -> Figure:
    """The dots over a logarithmic axis, those of one tone joined."""
    figure, axes = _axes(title, WIDTH / 2, 2.6)
    for tone, style in (("plain", "-"), ("hardened", "--")):
        _series(axes, [dot for dot in dots if dot.tone == tone], tone, style)
    axes.set_xscale("log")
    _labels(axes, across, up)
    axes.legend(fontsize=7, frameon=False)
    return figure


def scatter(title: str, dots: Sequence[Dot], across: str, up: str) -> Figure:
    """The dots with their names, those on the front joined."""
    figure, axes = _axes(title, WIDTH, 3.6)
    for tone in dict.fromkeys(dot.tone for dot in dots):
        _series(axes, [dot for dot in dots if dot.tone == tone], tone, "")
    front = sorted((dot for dot in dots if dot.is_front), key=lambda dot: dot.x)
    axes.plot([dot.x for dot in front], [dot.y for dot in front], color=SOFT, linewidth=1, zorder=0)
    for dot in dots:
        axes.annotate(dot.label, (dot.x, dot.y), (4, 4), textcoords="offset points", fontsize=5.5, color=SOFT)
    axes.set_xlim(left=0)
    _labels(axes, across, up)
    return figure


def _series(axes: Axes, dots: Sequence[Dot], tone: str, style: str) -> None:
    if dots:
        line = sorted(dots, key=lambda dot: dot.x)
        ys = [dot.y for dot in line]
        ends = [[max(0.0, dot.y - dot.low) for dot in line], [max(0.0, dot.high - dot.y) for dot in line]]
        axes.errorbar(
            [dot.x for dot in line], ys, ends, fmt=MARKS[tone] + style, color=COLOURS[tone], markersize=4.5,
            linewidth=1.2, capsize=2, label=TONES.get(tone, tone),
        )  # fmt: skip


def masked(rows: Sequence[MaskedRow], title: str) -> Figure:
    """The share of flips that pass unnoticed, memory by memory, with its interval."""
    figure, axes = _axes(title, WIDTH, 0.9 + 0.36 * len(rows))
    named: set[str] = set()
    for at, row in enumerate(rows):
        for side, found, _ in row.sides:
            if found is not None:
                y = at - 0.16 if side == "plain" else at + 0.16
                ends = [[max(0.0, 100 * (found.value - found.low))], [max(0.0, 100 * (found.high - found.value))]]
                axes.errorbar(
                    [100 * found.value], [y], xerr=ends, fmt=MARKS[side], color=COLOURS[side], markersize=4.5,
                    capsize=2, label=None if side in named else TONES[side],
                )  # fmt: skip
                named.add(side)
    axes.set_yticks(range(len(rows)), [row.memory for row in rows], fontsize=6.5)
    axes.invert_yaxis()
    axes.set_xlim(-2, 102)
    _labels(axes, "flips that change no output value, %", "")
    if named:
        axes.legend(fontsize=7, frameon=False)
    return figure


def bars(parts: Mapping[str, Sequence[Bar]], title: str) -> Figure:
    """Bars under their labels as on the page, a panel each."""
    figure = _figure(title, WIDTH, 0.7 + 0.28 * max(len(rows) for rows in parts.values()))
    for axes, (name, rows) in zip(figure.subplots(1, len(parts), squeeze=False)[0], parts.items(), strict=True):
        axes.barh(range(len(rows)), [row.length for row in rows], color=[COLOURS[row.tone] for row in rows], height=0.6)
        for at, row in enumerate(rows):
            axes.text(row.length + 0.02, at, row.text.translate(PLAIN_TEXT), va="center", fontsize=6.5, color=INK)
        axes.set_yticks(range(len(rows)), [row.label for row in rows], fontsize=6.5)
        axes.set_xlim(0, 1.35)
        axes.set_xticks([])
        axes.invert_yaxis()
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_title(name, fontsize=7, loc="left")
    return figure


def graph(layers: Sequence[Layer], title: str) -> Figure:
    """The layers from the top down with their lanes: a full square protected, a half one partly, a circle open."""
    figure, axes = _axes(title, WIDTH, 0.8 + 0.27 * len(layers))
    found = lanes(layers)
    right = max(max((line.lane, *line.enter, *line.leave, *line.by)) for line in found) + 1.0
    for row, line in enumerate(found):
        pieces = [((lane, lane), (row - 0.5, row + 0.5)) for lane in line.by]
        pieces += [((lane, line.lane), (row - 0.5, row)) for lane in line.enter]
        pieces += [((line.lane, lane), (row, row + 0.5)) for lane in line.leave]
        for xs, ys in pieces:
            axes.plot(xs, ys, color=SOFT, linewidth=1, zorder=1)
        layer = layers[row]
        style: dict[str, Any] = _MARKS[layer.state]
        axes.plot([line.lane], [row], zorder=2, **style)
        axes.text(right, row, layer.name, va="center", fontsize=6.5, color=INK)
        says = "; ".join(f"{held.masked:,} of {held.bits:,} bits of {held.memory.role}" for held in layer.memories)
        axes.text(right + 9, row, says and f"protected {says}", va="center", fontsize=5.5, color=SOFT)
    axes.set_xlim(-0.6, right + 24)
    axes.set_ylim(len(layers) - 0.4, -0.6)
    axes.axis("off")
    return figure


_BLUE = {"color": COLOURS["hardened"], "markersize": 6, "linestyle": "none"}
_MARKS: dict[str, dict[str, Any]] = {
    "protected": {**_BLUE, "marker": "s"},
    "partly": {**_BLUE, "marker": "s", "fillstyle": "left", "markerfacecoloralt": "white"},
    "open": {"marker": "o", "color": COLOURS["plain"], "markerfacecolor": "white", "markersize": 6},
    "none": {"marker": ".", "color": SOFT, "markersize": 5},
}


def _figure(title: str, width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(title, fontsize=8)
    return figure


def _axes(title: str, width: float, height: float) -> tuple[Figure, Axes]:
    figure = _figure(title, width, height)
    return figure, figure.subplots()


def _labels(axes: Axes, across: str, up: str) -> None:
    axes.set_xlabel(across, fontsize=7)
    axes.set_ylabel(up, fontsize=7)
    axes.tick_params(labelsize=6.5)
    axes.grid(True, color=LINE, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
