# SPDX-License-Identifier: Apache-2.0
"""Make what a board loads, from a flow."""

from __future__ import annotations

from pathlib import Path

import click

from bitward.cli import session


@click.command()
@click.argument("flow", type=click.Path(path_type=Path))
@click.option("--board", default="virtual", show_default=True, help="Kind of board: virtual or kv260.")
@click.option("--runs", type=click.Path(path_type=Path, file_okay=False), default=Path("runs"), show_default=True,
              help="Folder of all runs; this one's is in it by its name.")  # fmt: skip
def command(flow: Path, board: str, runs: Path) -> None:
    """Build FLOW's hardened design for a board and make its overlay.

    For the virtual board the overlay's .bit and .hwh. For a KV260 all that Vivado needs; Vivado runs if it is on PATH
    (out of context: the shell around the accelerator is not written yet, so no .bit comes out).
    """
    from bitward.flow import load_flow, make_overlay

    click.echo(make_overlay(load_flow(flow), runs, session().console, board))
