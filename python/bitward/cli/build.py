# SPDX-License-Identifier: Apache-2.0
"""Build RTL, memories, manifest and a simulation model from a QONNX file."""

from __future__ import annotations

import json
from pathlib import Path

import click

from bitward.cli import session
from bitward.errors import ConfigError, OutputError


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
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
@click.option("--board", default="virtual", show_default=True, help="Kind of board: virtual or kv260.")
@click.option("--folding", type=click.Path(path_type=Path, dir_okay=False), help="JSON of PE, SIMD... by layer.")
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
    board: str, folding: Path | None, simulate: bool, fifos: str, fifo_seconds: float, saturate: bool,
) -> None:  # fmt: skip
    """Build the QONNX file MODEL into the folder given by --out: RTL, manifest, golden memories, Verilator model."""
    from bitward.hardware.build import BuildOptions, build

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
        folding=_folding(folding),
        saturate_signs=saturate,
        simulate=simulate,
        fifos=fifos,  # type: ignore[arg-type]
        fifo_limit_s=fifo_seconds,
    )
    console = session().console
    with console.status("build") as status:
        manifest = build(model, out, options, progress=lambda step: status.update(f"build: {step}"))
    record = json.loads((out / "build.json").read_text())
    cycles = record["cycles"]
    for note in record["biases"]:
        console.print(f"  {note}")
    for memory in manifest.memories:
        console.print(f"  {memory.name:<20} {memory.depth} rows of {memory.width} bits, {memory.scheme}")
    if simulate:
        console.print(
            f"  {cycles['steady_per_image']:g} cycles per image, latency {cycles['latency']:g} (measured in RTL "
            f"simulation), {record['pace']['ratio']:g} of the bound of {record['pace']['slowest_node']}"
        )
    click.echo(out)


def _folding(path: Path | None) -> dict:
    if path is None:
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise OutputError(f"--folding must be a readable JSON file, got {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"--folding must be JSON, got {path}: {error}") from error
    if not isinstance(found, dict):
        raise ConfigError(f"--folding must map layers to attributes, got a {type(found).__name__} in {path}")
    return found
