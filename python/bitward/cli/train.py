# SPDX-License-Identifier: Apache-2.0
"""Train a network, quantization-aware, over several seeds."""

from __future__ import annotations

from pathlib import Path

import click
from rich.progress import Progress

from bitward.cli import session

SEEDS = click.option("--seeds", help="Comma-separated; the first one is exported.  [default: the network's own]")
DATA = click.option("--data", type=click.Path(path_type=Path),
                    help="Where images given by path lie: a folder or .tar.gz with train/CLASS/* and test/CLASS/*; "
                    "without it, BITWARD_DATA.")  # fmt: skip


@click.command()
@click.argument("network")
@SEEDS
@DATA
@click.option("--cache", type=click.Path(path_type=Path, file_okay=False), default=Path("runs/.trained"),
              show_default=True, help="Folder of trained seeds; what it has is not trained again.")  # fmt: skip
def command(network: str, seeds: str | None, data: Path | None, cache: Path) -> None:
    """Train NETWORK (e.g. digits_cnn, vgg_cifar, unet_relu) and print each seed's test accuracy and the mean."""
    from bitward.train import train_network

    with Progress(console=session().console, transient=True) as progress:
        done = train_network(network, seeds=parse_seeds(seeds), cache=cache, data=data, progress=progress)
    for result in done.results:
        click.echo(f"seed {result.seed}: {result.accuracy:.2%}")
    click.echo(f"mean: {done.mean_accuracy:.2%}")


def parse_seeds(text: str | None) -> tuple[int, ...] | None:
    """The seeds in "0,1,2", None for none; a usage error otherwise."""
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise click.BadParameter(f"seeds must be whole numbers with commas between, got {text!r}") from error
