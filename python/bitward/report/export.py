# SPDX-License-Identifier: Apache-2.0
"""A run's tables as CSV and its figures as SVG and PNG, for papers: what the page shows, by names that stay."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from bitward.report import plots, tables
from bitward.report.boards import BoardRow, board_rows
from bitward.report.graph import graph_of
from bitward.report.headline import duel
from bitward.report.heatmap import METRICS, Column, heat_maps
from bitward.report.load import SIDES, Missing, RunData, Side, load_run
from bitward.report.measured import MeasuredRow, measured_rows
from bitward.report.model import ModelRow, model_rows
from bitward.report.page import Strata, strata_of
from bitward.report.plots import Plot
from bitward.report.rates import accuracy_dots, accuracy_of, changed_dots
from bitward.report.safety import SafetyRow, safety
from bitward.report.scatter import Dot
from bitward.report.software import ACROSS, LOST, Section, flow_sections, lost_dots
from bitward.report.statistics import Estimate, Stratum
from bitward.tools import atomic_write, output_directory

SHARE = ("share", "low", "high", "changed", "tried", "interval")  # columns of a share of faults


@dataclass(frozen=True)
class Table:
    """Columns and rows."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


def export_run(folder: Path, csv_folder: Path | None = None, figures: Path | None = None) -> None:
    """Every table that the run's page has is in `csv_folder`, every figure in `figures`, where these are given.

    ConfigError when `folder` holds no run, OutputError when a folder cannot be written.
    """
    if csv_folder is None and figures is None:
        return
    run = load_run(folder)
    kind = run.figure("kind")
    if kind == "sensitivity":
        from bitward.report.sensitivity import FIGURES, sensitivity_sections
        from bitward.report.sensitivity_figures import cells_csv, draw

        pictures = draw(folder / FIGURES if figures is None else figures, run.summary)
        if csv_folder is not None:
            write_tables(section_tables(sensitivity_sections(pictures, run.summary)), csv_folder)
            atomic_write(csv_folder / "cells.csv", cells_csv(run.summary))
        return
    software = kind == "software-only"
    if csv_folder is not None:
        write_tables(section_tables(flow_sections(run.summary)) if software else hardware_tables(run), csv_folder)
    if figures is not None:
        plots.save(software_plots(run.summary) if software else hardware_plots(run), output_directory(figures))


def write_tables(found: Mapping[str, Table], folder: Path) -> None:
    """Every table that has rows lies in the folder as NAME.csv."""
    output_directory(folder)
    for name, table in found.items():
        if table.rows:
            text = io.StringIO()
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(table.columns)
            writer.writerows([_cell(value) for value in row] for row in table.rows)
            atomic_write(folder / f"{name}.csv", text.getvalue())


def section_tables(sections: Sequence[Section]) -> dict[str, Table]:
    """The sections that have rows, by their titles as file names."""
    return {file_name(each.title): Table(each.columns, each.rows) for each in sections if each.rows}


def file_name(title: str) -> str:
    """A title as the name of a file.

    >>> file_name("Error rate by parameter set, seed 0")
    'error-rate-by-parameter-set-seed-0'
    """
    return re.sub(r"[^a-z0-9.]+", "-", title.lower()).strip("-.")


