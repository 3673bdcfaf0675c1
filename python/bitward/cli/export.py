# SPDX-License-Identifier: Apache-2.0
"""Export a trained network to QONNX, with its card."""

from __future__ import annotations

from pathlib import Path

import click
from rich.progress import Progress

from bitward.cli import session
from bitward.cli.train import DATA, PTQ, SEEDS, parse_seeds

SECTION = "From a network to hardware"
KEPT = "finished seeds are kept: the same command goes on from there"


@click.command()
@click.argument("network")
@SEEDS
@DATA
@PTQ
@click.option("--cache", type=click.Path(path_type=Path, file_okay=False), default=Path("runs/.trained"),
              show_default=True, help="Folder of trained seeds; missing ones are trained.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("onnx_models"), show_default=True,
              help="Folder for the model and its card.")  # fmt: skip
def command(network: str, seeds: str | None, data: Path | None, ptq: bool, cache: Path, out: Path) -> None:
    """Write NETWORK.onnx (QONNX) and its card NETWORK.md.

    \b
    Example:
      bitward export digits_cnn --out build
    """
    from bitward.train import export_network, recipe_of, train_network

    with Progress(console=session().console, transient=True) as progress:
        recipe, chosen = recipe_of(network, ptq), parse_seeds(seeds)
        done = train_network(network, seeds=chosen, recipe=recipe, cache=cache, data=data, progress=progress)
    click.echo(export_network(done, out, data))
