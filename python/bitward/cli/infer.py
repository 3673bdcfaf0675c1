# SPDX-License-Identifier: Apache-2.0
"""Run inputs through a build on the engine, the RTL or a board."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from bitward.cli._board import board_options
from bitward.cli._options import Titled
from bitward.errors import ConfigError, reason_of
from bitward.tools import atomic_path

if TYPE_CHECKING:
    from bitward_runtime.connection import Connection

SECTION = "Boards"


@click.command(cls=Titled)
@click.argument("build_dir", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.argument("inputs", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("outputs", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--on", type=click.Choice(["engine", "rtl", "board"]), default="rtl", show_default=True,
              help="Software prediction, RTL simulation, or a board.")  # fmt: skip
@board_options()
def command(build_dir: Path, inputs: Path, outputs: Path, on: str, connection: Connection) -> None:
    """Run the arrays of INPUTS.npy through the build in DIR; write what the network gives to OUTPUTS.npy.

    Arrays are as the ONNX graph takes and returns them, images along axis 0; the host scales and quantizes
    at the edges.

    \b
    Example:
      bitward infer runs/digits/build/hardened inputs.npy outputs.npy --on board
    """
    from bitward.engine.graph import stream_ends
    from bitward.flow.attack import Place
    from bitward.manifest import apply_edge

    images = _load(inputs)
    place = Place(on, build_dir, connection.host, connection.port, connection.credentials)  # type: ignore[arg-type]
    with place.target() as target:
        io = stream_ends(target.manifest)
        streamed = apply_edge(io.pre, images)
        if not np.array_equal(streamed, np.round(streamed)):
            raise ConfigError(f"inputs must be whole numbers ({io.input.datatype}), got fractions in {inputs}")
        results = apply_edge(io.post, target.infer(streamed.astype(np.int64)))
    with atomic_path(outputs) as partial, open(partial, "wb") as file:
        np.save(file, results)
    click.echo(outputs)


def _load(path: Path) -> np.ndarray:
    try:
        images = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ConfigError(
            f"{path} must be an .npy file of numbers, got {reason_of(error)}: numpy.save writes one"
        ) from error
    if images.dtype.kind not in "iuf" or images.ndim < 2:
        raise ConfigError(f"inputs must be images along axis 0, got {images.dtype} of shape {images.shape} in {path}")
    return images
