# SPDX-License-Identifier: Apache-2.0
"""Flows: one YAML, one command, one folder: train, export, harden, build, verify, inject, report.

A stage runs when its settings, its inputs or its code changed since it last ran in that folder, and not otherwise.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from bitward.errors import ConfigError, ToolError, nearest
from bitward.flow.cache import StageRecord, stage_key
from bitward.flow.spec import Flow, load_flow
from bitward.flow.stages import OVERLAY, STAGE_NAMES, STAGES, Run, Stage, build_overlay, clear
from bitward.flow.summary import summarise
from bitward.hardware.boards import load_board
from bitward.hardware.vivado import SCRIPT, implement
from bitward.networks import find_network
from bitward.tools import output_directory

__all__ = ["STAGE_NAMES", "Flow", "Run", "load_flow", "make_overlay", "run_flow"]


def run_flow(
    flow: Flow, runs: Path, console: Console, to: str | None = None, force: str | None = None
) -> tuple[Path, dict[str, Any]]:
    """The flow has run up to stage `to` (None: the report); its folder and summary.

    `force` runs that stage, and what follows it, though nothing changed. Raises what the stages raise, and ConfigError
    for a stage that is not there.
    """
    for name in (to, force):
        if name is not None and name not in STAGE_NAMES:
            raise ConfigError(
                f"a stage must be one of {', '.join(STAGE_NAMES)}, got {name!r}; {nearest(name, STAGE_NAMES)}"
            )
    find_network(flow.network)  # a name that is wrong must not leave a folder
    run = Run(flow, output_directory(runs / flow.name), console)
    record = StageRecord(run.folder)
    if force is not None:
        record.forget(STAGE_NAMES[STAGE_NAMES.index(force) :])
    for stage in STAGES:
        _run_stage(run, record, stage, forced=stage.name == force)
        if stage.name == to:
            break
    summary = summarise(run, record.results, record.wall_s)
    if to in (None, "report"):
        _write_report(run, record)
        summary = summarise(run, {k: v for k, v in record.results.items() if k != "report"}, record.wall_s)
    return run.folder, summary


def make_overlay(flow: Flow, runs: Path, console: Console, board: str) -> Path:
    """The flow's hardened design is built for `board` in the run's folder overlay-BOARD; the path of what it loads.

    Raises ToolError for a real board: where Vivado is missing, and, once it ran, because the shell is not written yet.
    """
    folder, _ = run_flow(flow, runs, console, to="harden")
    run = Run(flow, folder, console)
    stage = replace(OVERLAY, name=f"overlay-{board}", work=lambda run: build_overlay(run, board))
    _run_stage(run, StageRecord(folder), stage, forced=False, extra={"board": board})
    if not load_board(board).is_simulated:
        implemented = implement(run.overlay(board) / "vivado" / SCRIPT)
        raise ToolError(
            f"a bitstream for {board} must have the shell around the accelerator, got none yet; the accelerator itself "
            f"is placed and routed out of context in {implemented}"
        )
    return next(iter((run.overlay(board) / "overlay").glob("*.bit")))


def _run_stage(
    run: Run, record: StageRecord, stage: Stage, forced: bool, extra: Mapping[str, Any] | None = None
) -> None:
    settings = {name: value for name, value in run.flow.model_dump(mode="json").items() if name in stage.settings}
    key = stage_key({**settings, **(extra or {})}, stage.inputs(run), stage.sources)
    if record.result(stage.name, key) is not None and all(path.exists() for path in stage.outputs(run)):
        run.console.print(f"[dim]{stage.name:<10} unchanged")
        return
    if forced:
        clear(run, stage)
    started = time.monotonic()
    result = stage.work(run)
    wall_s = time.monotonic() - started
    record.keep(stage.name, key, wall_s, result)
    run.console.print(f"{stage.name:<10} {wall_s:6.1f} s")


def _write_report(run: Run, record: StageRecord) -> None:
    from bitward.report import write_report

    started = time.monotonic()
    path = write_report(run.folder)
    record.keep("report", "", time.monotonic() - started, {"report": path.name})
    run.console.print(f"{'report':<10} {time.monotonic() - started:6.1f} s")
