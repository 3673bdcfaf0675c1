# SPDX-License-Identifier: Apache-2.0
"""The figures of a sensitivity flow as PNG and SVG files, and its cells as a CSV table."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bitward.tools import atomic_write, output_directory, writing_to

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, Any]]
DPI = 150
COLOURS = "magma_r"
KIND_COLOURS = {
    "conv kernel": "#4c72b0", "conv bias": "#55a868", "transposed conv kernel": "#8172b3", "dense kernel": "#64b5cd",
    "transposed conv bias": "#dd8452", "dense bias": "#ccb974", "gamma": "#c44e52", "beta": "#937860",
    "mean": "#8c8c8c", "variance": "#da8bc3", "threshold": "#000000",
}  # fmt: skip


def draw(folder: Path, summary: Mapping[str, Any]) -> dict[str, Path]:
    """Every figure of the summary lies in the folder as NAME.png and NAME.svg, its cells as cells.csv; the PNGs."""
    output_directory(folder)
    atomic_write(folder / "cells.csv", cells_csv(summary))
    made = {}
    for found in summary["seeds"]:
        title = f"{summary['network']}, {summary['stored_as']}, seed {found['seed']}"
        figures = {
            "heatmap": heat_map(found["cells"], f"Bit-flip error rate: {title}"),
            "sets": set_means(found["sets"], f"Mean error rate by parameter set: {title}"),
            "signs": signs(found["sets"], f"Positive values and error rate of the dangerous bits: {title}"),
        }
        if summary["stored_as"].startswith("float32"):
            figures["risk"] = risk(found["sets"], f"Error rate of bit 30 less share of values in 1 <= |x| < 2: {title}")
        if found["output_biases"] is not None:
            figures["equation2"] = output_biases(found["output_biases"], f"Output biases, equation 2: {title}")
        if found["several"]:
            figures["several"] = several(found["several"], f"Several random flips at once: {title}")
        for name, figure in figures.items():
            made[f"{name}-seed{found['seed']}"] = saved(figure, folder / f"{name}-seed{found['seed']}")
    return made


def cells_csv(summary: Mapping[str, Any]) -> str:
    """The cells of all seeds as CSV, a line each."""
    text = io.StringIO()
    rows = [{"seed": found["seed"], **cell} for found in summary["seeds"] for cell in found["cells"]]
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["seed"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def grid(cells: Rows) -> tuple[list[str], list[int], np.ndarray[Any, np.dtype[np.float64]]]:
    """(sets, bits from the highest on, error rates by set and bit); NaN where there is no such cell."""
    sets = list(dict.fromkeys(cell["set"] for cell in cells))
    bits = sorted({cell["bit"] for cell in cells}, reverse=True)
    values = np.full((len(sets), len(bits)), np.nan)
    for cell in cells:
        values[sets.index(cell["set"]), bits.index(cell["bit"])] = cell["error"]
    return sets, bits, values


def heat_map(cells: Rows, title: str) -> Figure:
    """Bits across, parameter sets down, from the first layer on: the mean share of changed pixels, 0 to 100 %."""
    sets, bits, values = grid(cells)
    figure, axes = _figure(title, 3.2 + 0.28 * len(bits), 1.6 + 0.14 * len(sets))
    mesh = axes.pcolormesh(np.arange(len(bits) + 1), np.arange(len(sets) + 1), 100 * values, vmin=0, vmax=100,
                           cmap=COLOURS)  # fmt: skip
    axes.invert_yaxis()
    axes.set_xticks(np.arange(len(bits)) + 0.5, [str(bit) for bit in bits], fontsize=7)
    axes.set_yticks(np.arange(len(sets)) + 0.5, sets, fontsize=5)
    axes.set_xlabel("bit of the stored word")
    figure.colorbar(mesh, ax=axes, label="pixels whose class changed, %")
    return figure


def set_means(rows: Rows, title: str) -> Figure:
    """A bar for each parameter set with its interval, coloured by kind."""
    figure, axes = _figure(title, 11, 3.6)
    values = np.array([row["error"]["estimate"] for row in rows])
    ends = np.abs(np.array([[row["error"][end] for row in rows] for end in ("low", "high")]) - values)
    for kind in dict.fromkeys(row["kind"] for row in rows):
        at = [place for place, row in enumerate(rows) if row["kind"] == kind]
        axes.bar(np.array(at) + 1, 100 * values[at], color=KIND_COLOURS[kind], label=kind)
    axes.errorbar(np.arange(len(rows)) + 1, 100 * values, 100 * ends, fmt="none", ecolor="#333333", elinewidth=0.6)
    axes.axhline(100 * float(values.mean()), color="black", linewidth=1, label="mean of sets")
    axes.set_xlabel("parameter set")
    axes.set_ylabel("pixels changed, %")
    _legend(axes)
    return figure


def signs(rows: Rows, title: str) -> Figure:
    """Of biases and betas: the share of positive values, solid, and the error rate of the dangerous bits, dashed."""
    figure, axes = _figure(title, 9, 3.6)
    for kind in ("conv bias", "beta", "transposed conv bias"):
        chosen = [row for row in rows if row["kind"] == kind and row["dangerous"] is not None]
        at = [row["number"] for row in chosen]
        colour = KIND_COLOURS[kind]
        axes.plot(at, [100 * row["positive"] for row in chosen], "o-", color=colour, label=f"{kind}: positive")
        axes.plot(at, [100 * row["dangerous"]["estimate"] for row in chosen], "s--", color=colour,
                  label=f"{kind}: error rate")  # fmt: skip
    axes.set_xlabel("parameter set")
    axes.set_ylabel("%")
    _legend(axes)
    return figure


def risk(rows: Rows, title: str) -> Figure:
    """Filled: the difference; unfilled: the error rate itself."""
    figure, axes = _figure(title, 11, 3.6)
    chosen = [row for row in rows if row["dangerous"] is not None]
    for kind in dict.fromkeys(row["kind"] for row in chosen):
        of_kind = [row for row in chosen if row["kind"] == kind]
        at, errors = [row["number"] for row in of_kind], [100 * row["dangerous"]["estimate"] for row in of_kind]
        axes.plot(at, errors, "o", markerfacecolor="none", color=KIND_COLOURS[kind], markersize=4)
        apart = [error - 100 * row["risky"] for error, row in zip(errors, of_kind, strict=True)]
        axes.plot(at, apart, "o", color=KIND_COLOURS[kind], label=kind, markersize=3)
    axes.axhline(0, color="black", linewidth=0.6)
    axes.set_xlabel("parameter set")
    axes.set_ylabel("points")
    _legend(axes)
    return figure


def output_biases(found: Mapping[str, Any], title: str) -> Figure:
    """Predicted against measured, a mark for each class and bit that the prediction is about."""
    figure, axes = _figure(title, 5, 4.4)
    for row in found["rows"]:
        if row["bit"] in found["bits"]:
            axes.plot(100 * row["predicted"], 100 * row["measured"], "o", color="#4c72b0")
    axes.plot([0, 100], [0, 100], color="#8c8c8c", linewidth=0.8)
    axes.set_xlabel("predicted without a fault, % of pixels")
    axes.set_ylabel("measured by injection, %")
    return figure


def several(rows: Rows, title: str) -> Figure:
    """Each repetition a dot, the mean a line."""
    figure, axes = _figure(title, 7, 4)
    for row in rows:
        errors = 100 * np.array(row["errors"])
        axes.plot(np.full(len(errors), row["flips"]), errors, ".", color="#8172b3", alpha=0.35, markersize=3)
    axes.plot([row["flips"] for row in rows], [100 * row["error"]["estimate"] for row in rows], "o-", color="black")
    axes.set_xlabel("random flips at once")
    axes.set_ylabel("pixels changed, %")
    axes.set_ylim(0, 100)
    return figure


def _figure(title: str, width: float, height: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, fontsize=8)
    return figure, axes


def _legend(axes: Axes) -> None:
    """Beside the axes, where it hides nothing."""
    axes.legend(fontsize=6, loc="center left", bbox_to_anchor=(1.0, 0.5))


def saved(figure: Figure, stem: Path, caption: str = "", dpi: int = DPI) -> Path:
    """The figure as STEM.png and STEM.svg, the same bytes for the same figure, its caption in both; the PNG."""
    import matplotlib

    told = {"Title": stem.name, "Description": caption} if caption else {}
    style = {"svg.hashsalt": stem.name, "svg.fonttype": "none"}
    with writing_to(stem), matplotlib.rc_context(style):
        figure.savefig(stem.with_suffix(".svg"), metadata={"Date": None, **told})
        figure.savefig(stem.with_suffix(".png"), dpi=dpi, metadata={"Software": None, **told})
    return stem.with_suffix(".png")
