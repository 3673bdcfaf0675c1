# SPDX-License-Identifier: Apache-2.0
"""Write the report of a run, or of several side by side: one self-contained HTML file."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path, file_okay=False))
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False),
              help="The file to write.  [default: RUN/report.html; of several runs comparison.html]")  # fmt: skip
@click.option("--csv", "tables", type=click.Path(path_type=Path, file_okay=False),
              help="Of several runs: write the tables here too, as CSV.")  # fmt: skip
def command(runs: tuple[Path, ...], out: Path | None, tables: Path | None) -> None:
    """Write the report of the folder RUN, as `bitward run` left it, also where the run stopped early.

    Of several runs, one page compares what each costs with what upsets do to it.
    """
    from bitward.report import write_comparison, write_report

    if len(runs) > 1:
        click.echo(write_comparison(runs, out or Path("comparison.html"), tables))
        return
    if tables is not None:
        raise click.UsageError("--csv goes with several runs: name two or more")
    click.echo(write_report(runs[0], out))
