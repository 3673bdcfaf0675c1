# SPDX-License-Identifier: Apache-2.0
"""Run a flow: train, export, harden, build, verify, inject, report."""

from __future__ import annotations

from pathlib import Path

import click

from bitward.cli import session
from bitward.cli.train import DATA


@click.command()
@click.argument("flow", type=click.Path(path_type=Path))
@click.option("--to", metavar="STAGE", help="Stop after this stage.")
@click.option("--force", metavar="STAGE", help="Run this stage and what follows it, though nothing changed.")
@click.option("--runs", type=click.Path(path_type=Path, file_okay=False), default=Path("runs"), show_default=True,
              help="Folder of all runs; this one's is in it by its name.")  # fmt: skip
@DATA
def command(flow: Path, to: str | None, force: str | None, runs: Path, data: Path | None) -> None:
    """Run the experiment of the YAML file FLOW; stages that nothing changed for are not run again.

    Leaves runs/NAME/ with summary.json and report.html. An interrupted run goes on where it stopped.

    Faults of another model are injected too where FLOW has, for example, inject: {model: ber, ber: 1.0e-5}. All options
    of bitward inject that say which faults, and when to stop, are keys there.
    """
    from bitward.flow import load_flow, run_flow

    console = session().console
    folder, summary = run_flow(load_flow(flow), runs, console, to, force, data)
    msb = summary["msb_faults"]
    if isinstance(msb, dict):
        console.print(
            f"MSB faults: {msb['changed_plain']} of {msb['injected_plain']} changed an output of the plain design, "
            f"{msb['changed_hardened']} of {msb['injected']} (copies included) of the hardened one"
        )
    report = folder / "report.html"
    click.echo(report if to in (None, "report") else folder / "summary.json")
