# SPDX-License-Identifier: Apache-2.0
"""Count LUTs, flip-flops, block RAMs and DSPs of a build with Yosys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from bitward.cli import session
from bitward.tools import atomic_write

SECTION = "From a network to hardware"
KEPT = "the nodes synthesised so far are kept: the same command goes on from there"

COLUMNS = ("lut", "ff", "carry", "bram36", "uram", "dsp", "levels")


@click.command()
@click.argument("build_dir", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option("--compare", "compares", is_flag=True, help="Beside it: weights plain, MSB voted, full TMR and SEC-DED.")
@click.option("--json", "json_path", type=click.Path(path_type=Path, dir_okay=False), help="Write the counts here.")
def command(build_dir: Path, compares: bool, json_path: Path | None) -> None:
    """Synthesise the RTL of the build in DIR with Yosys, node by node, out of context, and print what it takes.

    Levels are the most LUTs, carries and multiplexers between two registers. Shares are of the board's chip. Counts are
    kept in the user's cache (~/.cache/bitward), so that a node is synthesised once. They are Yosys', not Vivado's.

    \b
    Example:
      bitward resources runs/digits/build/hardened
    """
    from bitward.campaign.progress import showing
    from bitward.hardware.boards import load_board
    from bitward.hardware.resources import built_in_ecc, compare, resources
    from bitward.manifest import Manifest

    console, manifest = session().console, Manifest.load(build_dir / "manifest.json")
    chip = load_board(manifest.board)
    with showing(console, "synthesise with Yosys", "nodes") as progress:
        found = resources(build_dir, progress)
        beside = compare(build_dir, progress) if compares else {}
    result: dict[str, Any] = {**found, "compared": {name: counts["total"] for name, counts in beside.items()}}
    table = _table(found["tool"], "node")
    for node, counts in found["instances"].items():
        _row(table, node, counts)
    table.add_section()
    _row(table, "total", found["total"])
    _shares(table, found["total"], chip.resources)
    console.print(table)
    if compares:
        result["built_in_ecc"] = built_in_ecc(manifest)
        console.print(_comparison(found["tool"], beside, chip.resources, result["built_in_ecc"]))
    if json_path is not None:
        atomic_write(json_path, json.dumps(result, indent=1) + "\n")


def _table(title: str, first: str) -> Table:
    table = Table(title=title)
    for name in (first, *COLUMNS):
        table.add_column(name, justify="left" if name == first else "right")
    return table


def _row(table: Table, name: str, counts: dict[str, Any]) -> None:
    table.add_row(name, *(f"{counts[column]:g}" for column in COLUMNS))


def _shares(table: Table, total: dict[str, Any], chip: dict[Any, int]) -> None:
    shares = (f"{total[column] / chip[column]:.1%}" if chip.get(column) else "" for column in COLUMNS)
    table.add_row("of the chip", *shares)


def _comparison(title: str, beside: dict[str, Any], chip: dict[Any, int], ecc: dict[str, float]) -> Table:
    table = _table(f"{title}: weights stored as", "protection")
    for name, counts in beside.items():
        _row(table, name, counts["total"])
        _shares(table, counts["total"], chip)
    table.caption = (
        f"With the block RAMs' built-in SEC-DED (computed): {ecc['bram36']:g} blocks for weights, "
        f"{ecc['overhead']:.1%} more bits."
    )
    return table
