# SPDX-License-Identifier: Apache-2.0
"""Look at the trials of a campaign: filter, export, run one again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich import box
from rich.table import Table

from bitward.cli import session
from bitward.cli._board import board_options
from bitward.cli._flow import FlowFile
from bitward.cli._options import Titled
from bitward.cli.train import DATA
from bitward.errors import ConfigError

if TYPE_CHECKING:
    from bitward_runtime.connection import Connection

    from bitward.campaign.query import Group
    from bitward.flow.attack import Again
    from bitward.metrics import Share

SECTION = "Faults"


@click.command(cls=Titled)
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option("--where", "condition", metavar="SQL", help='Only trials for which this is true: "top1_changed > 0".')
@click.option("--export", "target", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False),
              help="Write the trials to FILE.csv, FILE.parquet or FILE.json.")  # fmt: skip
@click.option("--replay", metavar="TRIAL", type=click.IntRange(0), help="Run this trial again and compare its outputs.")
@click.option("--on", type=click.Choice(["engine", "rtl", "board", "torch"]), default="engine", show_default=True,
              help="Where it is run again.")  # fmt: skip
@click.option("--build", metavar="DIR", type=click.Path(path_type=Path, file_okay=False),
              help="The build that it was run on, as bitward build or run left it.")  # fmt: skip
@click.option("--flow", metavar="FLOW", type=FlowFile(), help="torch: the campaign's flow.")
@click.option("--runs", type=click.Path(path_type=Path, file_okay=False), default=Path("runs"), show_default=True,
              help="torch: folder of all runs, where trained networks are kept.")  # fmt: skip
@DATA
@board_options()
def command(
    directory: Path, condition: str | None, target: Path | None, replay: int | None, on: str, build: Path | None,
    flow: Path | None, runs: Path, data: Path | None, connection: Connection,
) -> None:  # fmt: skip
    """Show the trials in DIR, a campaign's folder, by memory and bit; or filter, export, or run one of them again.

    Columns for --where: trial, memory, layer, role, word, bit, stored_bit, copy, parameter, flips, status, path,
    outputs_changed, top1_changed (numbers of images), top1_correct, seconds and others; the export has them all.

    \b
    Examples:
      bitward trials runs/digits/campaigns/strata-plain --where "top1_changed > 0"
      bitward trials runs/digits/campaigns/strata-plain --replay 7 --build runs/digits/build/plain
    """
    if replay is not None:
        if on == "torch":
            _replay_software(directory, replay, flow, runs, data)
        else:
            _replay(directory, replay, on, build, connection)
        return
    from bitward.campaign import TrialStore, verdicts_sha256
    from bitward.campaign.query import export, flips, model_text, summary, where

    store = TrialStore.load(directory)
    table = store.read() if condition is None else where(store.read(), condition)
    console = session().console
    if target is not None:
        export(table, target)
        console.print(f"{len(table)} trials")
        click.echo(target)
        return
    ended = store.result()
    console.print(_shown(f"{directory.name}: {len(table)} of {store.spec.get('faults')} trials", summary(table)))
    hit = flips(table)
    console.print(f"faults: {model_text(store.spec.get('model'))}; {'no trials' if hit is None else hit}",
                  markup=False, soft_wrap=True)  # fmt: skip
    if condition is None:
        console.print(f"not ended yet: {len(table)} trials are stored" if ended is None else _ending(ended, store.spec),
                      markup=False, soft_wrap=True)  # fmt: skip
        click.echo(f"verdicts {verdicts_sha256(table)}")


def _replay(directory: Path, number: int, on: str, build: Path | None, connection: Connection) -> None:
    from bitward.flow.attack import Place, run_again

    if build is None:
        raise ConfigError("--build must name the build to run a trial again on, got nothing: give the campaign's own")
    place = Place(on, build, connection.host, connection.port, connection.credentials)  # type: ignore[arg-type]
    again = run_again(directory, number, place)
    what = _what(number, again)
    if not again.is_equal:
        raise ConfigError(
            f"{what} must give on {on} the outputs it gave, got {again.found[:12]} for {again.recorded[:12]}: the "
            "build or its code is another one"
        )
    click.echo(f"{what} on {on}: outputs equal the recorded ones, {again.found}")


def _replay_software(directory: Path, number: int, flow: Path | None, runs: Path, data: Path | None) -> None:
    from bitward.flow.software_inject import Where, replay_software
    from bitward.flow.software_spec import load_software_flow

    if flow is None:
        raise ConfigError(
            "--flow must name the flow to run a trial again on torch, got nothing: give the campaign's own"
        )
    again = replay_software(load_software_flow(flow), Where(runs, data), session().console, directory, number)
    what = _what(number, again)
    if not again.decides_alike:
        raise ConfigError(
            f"{what} must change as many decisions on torch as it did, got {again.found_changed} for "
            f"{again.recorded_changed} of {again.images}: the network or its code is another one"
        )
    same = "outputs equal the recorded ones" if again.is_equal else "outputs differ in their last bits"
    click.echo(f"{what} on torch: {again.found_changed} of {again.images} decisions changed, as recorded; {same}")


def _what(number: int, again: Again) -> str:
    more = f" and {len(again.faults) - 3} more" if len(again.faults) > 3 else ""
    return f"trial {number} ({' '.join(map(str, again.faults[:3]))}{more})"


def _ending(ended: dict[str, Any], spec: dict[str, Any]) -> str:
    """How the campaign ended, and the interval of its rule, by its method."""
    from bitward.campaign.query import boards_text, method_text

    text = "; ".join(filter(None, (f"ended: {ended['ended']}", boards_text(ended))))
    if ended["interval"] is None:
        return text
    at = {name: f"{100 * value:.3g} %" for name, value in ended["interval"].items()}
    metric = spec["stopping"]["metric"] if spec.get("stopping") else "top1_changed"
    return f"{text}; {metric} of all faults: {at['estimate']} [{at['low']}, {at['high']}], {method_text(spec)}"


def _shown(title: str, groups: list[Group]) -> Table:
    rare = {
        "failed": [str(group.failed) for group in groups if group.failed],
        "left out": [str(group.screened_out) for group in groups if group.screened_out],
    }
    columns = ["role", "memory", "bit", "trials", *(name for name, counts in rare.items() if counts)]
    caption = "Changed: % of the trials run, with exact 95 % intervals (Clopper-Pearson); failed ones count as changed."
    table = Table(title=title, caption=caption, box=box.SIMPLE, padding=(0, 1, 0, 0))
    for name in columns:
        table.add_column(name, no_wrap=True, justify="left" if name in ("role", "memory") else "right")
    for name in ("outputs changed", "decisions changed"):
        table.add_column(name, no_wrap=True, justify="right")
    for group in groups:
        known = {
            "role": group.role or "",
            "memory": group.memory or "several, none",
            "bit": "" if group.stored_bit is None else str(group.stored_bit),
            "trials": str(group.trials),
            "failed": str(group.failed),
            "left out": str(group.screened_out),
        }
        shares = (_share(group.outputs_changed), _share(group.top1_changed))
        table.add_row(*(known[name] for name in columns), *shares)
    return table


def _share(share: Share | None) -> str:
    if share is None:
        return "not measured"
    return f"{100 * share.value:.3g} [{100 * share.low:.3g}, {100 * share.high:.3g}]"
