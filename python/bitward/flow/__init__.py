# SPDX-License-Identifier: Apache-2.0
"""Flows: one YAML, one command, one folder: train, export, harden, build, verify, measure, inject, report.

A stage runs when its settings, its inputs or its code changed since it last ran in that folder, and not otherwise.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from bitward.datasets import check_dataset
from bitward.errors import ConfigError, nearest_of_these
from bitward.flow.cache import StageRecord, locked, stage_key
from bitward.flow.run import Run
from bitward.flow.spec import Flow, load_flow
from bitward.flow.stages import STAGE_NAMES, STAGES, Stage, clear, overlay_stage
from bitward.flow.summary import NOT_MEASURED, summarise
from bitward.flow.told import say, told
from bitward.hardware.boards import load_board
from bitward.hardware.clocks import pl_clock
from bitward.networks import find_network
from bitward.tools import output_directory, room_in

__all__ = ["STAGE_NAMES", "Flow", "Run", "load_flow", "make_overlay", "prepare", "run_flow"]


def run_flow(
    flow: Flow,
    runs: Path,
    console: Console,
    to: str | None = None,
    force: str | None = None,
    data: Path | None = None,
) -> tuple[Path, dict[str, Any]]:
    """The flow has run up to stage `to` (None: the report); its folder and summary.

    `data` is where the dataset's images lie, if they are given by path (without it, BITWARD_DATA says).
    `force` runs that stage, and what follows it, though nothing changed. Raises what the stages raise, and ConfigError
    for a stage that is not there or a folder that another process uses.
    """
    for name in (to, force):
        if name is not None and name not in STAGE_NAMES:
            raise ConfigError(
                f"a stage must be one of {', '.join(STAGE_NAMES)}, got {name!r}; {nearest_of_these(name, STAGE_NAMES)}"
            )
        if name is not None and any(stage.name == name and not stage.is_asked(flow) for stage in STAGES):
            raise ConfigError(
                f"the flow must ask for the stage {name}, got none of its keys: add a section, {name}: {{}} suffices"
            )
    run = _open(flow, runs, console, data)
    with locked(run.folder):
        say(console, f"{flow.name}: all that follows goes into {run.folder}; ctrl-C keeps what is finished")
        record = StageRecord(run.folder)
        if force is not None:
            record.forget(STAGE_NAMES[STAGE_NAMES.index(force) :])
        results = _run_stages(run, record, to, force, keep_summary=True)
        wall_s = {name: record.wall_s(name) for name in results if record.has(name)}
        summary = summarise(run, results, wall_s)
        if to in (None, "report"):
            wall_s["report"] = _write_report(run)
            summary = summarise(run, results, wall_s)
    return run.folder, summary


def prepare(flow: Flow, runs: Path, console: Console, to: str, data: Path | None = None) -> Run:
    """The flow has run up to stage `to`, for a command that goes on from there; no summary is written."""
    run = _open(flow, runs, console, data)
    with locked(run.folder):
        _run_stages(run, StageRecord(run.folder), to, None)
    return run


def make_overlay(flow: Flow, runs: Path, console: Console, board: str, clk_mhz: float | None = None) -> Path:
    """The flow's hardened design is built for `board` in the run's folder overlay-BOARD; the path of what it loads.

    `clk_mhz` (None: the flow's) need not be a clock that the board has: the nearest below it is taken, and said. Raises
    ToolError for a real board where Vivado is missing or its result is not to be used (`bitward.hardware.vivado`).
    """
    kind = load_board(board)
    clock = pl_clock(kind, flow.build.clk_mhz if clk_mhz is None else clk_mhz)
    if not clock.is_as_asked:
        console.print(f"  {clock.sentence}")
    run = prepare(flow, runs, console, to="harden")
    with locked(run.folder):
        stage = overlay_stage(board, clock.mhz)
        _run_stage(run, StageRecord(run.folder), stage, forced=False, extra={"board": board, "clk_mhz": clock.mhz})
        if not kind.is_simulated:
            return _bitstream(run, board, clock.asked_mhz)
    from bitward_virtual.emulate import overlay_of

    return overlay_of(run.overlay(board))


def _bitstream(run: Run, board: str, asked_mhz: float) -> Path:
    """Vivado has made the bitstream of the run's build for a real board."""
    from bitward.hardware.shell import prepare as prepare_shell
    from bitward.hardware.vivado import implement

    shell = prepare_shell(run.overlay(board), board, asked_mhz)
    with run.console.status(f"  Vivado ({board}); its log is {shell.folder / 'bitward.log'}"):
        return implement(shell, run.overlay(board))


def _open(flow: Flow, runs: Path, console: Console, data: Path | None = None) -> Run:
    """The run's folder is there. What can be known to be wrong is refused first: a mistake must not leave a folder."""
    from bitward.rewrites.loading import load_model

    if flow.model is None or flow.dataset is None:
        find_network(flow.network)
    if flow.model is not None and not flow.model.is_file():
        raise ConfigError(
            f"model must be a QONNX file, got {flow.model}, which is none: give its path from the flow's folder"
        )
    if flow.model is not None:
        load_model(flow.model)
    if flow.dataset is not None:
        check_dataset(flow.dataset)
    if not load_board(flow.build.board).is_simulated:
        raise ConfigError(
            f"build.board must be a simulated board in a flow, got {flow.build.board!r}; build for a real one with "
            f"make bitstream BOARD={flow.build.board}"
        )
    return Run(flow, output_directory(runs / flow.name), console, data)


def _run_stages(
    run: Run, record: StageRecord, to: str | None, force: str | None, keep_summary: bool = False
) -> dict[str, dict[str, Any]]:
    """What the stages up to `to` found, and those after it that would find the same if they ran.

    With `keep_summary` summary.json is there before each stage, as far as is known, for whoever watches.
    """
    results: dict[str, dict[str, Any]] = {}
    asked = [stage for stage in STAGES if stage.is_asked(run.flow)]
    names = [stage.name for stage in asked]
    last = names.index(to) if to in names else len(names) - 1
    for stage in asked[: last + 1]:
        if keep_summary and results:
            summarise(run, results, {name: record.wall_s(name) for name in results if record.has(name)})
        results[stage.name] = _run_stage(run, record, stage, forced=stage.name == force)
    for stage in asked[last + 1 :]:
        known = record.result(stage.name, _key(run, stage))
        if known is not None and _left_all(run, stage):
            results[stage.name] = known
    return results


def _key(run: Run, stage: Stage, extra: Mapping[str, Any] | None = None) -> str:
    settings = {name: value for name, value in run.flow.model_dump(mode="json").items() if name in stage.settings}
    return stage_key({**settings, **(extra or {})}, stage.inputs(run))


def _left_all(run: Run, stage: Stage) -> bool:
    return all(path.exists() for path in stage.outputs(run))


def _run_stage(
    run: Run, record: StageRecord, stage: Stage, forced: bool, extra: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    key = _key(run, stage, extra)
    known = record.result(stage.name, key)
    if known is not None and _left_all(run, stage):
        run.console.print(f"[dim]{stage.name:<10} unchanged")
        return known
    if forced:
        clear(run, stage)
    started = time.monotonic()
    with room_in(run.folder):
        result = stage.work(run)
    wall_s = time.monotonic() - started
    say(run.console, f"{stage.name:<10} {wall_s:6.1f} s  {told(stage.name, result)}".rstrip())
    if NOT_MEASURED in result.values():
        record.forget([stage.name])  # what could not be measured is tried again next time
    else:
        record.keep(stage.name, key, wall_s, result)
    return result


def _write_report(run: Run) -> float:
    """The report is written; seconds it took."""
    from bitward.report import write_report

    started = time.monotonic()
    write_report(run.folder)
    wall_s = time.monotonic() - started
    say(run.console, f"{'report':<10} {wall_s:6.1f} s  one HTML file, which needs no network")
    return round(wall_s, 2)
