# SPDX-License-Identifier: Apache-2.0
"""Puts the parts together: a run's folder becomes one HTML file that loads nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bitward.report import figures, tables
from bitward.report.boards import board_rows
from bitward.report.graph import STATES, graph_of, mark
from bitward.report.headline import TONES, duel, tiles
from bitward.report.heatmap import heat_maps, stratum_rows
from bitward.report.load import SIDES, Missing, RunData, Side, load_run
from bitward.report.measured import CAPTION_LINES, is_on_a_board, measured_notes, measured_rows
from bitward.report.model import model_rows
from bitward.report.rates import rates_of
from bitward.report.safety import safety
from bitward.report.software import render_flow
from bitward.report.statistics import Stratum, strata
from bitward.report.templates import template, text_of
from bitward.tools import atomic_write

Strata = dict[Side, Sequence[Stratum] | Missing]
REPORT_FILE = "report.html"


def write_report(run_dir: Path, out: Path | None = None) -> Path:
    """The report of a run is in `out` (default: report.html in the run's folder), whole or not at all; its path.

    ConfigError when `run_dir` holds no run, ManifestError and StoreError for damaged files in it, OutputError when
    `out` cannot be written.
    """
    path = run_dir / REPORT_FILE if out is None else out
    atomic_write(path, page_of(load_run(run_dir), run_dir))
    return path


def page_of(run: RunData, drawn_in: Path) -> str:
    """The page of a run of any kind, as text; figures that it has as files, a sensitivity flow's, are in `drawn_in`."""
    kind = run.figure("kind")
    if kind == "sensitivity":
        from bitward.report.sensitivity import render_sensitivity

        return render_sensitivity(drawn_in, run.summary)
    return render_flow(run.summary) if kind == "software-only" else render(run)


def render(run: RunData) -> str:
    """The page of a run of hardware, as text."""
    return template("page.html").render(_context(run)) + "\n"


def _context(run: RunData) -> dict[str, Any]:
    sampled, exhaustive = strata_of(run, "strata"), strata_of(run, "msb")
    duels = duel(run, exhaustive)
    return {
        **_frame(run),
        "duel": duels,
        "safety": safety(run, sampled, duels),
        "tiles": tiles(run, sampled),
        "checks": tables.checks(run),
        "heat_maps": heat_maps(sampled),
        "strata_images": max((t.images for name, t in run.campaigns.items() if name.startswith("strata")), default=0),
        "strata_missing": [found.reason for found in sampled.values() if isinstance(found, Missing)],
        "stratum_rows": stratum_rows(sampled),
        "masked_rows": tables.masked_rows(sampled),
        "voted_rows": tables.voted_rows(exhaustive),
        "model_rows": model_rows(run),
        "rates": rates_of(run),
        "graph": graph_of(run),
        "board_rows": board_rows(run),
        "worst": tables.worst(run),
        "worst_line": tables.worst_line,
        "memory_bars": tables.memory_bars(run),
        "memory_rows": tables.memory_rows(run),
        "cycle_rows": tables.cycle_rows(run),
        "resources": tables.resource_rows(run),
        "measured_rows": measured_rows(run),
        "measured_notes": measured_notes(run),
        "measured_caption": CAPTION_LINES,
        "is_timed": is_on_a_board(run),
        "wall_bars": tables.wall_bars(run),
        "provenance": tables.provenance(run),
        "unmeasured": tables.unmeasured(run),
    }


def _frame(run: RunData) -> dict[str, Any]:
    """What the page is called, how it looks, and what draws on it."""
    return {
        "css": text_of("page.css"),
        "js": text_of("page.js"),
        "run": run,
        "title": run.summary.get("flow", run.folder.name),
        "sides": SIDES,
        "tones": TONES,
        "board": _board_name(run),
        "is_simulated": _is_simulated(run),
        "states": STATES,
        "mark": mark,
        "bars": figures.bars,
    }


def strata_of(run: RunData, kind: str) -> Strata:
    """The strata of both builds: "strata", the sampled ones, or "msb", those that every voted bit was tried in."""
    return {side: _strata(run, side, kind) for side in SIDES}


def _strata(run: RunData, side: Side, kind: str) -> Sequence[Stratum] | Missing:
    trials = run.trials(f"{kind}-{side}")
    if isinstance(trials, Missing):
        return trials
    if side not in run.manifests:
        return Missing(f"build/{side} has no manifest: the trials cannot be told apart without it")
    return strata(run.manifests[side], trials.table)


def _board_name(run: RunData) -> str:
    board = run.figure("board")
    return (
        "board not recorded" if isinstance(board, Missing) else str(board["name"] if isinstance(board, dict) else board)
    )


def _is_simulated(run: RunData) -> bool:
    """Whether the page must say that no real board took part: it does unless the run says otherwise."""
    board = run.figure("board")
    return bool(board.get("is_simulated", True)) if isinstance(board, dict) else True
