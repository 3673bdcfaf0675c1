# SPDX-License-Identifier: Apache-2.0
"""Say in seconds which layers of a QONNX file can be hardened and built."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from bitward.cli import session
from bitward.cli._board import BoardKind
from bitward.cli._flow import ModelFile
from bitward.errors import ModelError
from bitward.tools import atomic_write

if TYPE_CHECKING:
    from bitward.hardware.survey import Estimate, LayerFound

SECTION = "From a network to hardware"


@click.command()
@click.argument("model", type=ModelFile())
@click.option("--target-fps", type=click.FloatRange(min=0, min_open=True), default=1000.0, show_default=True,
              help="Images per second that a build is estimated for.")  # fmt: skip
@click.option("--clk-mhz", type=float, default=200.0, show_default=True, help="Clock of the programmable logic.")
@click.option("--board", type=BoardKind(), default="kv260", show_default=True,
              help="Whose chip it is to fit; KV260_SOM or the part's name too.")  # fmt: skip
@click.option("--json", "json_path", type=click.Path(path_type=Path, dir_okay=False), help="Write what was found here.")
def command(model: Path, target_fps: float, clk_mhz: float, board: str, json_path: Path | None) -> None:
    """Look at every layer of the QONNX file MODEL before a long run: how its weights would be stored, which hardware it
    becomes, and, by its own name, what to change where it becomes none.

    All that stands in the way is listed, not the first alone; the exit code is then 1. Nothing is built: resources and
    cycles are estimates, for weights without voters.

    \b
    Example:
      bitward check onnx_models/digits_cnn.onnx
    """
    from bitward.hardware.declare import BuildOptions
    from bitward.hardware.survey import survey

    console = session().console
    with console.status("check"):
        found = survey(model, BuildOptions(target_fps=target_fps, clk_mhz=clk_mhz, board=board))
    if json_path is not None:
        atomic_write(json_path, json.dumps(asdict(found), indent=1) + "\n")
    if found.layers:
        console.print(_table(found.layers))
    problems = found.all_problems
    for problem in problems:
        click.echo(f"- {problem}")
    if problems:
        raise ModelError(f"{model} must become hardware as a whole, got problems: {len(problems)}, listed above.")
    if found.estimate is not None:
        console.print(_said(found.estimate, board, clk_mhz))
    click.echo(f"{model}: every layer can be hardened and built")


def _table(layers: tuple[LayerFound, ...]) -> Table:
    table = Table(title="layers, in the order of the graph")
    for name, side in (("layer", "left"), ("operator", "left"), ("weights", "right"), ("bits", "right"),
                       ("scale per", "left"), ("hardware", "left")):  # fmt: skip
        table.add_column(name, justify=side)  # type: ignore[arg-type]
    for layer in layers:
        shape = "x".join(map(str, layer.shape))
        bits = "-" if layer.bits is None else str(layer.bits)
        becomes = "none: see below" if layer.problems else ", ".join(layer.becomes)
        table.add_row(layer.name, layer.op, f"{layer.weights:,} ({shape})", bits, layer.per or "-", becomes)
    return table


def _said(found: Estimate, board: str, clk_mhz: float) -> str:
    needed = ", ".join(f"{count:,.0f} {kind}" for kind, count in found.resources.items())
    fps = clk_mhz * 1e6 / found.cycles
    return (
        f"estimate on {board}: {needed}, queues not counted; {found.cycles:,} cycles an image ({found.slowest_node}), "
        f"{fps:,.0f} images a second at {clk_mhz:g} MHz"
    )
