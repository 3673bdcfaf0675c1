# SPDX-License-Identifier: Apache-2.0
"""A build measured where it runs: what `bitward_runtime.measure` needs to know of it, and what the engine predicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from bitward_runtime.measure import Measurement, Plan, measure
from bitward_runtime.source import sensor_of, source_of

from bitward.engine.graph import stream_ends
from bitward.errors import BoardError, ConfigError
from bitward.flow.attack import Place
from bitward.flow.boards import connections_of, places_of
from bitward.flow.run import Run
from bitward.flow.spec import SIDES, Measure, Side
from bitward.hardware.boards import load_board
from bitward.manifest import Io, Manifest
from bitward.tools import atomic_write, output_directory

Images = npt.NDArray[np.int64]


def measure_build(place: Place, images: int, plan: Plan) -> Measurement:
    """The build at `place`, measured with so many random images a batch; the engine says what outputs must be.

    The time of a dataflow design does not depend on pixels. Power is that of the board whose files can be read.
    """
    streamed = random_images(stream_ends(Manifest.load(place.build / "manifest.json")), images)
    expected = None
    if place.on != "engine":
        with Place("engine", place.build).target() as engine:
            expected = engine.infer(streamed)
    with place.target() as target:
        source = source_of(target, place.on, place.build)
        sensor, why = sensor_of(target, source, place.host)
        return measure(target, streamed, source, plan, sensor, why, expected)


def measure_run(run: Run) -> dict[str, dict[str, Any]]:
    """The flow's builds are measured as its section `measure` says; a row of figures for each, None: not measured.

    All of it lies in the run's folder `measured`. BoardError where outputs were not those that the engine predicts.
    """
    section = run.flow.measure or Measure()
    plan = Plan(golden_passes=section.passes, batches=section.batches, transfers=section.transfers)
    found: dict[str, dict[str, Any]] = {}
    for side, place in places_to_measure(run, section).items():
        with run.console.status(f"  measure {side} on {section.host or 'a virtual board'}"):
            measured = measure_build(place, section.images, plan)
        kept, _ = save_measurement(measured, output_directory(run.measured(side).parent) / run.measured(side).name)
        check_golden(measured, f"{kept} keeps them")
        found[side] = measured.row()
    return found


def places_to_measure(run: Run, section: Measure) -> dict[Side, Place]:
    """Which builds are measured where: both on a simulated board, on a real one what was implemented for it."""
    sides: tuple[Side, ...] = SIDES if load_board(section.board).is_simulated else ("hardened",)
    return {side: places_of(run, section.board, side, connections_of(section))[0] for side in sides}


def check_golden(measured: Measurement, kept: str) -> None:
    """Every pass gave what the engine predicts; BoardError where one did not. `kept` says where the samples are."""
    golden = measured.golden
    if not golden.is_identical:
        raise BoardError(
            f"{golden.passes} passes must give what the engine predicts, got {golden.differing} samples that differ: "
            f"{kept}; is a memory upset, or the overlay another build's?"
        )


def random_images(io: Io, count: int, seed: int = 0) -> Images:
    """Images as streamed, shape (count, *io.input.shape): every value of the input's type equally likely."""
    bits = io.input.bits
    least = -(1 << (bits - 1)) if io.input.signed else 0
    return np.random.default_rng(seed).integers(least, least + (1 << bits), (count, *io.input.shape), dtype=np.int64)


def save_measurement(measured: Measurement, path: Path) -> tuple[Path, Path]:
    """`path` holds all of it as JSON, and the file beside it that ends in .csv its one row."""
    table = path.with_suffix(".csv")
    if table == path:
        raise ConfigError(f"--out must name the JSON file, got {path}: the CSV is written beside it")
    atomic_write(path, measured.to_json())
    atomic_write(table, measured.to_csv())
    return path, table