def hardware_tables(run: RunData) -> dict[str, Table]:
    """The tables of a run of hardware: shares as numbers from 0 to 1, other figures as the page prints them."""
    sampled, exhaustive = strata_of(run, "strata"), strata_of(run, "msb")
    resources = tables.resource_rows(run)
    compared = ("what", "plain", "hardened", "difference")
    found_safety = safety(run, sampled, duel(run, exhaustive))
    covered = found_safety if not isinstance(found_safety, Missing) else None
    return {
        "bits": _bits(sampled),
        "voted-bits": _voted(exhaustive),
        "rates": _rates(run),
        "fault-model": _rows(ModelRow, model_rows(run)),
        "boards": _rows(BoardRow, board_rows(run)),
        "layers": _layers(run),
        "masked": _masked(sampled),
        "worst-flips": _worst(run),
        "cycles": Table(compared, tables.cycle_rows(run)),
        "resources": Table(compared, [] if isinstance(resources, Missing) else resources[1]),
        "memories": _mappings(tables.memory_rows(run)),
        "speed": _rows(MeasuredRow, measured_rows(run)),
        "safety": _rows(SafetyRow, covered.rows if covered else ()),
        "safety-coverage": Table(("what", "figure"), covered.coverage if covered else ()),
        "safety-assumptions": Table(("what", "value", "from"), covered.assumptions if covered else ()),
        "checks": _rows(tables.Check, tables.checks(run)),
        "provenance": Table(("what", "which"), tables.provenance(run)),
    }


def _rows(kind: type[Any], found: Sequence[Any]) -> Table:
    """Dataclass instances, a column each field."""
    names = [each.name for each in fields(kind)]
    return Table(names, [[getattr(row, name) for name in names] for row in found])


def _mappings(found: Sequence[Mapping[str, Any]]) -> Table:
    names = list(found[0]) if found else []
    return Table(names, [list(row.values()) for row in found])


def _cell(value: Any) -> Any:
    """A cell with plain spaces, several values with semicolons between them."""
    if isinstance(value, tuple):
        return "; ".join(map(str, value))
    return value.replace("\u202f", " ") if isinstance(value, str) else value


def _share(found: Estimate | None) -> tuple[Any, ...]:
    if found is None:
        return ("not measured", "", "", "", "", "")
    return (found.value, found.low, found.high, found.count, found.tried, found.method)


def _strata(found: Strata) -> list[tuple[Side, Stratum]]:
    parts = ((side, found[side]) for side in SIDES)
    return [(side, part) for side, each in parts if not isinstance(each, Missing) for part in each]


def _bits(sampled: Strata) -> Table:
    columns = ("build", "memory", "role", "stored bit", "meaning", "voted", "live bits", "effect", *SHARE)
    rows = [
        (side, part.memory.name, part.memory.role, part.stored_bit, Column(part.bit, part.copy).title, part.is_voted,
         part.size, title, *_share(part.share(metric)))
        for side, part in _strata(sampled)
        for metric, title in METRICS.items()
    ]  # fmt: skip
    return Table(columns, rows)


def _voted(exhaustive: Strata) -> Table:
    columns = ("build", "memory", "stored bit", "live bits", "tried", "outputs changed", "top-1 changed")
    rows = [
        (side, part.memory.name, part.stored_bit, part.size, part.tried, part.outputs_changed, part.top1_changed)
        for side, part in _strata(exhaustive)
        if part.tried
    ]
    return Table(columns, rows)


def _masked(sampled: Strata) -> Table:
    columns = ("build", "memory", "role", "masked", "low", "high", "masked faults", "tried", "interval")
    rows = [
        (side, row.memory, row.role, *_share(found))
        for row in tables.masked_rows(sampled)
        for side, found, _ in row.sides
    ]
    return Table(columns, rows)


def _rates(run: RunData) -> Table:
    columns = (
        "build", "rate", "flips, mean", "flips, least", "flips, most", "fault sets", "images", "failed", "accuracy",
        "accuracy, low", "accuracy, high", "changed", "changed, low", "changed, high", "interval", "P_drop", "RAP",
    )  # fmt: skip
    found = run.figure("ber")
    rows = []
    for side, build in () if isinstance(found, Missing) else ((side, found[side]) for side in SIDES):
        for each in build["points"].values():
            left = None if each["drop"] is None else accuracy_of(build, each)
            share, changed = (left.estimate, left.low, left.high) if left else ("", "", ""), each["changed"]
            rows.append((
                side, each["ber"], *each["flips"], each["trials"], build["images"], each["failed"], *share,
                changed["estimate"], changed["low"], changed["high"], "95 %, Student, over fault sets",
                each["p_drop"], each["rap"],
            ))  # fmt: skip
    return Table(columns, rows)


