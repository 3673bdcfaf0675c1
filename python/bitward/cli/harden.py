# SPDX-License-Identifier: Apache-2.0
"""Put voters on the weights and biases of a QONNX file."""

from __future__ import annotations

from pathlib import Path

import click

from bitward.cli import session
from bitward.cli._flow import ModelFile

SECTION = "From a network to hardware"


@click.command()
@click.argument("model", type=ModelFile())
@click.argument("hardened", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--voted", type=click.IntRange(1, 32), default=1, show_default=True, help="Top bits stored three times.")
@click.option("--layer", "layers", multiple=True, help="Layer to harden (may be repeated); all without it.")
@click.option("--bias", type=click.Choice(["none", "tmr"]), default="none", show_default=True,
              help="Biases of all layers: as they are, or stored three times and voted.")  # fmt: skip
@click.option("--saturate", is_flag=True, help="Let sign folding change a weight of -2^(b-1) by one step.")
def command(model: Path, hardened: Path, voted: int, layers: tuple[str, ...], bias: str, saturate: bool) -> None:
    """Store the weights of MODEL with copies of their top bits and vote them; write the QONNX to HARDENED.

    The function computed is the same, bit for bit, as long as no bit flips. With --bias tmr, biases that are no
    integers (batch norm's shift among them) are rounded first, by half a step of their layer's sums at most.

    \b
    Example:
      bitward harden onnx_models/digits_cnn.onnx build/hardened.onnx --voted 1
    """
    from bitward.rewrites import harden_model

    done = harden_model(
        model,
        hardened,
        voted=voted,
        layers=layers or None,
        saturate=saturate,
        bias=bias,  # type: ignore[arg-type]
    )
    console = session().console
    for layer, scheme in done.schemes.items():
        console.print(f"  {layer:<16} {scheme.bits} bits stored in {scheme.stored_bits}, {scheme.voted} voted")
    for layer, scheme in done.bias_schemes.items():
        moved = done.rounded_biases.get(layer)
        rounded = "" if moved is None else f", rounded by {moved:.2g} steps at most"
        console.print(f"  {layer:<16} biases of {scheme.bits} bits stored in {scheme.stored_bits}{rounded}")
    for layer, why in done.without_bias.items():
        console.print(f"  {layer:<16} no hardened bias: {why}")
    for norm, count in done.folded_signs.items():
        console.print(f"  {norm}: {count} negative scales folded into weights")
    for layer, count in done.saturated_weights.items():
        console.print(f"  {layer}: {count} weights changed by one step to have a negative")
    click.echo(hardened)
