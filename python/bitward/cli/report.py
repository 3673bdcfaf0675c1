# SPDX-License-Identifier: Apache-2.0
"""Write the report of a run: one self-contained HTML file."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("run", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="The file to write (default: RUN/report.html)."
)
def command(run: Path, out: Path | None) -> None:
    """Write the report of the folder RUN, as `bitward run` left it, also where the run stopped early."""
    from bitward.report import write_report

    click.echo(write_report(run, out))