def _layers(run: RunData) -> Table:
    columns = ("layer", "kind", "reads", "memory", "stored as", "live bits", "protected bits", "folding", "cycles")
    drawn = graph_of(run)
    rows = []
    for row in () if isinstance(drawn, Missing) else drawn:
        layer = row.layer
        reads = "; ".join(drawn[source].layer.name for source in layer.sources)  # type: ignore[index]
        own = (layer.name, ", ".join(dict.fromkeys(layer.kinds)), reads)
        rest = ("; ".join(layer.folding), "" if layer.cycles is None else layer.cycles)
        held: list[tuple[Any, ...]] = [
            (each.memory.name, each.scheme, each.bits, each.masked) for each in layer.memories
        ]
        rows += [(*own, *at, *rest) for at in held or [("", "", "", "")]]
    return Table(columns, rows)


def _worst(run: RunData) -> Table:
    rows = [(each.side, *row) for each in tables.worst(run) if not isinstance(each, Missing) for row in each.rows]
    return Table(("build", "fault (memory:word:bit)", "of the parameter", "images right", "answers changed"), rows)


def hardware_plots(run: RunData) -> dict[str, Plot]:
    """The figures of a run of hardware, as far as it has measured what they show."""
    name, sampled = str(run.summary.get("flow", run.folder.name)), strata_of(run, "strata")
    found: dict[str, Plot] = {}
    for each in heat_maps(sampled):
        if each.groups:
            title = f"{name}: single-bit faults that {each.title}"
            found[f"heat-map-{each.metric.replace('_', '-')}"] = Plot(plots.heat_map(each, title), title)
    found |= _rate_plots(run, name)
    drawn = graph_of(run)
    if not isinstance(drawn, Missing):
        title = f"{name}: layers, and where protection sits"
        found["layers"] = Plot(plots.graph([row.layer for row in drawn], title), title)
    if rows := tables.masked_rows(sampled):
        title = f"{name}: flips that pass unnoticed, 95 % intervals"
        found["masked"] = Plot(plots.masked(rows, title), title)
    return found | _bar_plots(run, name)


def _rate_plots(run: RunData, name: str) -> dict[str, Plot]:
    found = run.figure("ber")
    made: dict[str, Plot] = {}
    if isinstance(found, Missing):
        return {}
    if all(found[side]["right"] is not None for side in SIDES):
        made["rates-accuracy"] = _curves(f"{name}: accuracy", accuracy_dots(found), "accuracy, %")
    made["rates-changed"] = _curves(f"{name}: answers that change", changed_dots(found), "answers changed, %")
    return made


def _curves(title: str, dots: Sequence[Dot], up: str) -> Plot:
    caption = f"{title} under bit error rates, with Student's 95 % intervals over fault sets"
    return Plot(plots.curves(title, dots, ACROSS, up), caption)


def _bar_plots(run: RunData, name: str) -> dict[str, Plot]:
    made: dict[str, Plot] = {}
    worst = {each.side.capitalize(): each.histogram for each in tables.worst(run) if not isinstance(each, Missing)}
    if worst:
        title = f"{name}: faults by top-1 answers changed, logarithmic"
        made["worst-flips"] = Plot(plots.bars(worst, title), title)
    for file, what, bars in (
        ("weight-memory", "weight memory", tables.memory_bars(run)),
        ("wall-time", "wall time of each stage when it ran", tables.wall_bars(run)),
    ):
        if not isinstance(bars, Missing):
            made[file] = Plot(plots.bars({"": bars}, f"{name}: {what}"), f"{name}: {what}")
    return made


def software_plots(summary: Mapping[str, Any]) -> dict[str, Plot]:
    """The figures of a software-only run: what each rate costs, a figure for each spread of the flips."""
    return {
        f"lost-{spread}": _curves(f"{summary['flow']}: accuracy lost, flips over {spread}", dots, LOST)
        for spread, dots in lost_dots(summary).items()
    }
