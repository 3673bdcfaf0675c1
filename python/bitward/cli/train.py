# SPDX-License-Identifier: Apache-2.0
"""Train a network over several seeds, quantized or a classic float one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.progress import Progress

from bitward.cli import session
from bitward.errors import ConfigError

SECTION = "From a network to hardware"
KEPT = "finished seeds are kept: the same command goes on from there"

SEEDS = click.option("--seeds", help="Comma-separated; the first one is exported.  [default: the network's own]")


class DataPath(click.Path):
    """A path that is there, also for a dataset that does not look at it; ~ in it is the home folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path. Raises ConfigError where there is none."""
        path = Path(value).expanduser()
        if not path.exists():
            raise ConfigError(f"--data {path} must be a folder or an archive, got no such path: give where images lie")
        return path


DATA = click.option("--data", type=DataPath(),
                    help="Where images given by path lie: a folder or archive of the dataset; without it, "
                    "BITWARD_DATA.")  # fmt: skip
PTQ = click.option("--ptq", is_flag=True,
                   help="Quantize the network's float twin without retraining (calibration, equalization, bias "
                   "correction), instead of training with quantization in mind.")  # fmt: skip
WIDTH = 1.0


@click.command()
@click.argument("network")
@SEEDS
@DATA
@PTQ
@click.option("--dataset", help="What a classic float network is trained on, e.g. cifar10; the others have their own.")
@click.option("--width", type=float, help="Channels of a classic float network, times this.  [default: 1]")
@click.option("--weights", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="A checkpoint of a classic float network: it is tested, nothing is trained.")  # fmt: skip
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]),
              help="Where a classic float network is trained.  [default: auto]")  # fmt: skip
@click.option("--cache", type=click.Path(path_type=Path, file_okay=False), default=Path("runs/.trained"),
              show_default=True, help="Folder of trained seeds; what it has is not trained again.")  # fmt: skip
def command(
    network: str, seeds: str | None, data: Path | None, ptq: bool, dataset: str | None, width: float | None,
    weights: Path | None, device: str | None, cache: Path,
) -> None:  # fmt: skip
    """Train NETWORK (e.g. digits_cnn, vgg_cifar, or a classic one as resnet18); print each seed's test accuracy.

    Classic float networks (alexnet, googlenet, resnet18, vgg11_bn) also take --dataset, which they need, --width,
    --weights and --device. Those that label pixels (hsi_unet3_relu) also print intersections over unions.

    \b
    Examples:
      bitward train digits_cnn
      bitward train resnet18 --dataset cifar10 --width 0.5 --seeds 0,1
    """
    from bitward.train import ClassicRun, TrainingRun, recipe_of, train_classic, train_network

    done: ClassicRun | TrainingRun
    chosen = parse_seeds(seeds)
    with Progress(console=session().console, transient=True) as progress:
        if is_classic(network):
            if ptq:
                raise click.UsageError(f"--ptq is for quantized networks, and {network} is a classic float one")
            done = train_classic(
                network, _needed(network, dataset), width=WIDTH if width is None else width, seeds=chosen or (0,),
                cache=cache, data=data, weights=weights, device=device or "auto", progress=progress,
            )  # fmt: skip
        else:
            _refuse(network, dataset=dataset, width=width, weights=weights, device=device)
            recipe = recipe_of(network, ptq)
            done = train_network(network, seeds=chosen, recipe=recipe, cache=cache, data=data, progress=progress)
    for result in done.results:
        click.echo(f"seed {result.seed}: {result.accuracy:.2%}" if weights is None else f"{result.accuracy:.2%}")
        for name, score in (result.scores or {}).items():
            if name != "accuracy":
                click.echo(f"  {name}: {score:.2%}")
    if weights is None:
        click.echo(f"mean: {done.mean_accuracy:.2%}")


def is_classic(network: str) -> bool:
    """Whether the name is that of a classic float network, not of a quantized one; ConfigError where it is of none."""
    from bitward.classic import classic_names
    from bitward.errors import ConfigError, nearest
    from bitward.networks import network_names

    known = (*network_names(), *classic_names())
    if network not in known:
        raise ConfigError(f"network must be a known name, got '{network}'; {nearest(network, known)}")
    return network in classic_names()


def _needed(network: str, dataset: str | None) -> str:
    from bitward.errors import ConfigError

    if dataset is None:
        raise ConfigError(f"--dataset must be given for {network}, got none: choose one, e.g. --dataset cifar10")
    return dataset


def _refuse(network: str, **options: object) -> None:
    """No option of the classic networks was given."""
    from bitward.errors import ConfigError

    for name, value in options.items():
        if value is not None:
            raise ConfigError(
                f"--{name} must be left out for {network}, which is quantized and has its own, got {value}: only "
                "classic float networks take it"
            )


def parse_seeds(text: str | None) -> tuple[int, ...] | None:
    """The seeds in "0,1,2", None for none; a usage error otherwise."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise click.BadParameter(f"--seeds must be whole numbers from 0 on with commas between, got {text!r}")
    return tuple(map(int, parts))
