# SPDX-License-Identifier: Apache-2.0
"""Take a network of your own, in torch, Brevitas or QONNX, into bitward."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.progress import Progress

from bitward.cli import session
from bitward.cli.train import DATA

if TYPE_CHECKING:
    from bitward.flow.importing import Imported

SECTION = "From a network to hardware"
KEPT = "no model was written; training is kept every 30 seconds: the same command goes on from there"


class Numbers(click.ParamType):
    """Numbers, comma-separated: 0.5 or 0.485,0.456,0.406."""

    name = "numbers"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """The numbers."""
        try:
            return tuple(float(each) for each in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} must be numbers, comma-separated", param, ctx)


@click.command()
@click.argument("source")
@click.option("--weights", type=click.Path(path_type=Path, dir_okay=False), help="Its state_dict, saved by torch.save.")
@click.option("--dataset", help="What its images and labels are, e.g. digits, cifar10, or pictures for class folders.")
@DATA
@click.option("--bits", type=click.IntRange(2, 8), default=4, show_default=True,
              help="Of weights and activations, where the network is plain torch.")  # fmt: skip
@click.option("--activation-bits", type=click.IntRange(2, 8), help="Of activations.  [default: as --bits]")
@click.option("--epochs", type=click.IntRange(min=0), default=0, show_default=True,
              help="Epochs of training behind quantization.")  # fmt: skip
@click.option("--mean", type=Numbers(), default="0", show_default=True, help="What it subtracts from pixels as 0 to 1.")
@click.option("--std", "deviation", type=Numbers(), default="1", show_default=True, help="And then divides by.")
@click.option("--raw", is_flag=True, help="It takes raw pixels, and scales them itself.")
@click.option("--input", "pixels", help="Integer type of a QONNX file's input, e.g. UINT8, where the file has none.")
@click.option("--name", help="Of the model.  [default: the function's, or the file's]")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("imported"), show_default=True,
              help="Folder for the model, its card and its flow.")  # fmt: skip
def command(
    source: str, weights: Path | None, dataset: str | None, data: Path | None, bits: int, activation_bits: int | None,
    epochs: int, mean: tuple[float, ...], deviation: tuple[float, ...], raw: bool, pixels: str | None, name: str | None,
    out: Path,
) -> None:  # fmt: skip
    """Take SOURCE into bitward: FILE.py:FUNCTION or MODULE:FUNCTION that returns a torch network, or a QONNX file.

    A network of Brevitas stays as it is. A plain one is quantized without retraining (calibrated with training images),
    and trained for some --epochs if you ask; cut off, that goes on where it was. What is left is NAME.onnx, its card,
    and NAME.yaml, a flow that builds, hardens and attacks it: bitward run OUT/NAME.yaml.

    \b
    Example:
      bitward import mine.py:build --dataset digits --bits 4 --epochs 20 --out mine
    """
    if source.endswith(".onnx"):
        from bitward.flow.importing import import_qonnx

        imported = import_qonnx(Path(source), out, name or Path(source).stem, dataset, pixels)
    else:
        from bitward.flow.importing import import_torch
        from bitward.train.own_recipe import Bits, Own

        if dataset is None:
            raise click.UsageError("--dataset must say what images the network is for: digits, cifar10, pictures ...")
        own = Own(source, weights, Bits(bits, activation_bits or bits), epochs, raw, mean, deviation)
        called = name or source.rpartition(":")[2]
        with Progress(console=session().console, transient=True) as bars:
            task = bars.add_task(f"import {called}", total=epochs or None)
            imported, adopted = import_torch(own, out, called, dataset, data, lambda: bars.advance(task))
        for step in adopted.steps:
            session().console.print(f"  {step}")
        before = "" if adopted.float_accuracy is None else f" ({adopted.float_accuracy:.2%} in floats)"
        click.echo(f"{adopted.accuracy:.2%} right on the test images{before}")
    _say(imported)


def _say(imported: Imported) -> None:
    problems = imported.survey.all_problems
    for problem in problems:
        click.echo(f"- {problem}")
    click.echo(imported.model)
    if imported.flow is not None:
        click.echo(f"next: bitward run {imported.flow}")
    elif problems:
        click.echo("no hardware can be made of it as it is; bitward check says so again when you mended it")
