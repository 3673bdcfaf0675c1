# SPDX-License-Identifier: Apache-2.0
"""Measure a build's FPS, latency and power where it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bitward.cli._board import board_options
from bitward.cli._options import Titled

if TYPE_CHECKING:
    from bitward_runtime.connection import Connection

SECTION = "Boards"


@click.command(cls=Titled)
@click.argument("build_dir", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option("--on", type=click.Choice(["engine", "rtl", "board"]), default="board", show_default=True,
              help="Software prediction, RTL simulation, or a board.")  # fmt: skip
@board_options()
@click.option("--images", type=click.IntRange(1), default=100, show_default=True, help="Images per batch.")
@click.option("--batches", type=click.IntRange(1), default=20, show_default=True, help="Batches that are timed.")
@click.option("--passes", type=click.IntRange(1), default=3, show_default=True,
              help="Passes before, which must all give what the engine predicts.")  # fmt: skip
@click.option("--transfers", type=click.IntRange(0), default=200, show_default=True,
              help="Single-image transfers for the latency; its p99 takes 100.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False),
              help="Write everything here as JSON, and one row as CSV beside it.")  # fmt: skip
def command(
    build_dir: Path, on: str, connection: Connection, images: int, batches: int, passes: int, transfers: int,
    out: Path | None,
) -> None:  # fmt: skip
    """Measure the build in DIR: frames per second, latency (p50, p95, p99), power where an INA260 can be read.

    Before that, the same images run --passes times; samples that differ from the engine's prediction are kept in the
    result, and the command fails. Figures of time from a virtual board or the RTL are of the simulation and say nothing
    of a KV260's speed; what the cycles counted in RTL make at the PL's clock stands beside them. What cannot be read is
    "not measured". Measuring a KV260 has not yet run on hardware.

    \b
    Example:
      bitward measure runs/digits/build/hardened --out measured.json
    """
    from bitward_runtime.comparison import compared, table
    from bitward_runtime.measure import Plan, lines

    from bitward.flow.attack import Place
    from bitward.flow.measure import check_golden, measure_build, save_measurement

    plan = Plan(golden_passes=passes, batches=batches, transfers=transfers)
    place = Place(on, build_dir, connection.host, connection.port, connection.credentials)  # type: ignore[arg-type]
    measured = measure_build(place, images, plan)
    for line in lines(measured):
        click.echo(line)
    click.echo()
    click.echo(table(compared(measured)))
    if out is not None:
        for path in save_measurement(measured, out):
            click.echo(path)
    check_golden(measured, "--out keeps them")
