# SPDX-License-Identifier: Apache-2.0
"""Search a flow's design space: bits and protection of weights."""

from __future__ import annotations

from pathlib import Path

import click

from bitward.cli import session
from bitward.cli._flow import FlowFile
from bitward.cli.train import DATA

SECTION = "Faults"
KEPT = "what was evaluated is kept: the same command goes on from there"


@click.command()
@click.argument("flow", type=FlowFile())
@click.option("--runs", type=click.Path(path_type=Path, file_okay=False), default=Path("runs"), show_default=True,
              help="Folder of all runs; this one's is in it by its name.")  # fmt: skip
@DATA
def command(flow: Path, runs: Path, data: Path | None) -> None:
    """Search the space of FLOW's section explore for the point that stores the fewest bits and keeps what is asked.

    Leaves runs/NAME/explore/ with report.html (every point, its accuracy, what faults take of it, its memory, whether
    RTL can be made of it; a Pareto plot), search.json, and recommended.yaml, which `bitward run` takes as it is. In a
    flow of a quantized network the points are the members of its family, all of them hardware; the command that builds
    the answer is printed. What was evaluated is kept: a search that was killed goes on, and other limits ask nothing
    twice. Evaluations are software-only.

    \b
    Example:
      bitward explore explore/digits
    """
    from bitward.flow.exploration import explore_flow

    console = session().console
    folder, found = explore_flow(flow, runs, console, data)
    console.print(f"{found['evaluations_text']}", soft_wrap=True, markup=False)
    console.print(found["reason"], soft_wrap=True, markup=False)
    click.echo(folder / "report.html")
