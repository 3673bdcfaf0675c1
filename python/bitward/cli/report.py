# SPDX-License-Identifier: Apache-2.0
"""Write the report of a run, or of several side by side: one self-contained HTML file."""

from __future__ import annotations

from pathlib import Path

import click

SECTION = "First steps"


@click.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path, file_okay=False))
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False),
              help="The file to write.  [default: RUN/report.html; of several runs comparison.html]")  # fmt: skip
@click.option("--csv", "tables", metavar="DIR", type=click.Path(path_type=Path, file_okay=False),
              help="Write the page's tables here too, as CSV.")  # fmt: skip
@click.option("--figures", metavar="DIR", type=click.Path(path_type=Path, file_okay=False),
              help="Draw the page's figures here too, as SVG and PNG.")  # fmt: skip
def command(runs: tuple[Path, ...], out: Path | None, tables: Path | None, figures: Path | None) -> None:
    """Write the report of the folder RUN, as `bitward run` left it, also where the run stopped early.

    Of several runs, one page compares what each costs with what upsets do to it.

    \b
    Examples:
      bitward report runs/digits
      bitward report runs/digits runs/digits-mlp --out both.html --csv tables
    """
    from bitward.report import export_run, write_comparison, write_report

    if len(runs) > 1:
        click.echo(write_comparison(runs, out or Path("comparison.html"), tables, figures))
        return
    click.echo(write_report(runs[0], out))
    export_run(runs[0], tables, figures)
