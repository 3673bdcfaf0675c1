# SPDX-License-Identifier: Apache-2.0
"""Count LUTs, flip-flops, block RAMs and DSPs of a build with Yosys."""

from __future__ import annotations

from pathlib import Path

import click
from rich.table import Table

from bitward.cli import session


@click.command()
@click.argument("build_dir", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
def command(build_dir: Path) -> None:
    """Synthesise the RTL of the build in DIR with Yosys, out of context, and print its resources node by node."""
    from bitward.hardware.synthesis import resources

    console = session().console
    with console.status("Yosys") as status:
        found = resources(build_dir, lambda step: status.update(f"Yosys: {step}"))
    table = Table(title=found["tool"])
    columns = ("lut", "ff", "bram36", "uram", "dsp")
    for name in ("node", *columns):
        table.add_column(name, justify="left" if name == "node" else "right")
    for node, counts in found["instances"].items():
        table.add_row(node, *(f"{counts[column]:g}" for column in columns))
    table.add_section()
    table.add_row("total", *(f"{found['total'][column]:g}" for column in columns))
    console.print(table)
