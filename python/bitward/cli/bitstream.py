# SPDX-License-Identifier: Apache-2.0
"""Make what a board loads, from a flow."""

from __future__ import annotations

from pathlib import Path

import click

from bitward.cli import session
from bitward.cli._board import BoardKind
from bitward.cli._flow import SHIPPED, FlowFile, hardware_flow

SECTION = "From a network to hardware"
KEPT = "finished stages are kept: the same command goes on from there"


@click.command()
@click.argument("flow", type=FlowFile())
@click.option("--board", type=BoardKind(), default="virtual", show_default=True,
              help="Kind of board: virtual or kv260 (KV260_SOM too).")  # fmt: skip
@click.option("--clk-mhz", type=float, help="PL clock asked for; the nearest not above it is taken.  [default: FLOW's]")
@SHIPPED
@click.option("--runs", type=click.Path(path_type=Path, file_okay=False), default=Path("runs"), show_default=True,
              help="Folder of all runs; this one's is in it by its name.")  # fmt: skip
def command(flow: Path, board: str, clk_mhz: float | None, shipped: bool, runs: Path) -> None:
    """Build FLOW's hardened design for a board and make its overlay, a .bit and a .hwh.

    For a KV260 that takes Vivado 2022.2 or later on PATH; without it, all that Vivado needs is left in the run's
    folder. The figures of its reports are in build.json there (not yet run on hardware).

    \b
    Example:
      bitward bitstream digits --board kv260 --clk-mhz 250
    """
    from bitward.flow import make_overlay

    click.echo(make_overlay(hardware_flow(flow, shipped), runs, session().console, board, clk_mhz))
