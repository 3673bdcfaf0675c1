# SPDX-License-Identifier: Apache-2.0
"""Watch the campaigns of a run while they go on, here or in a browser."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import click
from rich.live import Live
from rich.table import Table

from bitward.cli import session

if TYPE_CHECKING:
    from bitward.report.live import Progress

SECTION = "First steps"


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option("--page/--no-page", default=False, help="Serve the run's report too, as it is now, on loopback.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Of that page.  [default: any that is free]")
@click.option("--once", is_flag=True, help="Print once how far campaigns are, and end.")
def command(folder: Path, page: bool, port: int, once: bool) -> None:
    """Show how far the campaigns in DIR are, and what they found: DIR is a run's folder, or one campaign's.

    From another terminal than the one that runs them; nothing is written. It ends when no process works on them any
    more, or at ctrl-C.

    \b
    Example:
      bitward watch runs/digits --page
    """
    from bitward.report.live import LivePage, campaigns_below, progress_of, watched

    console = session().console
    if once:
        console.print(_table([progress_of(path) for path in campaigns_below(folder)]))
        return
    server = LivePage(folder, port) if page else None
    if server is not None:
        Thread(target=server.serve_forever, daemon=True).start()
        click.echo(server.url)
    try:
        with Live(console=console, auto_refresh=False) as live:
            for found in watched(folder):
                live.update(_table(found), refresh=True)
        if server is not None:
            server.see_off()
    finally:
        if server is not None:
            server.shutdown()
            server.server_close()


def _table(found: Sequence[Progress]) -> Table:
    table = Table(title="campaigns")
    for name, side in (("campaign", "left"), ("trials", "right"), ("changed a top-1 answer", "right"),
                       ("95 %", "right"), ("failed", "right"), ("", "left")):  # fmt: skip
        table.add_column(name, justify=side)  # type: ignore[arg-type]
    for each in found:
        planned = "" if each.planned is None else f" of {each.planned:,}"
        interval = "" if each.changed is None else f"{100 * each.changed.low:.2f} to {100 * each.changed.high:.2f}"
        table.add_row(
            each.name, f"{each.done:,}{planned}", f"{each.critical:,}", interval, f"{each.failed:,}", each.state
        )
    return table
