# SPDX-License-Identifier: Apache-2.0
"""A measurement beside published figures of the same board, each with where it comes from.

The networks and accelerators differ: rows tell what was measured where.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .measure import NOT_MEASURED, Measurement

HEADINGS = ("design", "FPS", "W", "J per image", "where the figures come from")
PAPER = "J. Gutierrez-Zaballa et al., Designing DNNs for a trade-off between robustness and processing performance"
CAPTION = f"""[1] {PAPER}, Table IV: a B4096 DPU (Vitis AI 3.5).
Other networks on another accelerator: what was measured where, not which is better."""


@dataclass(frozen=True)
class Compared:
    """One design: its figures, None where not measured, and where they come from."""

    design: str
    fps: float | None
    power_w: float | None
    energy_j: float | None
    source: str


# "Activation runs on CPU" is the paper's own note to its Sigmoid. Power is of the whole module, from its INA260.
PUBLISHED = (
    Compared("U-Net, ReLU", 22.68, 6.62, 0.29, "measured on a KV260 [1]"),
    Compared("U-Net, Sigmoid (on the CPU)", 0.59, 5.74, 9.73, "measured on a KV260 [1]"),
    Compared("U-Net, Hard Sigmoid", 19.83, 6.90, 0.35, "measured on a KV260 [1]"),
)


def compared(measured: Measurement) -> tuple[Compared, ...]:
    """The published rows, then this design: as measured, and by the cycles that its build counted in RTL."""
    source, power = measured.source, measured.power
    watts, joules = (power.busy.value, power.energy_j) if power else (None, None)
    rows = [*PUBLISHED, Compared(source.design, measured.rate.fps, watts, joules, source.says)]
    if source.fps_by_cycles is not None:
        computed = f"computed: {source.cycles_per_image:g} cycles an image in RTL simulation at {source.clk_mhz:g} MHz"
        computed += ", not a measurement on a board"
        rows.append(Compared(source.design, source.fps_by_cycles, None, None, computed))
    return tuple(rows)


def cells(row: Compared) -> tuple[str, ...]:
    """The row as text, one string a heading."""
    figures = ((row.fps, ",.2f"), (row.power_w, ".2f"), (row.energy_j, ".3g"))
    return (row.design, *(NOT_MEASURED if value is None else f"{value:{form}}" for value, form in figures), row.source)


def table(rows: Sequence[Compared]) -> str:
    """Headings, rows and caption as plain text, columns aligned."""
    texts = [HEADINGS, *(cells(row) for row in rows)]
    widths = [max(len(text[column]) for text in texts) for column in range(len(HEADINGS))]
    aligned = [
        "  ".join(cell.ljust(width) for cell, width in zip(text, widths, strict=True)).rstrip() for text in texts
    ]
    return "\n".join([*aligned, CAPTION])
