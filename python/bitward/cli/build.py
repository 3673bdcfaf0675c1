# SPDX-License-Identifier: Apache-2.0
"""Build RTL, memories, manifest and a simulation model from a QONNX file."""

from __future__ import annotations

import json
from pathlib import Path

import click

from bitward.cli import session
from bitward.cli._board import FILE, BoardKind
from bitward.cli._flow import ModelFile
from bitward.errors import ConfigError
from bitward.tools import room_in

SECTION = "From a network to hardware"
KEPT = "nothing was written; an earlier build in that folder is as it was"

FINN_NOTES = "bitward.finn_notes"  # what of --finn-config was left out, until it can be said


def _finn_config(ctx: click.Context, _: click.Parameter, path: Path | None) -> None:
    """FINN's build configuration gives what the command line does not."""
    if path is None:
        return
    from bitward.hardware.finn_build import read_build

    found = read_build(path)
    ctx.default_map, ctx.meta[FINN_NOTES] = found.options, found.notes


@click.command()
@click.argument("model", type=ModelFile())
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Build directory.")
@click.option("--protect", type=click.Choice(["model", "none", "msb", "tmr", "secded"]), default="model",
              show_default=True,
              help="Weights: as the model says, unprotected, top bits voted, all bits voted, or each memory row a "
              "SEC-DED codeword (a property of the memory alone: neither the QONNX nor bitward harden declares it).",
              )  # fmt: skip
@click.option("--voted", type=click.IntRange(1, 8), default=1, show_default=True, help="Top bits that msb votes.")
@click.option("--bias", type=click.Choice(["model", "none", "tmr"]), default="model", show_default=True,
              help="Biases: as the model says, unprotected, or stored three times and voted.")  # fmt: skip
@click.option("--bias-as", type=click.Choice(["threshold", "add"]), default="threshold", show_default=True,
              help="Biases fold into thresholds (then these are protected), or are integers that hardware adds: those "
              "that are none yet are rounded to whole steps of their layer's sums.")  # fmt: skip
@click.option("--target-fps", type=float, default=100_000.0, show_default=True, help="Images per second to fold for.")
@click.option("--clk-mhz", type=float, default=200.0, show_default=True, help="Clock of the programmable logic.")
@click.option("--board", type=BoardKind(), default="virtual", show_default=True,
              help="Kind of board: virtual, or kv260, whose FINN name KV260_SOM and part name are understood too.",
              )  # fmt: skip
@click.option("--folding", type=FILE,
              help="JSON or YAML of PE, SIMD... by layer, or FINN's folding configuration as it is.")  # fmt: skip
@click.option("--specialize", type=FILE,
              help="FINN's specialize_layers_config_file: checked to ask for nothing but RTL.")  # fmt: skip
@click.option("--finn-config", type=FILE, is_eager=True, expose_value=False, callback=_finn_config,
              help="FINN's build configuration, YAML or JSON: gives what the command line does not.")  # fmt: skip
@click.option(
    "--simulate/--no-simulate",
    default=True,
    show_default=True,
    help="Compile the RTL for simulation, size its queues and measure its cycles; without: RTL only.",
)
@click.option("--fifos", type=click.Choice(["measured", "safe"]), default="measured", show_default=True,
              help="Depths of queues that --folding does not give: as measured in RTL, or safe ones without measuring.",
              )  # fmt: skip
@click.option("--fifo-seconds", type=click.FloatRange(min=0), default=180.0, show_default=True,
              help="Time limit of measuring queues; compiling the model for it comes on top.")  # fmt: skip
@click.option("--saturate", is_flag=True, help="Let sign folding change a weight of -2^(b-1) by one step.")
def command(
    model: Path, out: Path, protect: str, voted: int, bias: str, bias_as: str, target_fps: float, clk_mhz: float,
    board: str, folding: Path | None, specialize: Path | None, simulate: bool, fifos: str, fifo_seconds: float,
    saturate: bool,
) -> None:  # fmt: skip
    """Build the QONNX file MODEL into the folder given by --out: RTL, manifest, golden memories, Verilator model.

    \b
    Example:
      bitward build onnx_models/digits_cnn.onnx --protect msb --target-fps 1e6 --out build/hardened
    """
    from bitward.hardware.build import build
    from bitward.hardware.declare import BuildOptions
    from bitward.hardware.finn_config import read_config

    if protect != "msb" and voted != 1:
        raise ConfigError(f"--voted must go with --protect msb, got {voted} with {protect}: name msb, or leave it out")
    options = BuildOptions(
        protect=protect,  # type: ignore[arg-type]
        voted=voted,
        bias=bias,  # type: ignore[arg-type]
        bias_as=bias_as,  # type: ignore[arg-type]
        target_fps=target_fps,
        clk_mhz=clk_mhz,
        board=board,
        folding={} if folding is None else read_config(folding, "--folding"),
        specialize={} if specialize is None else read_config(specialize, "--specialize"),
        saturate_signs=saturate,
        simulate=simulate,
        fifos=fifos,  # type: ignore[arg-type]
        fifo_limit_s=fifo_seconds,
    )
    console = session().console
    for note in click.get_current_context().meta.get(FINN_NOTES, []):
        console.print(f"  {note}", highlight=False)
    with console.status("build") as status, room_in(out):
        manifest = build(model, out, options, progress=lambda step: status.update(f"build: {step}"))
    record = json.loads((out / "build.json").read_text())
    cycles = record["cycles"]
    for note in [*record["notes"], *record["biases"]]:
        console.print(f"  {note}")
    for memory in manifest.memories:
        console.print(f"  {memory.name:<20} {memory.depth} rows of {memory.width} bits, {memory.scheme}")
    if simulate:
        console.print(
            f"  {cycles['steady_per_image']:g} cycles per image, latency {cycles['latency']:g} (measured in RTL "
            f"simulation), {record['pace']['ratio']:g} of the bound of {record['pace']['slowest_node']}"
        )
    click.echo(out)
