# SPDX-License-Identifier: Apache-2.0
"""What the flow's builds do a second, and what they take, beside a paper's KV260: each row with where it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bitward_runtime.comparison import CAPTION, PUBLISHED, Compared, cells, compared
from bitward_runtime.measure import NOT_MEASURED, PERCENTILES, Measurement

from bitward.report.load import SIDES, RunData, Side

Kind = Literal["published", "measured", "simulated", "computed"]
NOT_GIVEN = "not given"
CAPTION_LINES = CAPTION.splitlines()


@dataclass(frozen=True)
class MeasuredRow:
    """One design as text. `kind` says how much it tells of a KV260; `side` is None where the design is not the flow's.

    `latency` are three percentiles, or one figure for all of them where cycles were counted.
    """

    kind: Kind
    side: Side | None
    design: str
    fps: str
    latency: tuple[str, ...]
    power: str
    energy: str
    source: str


def measured_rows(run: RunData) -> list[MeasuredRow]:
    """The published figures, then each build's: measured on a board, or computed and simulated. Empty where none is."""
    if not run.measured:
        return []
    rows = [_row("published", None, row, (NOT_GIVEN,) * len(PERCENTILES)) for row in PUBLISHED]
    for side in SIDES:
        if side in run.measured:
            rows += _of(side, run.measured[side])
    return rows


def measured_notes(run: RunData) -> list[str]:
    """What belongs beside the figures: passes that had to be identical, how much was timed, why there are no watts."""
    return [f"{side.capitalize()}: {_note(run.measured[side])}" for side in SIDES if side in run.measured]


def is_on_a_board(run: RunData) -> bool:
    """Whether anything was measured on what is not simulated."""
    return any(_kind(measured) == "measured" for measured in run.measured.values())


def _of(side: Side, measured: Measurement) -> list[MeasuredRow]:
    """By the cycles counted in RTL, where a build counted them; and as the clock of the host saw it."""
    timed, *computed = compared(measured)[len(PUBLISHED) :]
    source, latency = measured.source, measured.latency
    rows = []
    for row in computed:
        cycles = source.latency_cycles
        one = NOT_MEASURED if cycles is None else f"{cycles / source.clk_mhz:,.3g} µs, an image alone"
        rows.append(_row("computed", side, row, (one,)))
    each = tuple(map(_milliseconds, (latency.p50_s, latency.p95_s, latency.p99_s)))
    return [*rows, _row(_kind(measured), side, timed, each)]


def _row(kind: Kind, side: Side | None, row: Compared, latency: tuple[str, ...]) -> MeasuredRow:
    design, fps, power, energy, source = cells(row)
    if row.fps is not None and row.fps >= 1000:
        fps = f"{row.fps:,.0f}"
    return MeasuredRow(kind, side, design, fps, latency, power, energy, source.removeprefix(f"{kind}: "))


def _kind(measured: Measurement) -> Kind:
    return "simulated" if measured.row()["simulated"] else "measured"


def _milliseconds(seconds: float | None) -> str:
    return NOT_MEASURED if seconds is None else f"{1e3 * seconds:.3g} ms"


def _note(measured: Measurement) -> str:
    golden, rate, power = measured.golden, measured.rate, measured.power
    says = (
        f"{golden.passes} passes of {golden.images} images before, {golden.differing} samples other than "
        f"{golden.against}; {len(rate.batch_s)} batches of {rate.images_per_batch} images and "
        f"{measured.latency.transfers} single ones timed on {measured.source.name}, times are the host's. "
    )
    if power is None:
        return f"{says}Power not measured: {measured.why_no_power}."
    return (
        f"{says}Power {_with(power.busy.value, power.busy.error)} W, "
        f"idle {_with(power.idle.value, power.idle.error)} W; "
        f"energy per image {_with(power.energy_j, power.energy_error_j)} J, above idle "
        f"{_with(power.net_energy_j, power.net_energy_error_j)} J; ± is one standard error."
    )


def _with(value: float, error: float | None) -> str:
    return f"{value:.3g} ± {error:.2g}" if error is not None else f"{value:.3g} (error {NOT_MEASURED})"
