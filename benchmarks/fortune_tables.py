# SPDX-License-Identifier: Apache-2.0
"""FORTUNE's tables as Markdown and its figures as PNG, from the summaries of software-only flows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from fortune_paper import Printed

from bitward.explore.seeds import over_seeds
from bitward.statistics import student
from bitward.tools import atomic_write

Key = tuple[str, str]
Found = dict[Key, dict[str, Any]]
NAMES = {"8bit": "8-bit", "5bit": "5-bit", "4bit": "4-bit", "3bit": "3-bit", "p5": "P-5-bit", "p4": "P-4-bit",
         "p3": "P-3-bit"}  # fmt: skip
PROTECTED = ("p5", "p4", "p3")
UNPROTECTED = {"p5": "5bit", "p4": "4bit", "p3": "3bit"}
SPREADS = ("bits", "layers")


@dataclass(frozen=True)
class Cell:
    """What a row loses at a rate: the mean over seeds in points, its interval, each seed's drop, and the indices."""

    spread: str
    ber: float
    drop: float
    low: float
    high: float
    seeds: int
    by_seed: dict[int, float]
    flips: float
    p_drop: float
    rap: float


def cells_of(summary: Mapping[str, Any]) -> list[Cell]:
    """The cells of a row, by spread and rate."""
    found = []
    for (spread, ber), group in over_seeds(summary.get("vulnerability", [])).items():
        rows = group["rows"]
        found.append(
            Cell(
                spread, ber, 100 * group["drop"], 100 * group["low"], 100 * group["high"], group["seeds"],
                {row["seed"]: 100 * row["drop"]["estimate"] for row in rows},
                float(np.mean([row["flips"][0] for row in rows])), float(np.mean([row["p_drop"] for row in rows])),
                float(np.mean([row["rap"] for row in rows])),
            )
        )  # fmt: skip
    return found


def at(cells: Sequence[Cell], spread: str, ber: float) -> Cell | None:
    """The cell of a rate; None where it was not run."""
    return next((cell for cell in cells if cell.spread == spread and np.isclose(cell.ber, ber)), None)


def markdown(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], *notes: str) -> str:
    """A table under its title, notes below."""
    lines = [f"### {title}", "", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([*lines, *(line for note in notes for line in ("", note))])


def table_1(found: Found, paper: Mapping[str, Mapping[int, float]]) -> str:
    """Accuracy without faults, ours with its interval between seeds, the paper's beside it."""
    rows = []
    for (network, row), summary in found.items():
        bits = int(NAMES[row].removeprefix("P-").removesuffix("-bit"))
        if row in PROTECTED:
            continue  # protection changes no accuracy: the same words are read
        shares = [100 * share for share in summary["accuracy"].values()]
        floats = [100 * share for share in summary["float_accuracy"].values()]
        each = student(np.array(shares) / 100) if len(shares) > 1 else None
        interval = f" [{100 * each.low:.2f}, {100 * each.high:.2f}]" if each else " (one seed)"
        rows.append(
            (
                f"{network}, width {summary['width']:g}, {NAMES[row]}", f"{np.mean(floats):.2f}",
                f"{np.mean(shares):.2f}{interval}", f"{paper[network][bits]:.2f}",
            )
        )  # fmt: skip
    return markdown(
        "Table I: top-1 accuracy without faults, %", ("network", "float", "ours [95 % between seeds]", "paper"), rows,
        "Ours: networks of the width named, trained here, on all test images. The paper's networks are full-size.",
    )  # fmt: skip


def table_2(
    found: Found, cells: Mapping[Key, Sequence[Cell]], paper: Mapping[Key, Printed], bers: Sequence[float]
) -> str:
    """Memory, vulnerability in both spreads, and the two indices; the paper's values in the same cells, after a bar."""
    rows = []
    for key, summary in found.items():
        printed = paper.get(key)
        base = paper.get((key[0], "8bit"))
        share = f"{100 * summary['memory']['of_8_bit']:.2f}"
        theirs = f" / {100 * printed.memory / base.memory:.2f}" if printed and base else ""
        for number, ber in enumerate(bers):
            both = [at(cells[key], spread, ber) for spread in SPREADS]
            if not any(both):
                continue
            flips = next(cell.flips for cell in both if cell)
            rows.append(
                (
                    f"{key[0]} {NAMES[key[1]]}", f"{summary['memory']['stored_bits']:,}", share + theirs, f"{ber:g}",
                    f"{flips:,.0f}", *(_drop(cell) for cell in both),
                    f"{printed.vulnerability[number]:.2f}" if printed else "-",
                    *(_index(cell) for cell in both), f"{printed.p_drop[number]:.3g}" if printed else "-",
                )
            )  # fmt: skip
    head = (
        "network", "stored bits", "memory, % of 8-bit: ours / paper", "BER", "flips", "points lost, over bits [95 %]",
        "points lost, over layers [95 %]", "paper", "P_drop; RAP, over bits", "P_drop; RAP, over layers",
        "paper's P_drop",
    )  # fmt: skip
    return markdown(
        "Table II: memory, vulnerability, P_drop", head, rows,
        "Software-only. Intervals are between seeds where there are several, else over fault sets. P_drop is an index, "
        "no probability: it has the squared bits as a factor and no upper limit, for a lifetime of 100 s; ours has "
        "each rate's own drop, the paper's table the drop at 3e-4 in every column, and its networks are larger. RAP "
        "has 1 for time: weights are voted once, when they are loaded; the paper's times are of its own loop.",
    )  # fmt: skip


def _drop(cell: Cell | None) -> str:
    if cell is None:
        return "not run"
    drop, low, high = (round(value, 2) + 0.0 for value in (cell.drop, cell.low, cell.high))  # no -0.00
    return f"{drop:.2f} [{low:.2f}, {high:.2f}]"


def _index(cell: Cell | None) -> str:
    return "not run" if cell is None else f"{cell.p_drop:.3g}; {cell.rap:.3g}"


def verdict(worse: Cell | None, better: Cell | None) -> tuple[str, str]:
    """(difference in points with its interval between seeds, whether it "holds": the interval is above 0)."""
    if worse is None or better is None:
        return "not run", "not run"
    both = sorted(set(worse.by_seed) & set(better.by_seed))
    differences = [(worse.by_seed[seed] - better.by_seed[seed]) / 100 for seed in both]
    if len(differences) < 3:
        seeds = f"{len(differences)} {'seed' if len(differences) == 1 else 'seeds'}"
        return f"{100 * np.mean(differences):.2f} ({seeds})" if differences else "-", "not tested"
    found = student(differences)
    text = f"{100 * found.estimate:.2f} [{100 * found.low:.2f}, {100 * found.high:.2f}]"
    return text, "holds" if found.low > 0 else "reversed" if found.high < 0 else "not shown"


def ordering(cells: Mapping[Key, Sequence[Cell]], bers: Sequence[float]) -> str:
    """Whether protected networks lose less than plain 8-bit ones, and than the same width without protection."""
    rows = []
    for network in dict.fromkeys(network for network, _ in cells):
        for row in PROTECTED:
            for plain in ("8bit", UNPROTECTED[row]):
                for spread in SPREADS:
                    for ber in bers:
                        ours, theirs = (at(cells.get((network, name), ()), spread, ber) for name in (row, plain))
                        if ours and theirs:
                            name = f"{network}: {NAMES[plain]} less {NAMES[row]}"
                            rows.append((name, f"{ber:g} over {spread}", *verdict(theirs, ours)))
    return markdown(
        "Does the paper's order hold? Points that the unprotected one loses more",
        ("comparison", "rate", "difference [95 % between seeds]", "verdict"), rows,
        '"holds" only where the interval between at least three training seeds is above 0.',
    )  # fmt: skip


FIGURES = {5: ("drop", "points lost"), 6: ("p_drop", "P_drop, an index"), 7: ("rap", "RAP")}


def figures(found: Found, cells: Mapping[Key, Sequence[Cell]], out: Path) -> None:
    """fig5.png (vulnerability against memory), fig6.png (P_drop) and fig7.png (RAP), a panel a network and spread."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    networks = list(dict.fromkeys(network for network, _ in found))
    for number, (value, label) in FIGURES.items():
        figure, panels = pyplot.subplots(
            len(networks), 2, figsize=(11, 3.6 * len(networks)), squeeze=False, layout="constrained"
        )
        for line, network in zip(panels, networks, strict=True):
            for panel, spread in zip(line, SPREADS, strict=True):
                rows = {row: [cell for cell in cells[name, row] if cell.spread == spread]
                        for name, row in cells if name == network}  # fmt: skip
                (_against_memory if number == 5 else _by_rate)(panel, found, network, rows, value)
                panel.set(title=f"{network}, over {spread} (software-only)", ylabel=label)
        png = BytesIO()
        figure.savefig(png, dpi=110)
        pyplot.close(figure)
        atomic_write(out / f"fig{number}.png", png.getvalue())


def _against_memory(panel: Any, found: Found, network: str, rows: Mapping[str, Sequence[Cell]], value: str) -> None:
    """A series a rate: protected as squares, unprotected as circles, at their share of 8-bit memory."""
    bers = sorted({cell.ber for cells in rows.values() for cell in cells})
    for number, ber in enumerate(bers):
        for row, cells in rows.items():
            cell = next((each for each in cells if each.ber == ber), None)
            if cell is None:
                continue
            memory = 100 * found[network, row]["memory"]["of_8_bit"]
            mark = "s" if row in PROTECTED else "o"
            label = f"{ber:g}" if row == next(iter(rows)) else None
            spread = [[max(0.0, cell.drop - cell.low)], [max(0.0, cell.high - cell.drop)]]
            panel.errorbar(memory, getattr(cell, value), spread, fmt=mark, color=f"C{number}", label=label, ms=5, lw=1)
            if number == len(bers) - 1:
                panel.annotate(NAMES[row], (memory, cell.drop), xytext=(4, 4), textcoords="offset points", fontsize=7)
    panel.set_xlabel("stored bits, % of unprotected 8-bit words")
    if bers:
        panel.legend(title="BER", fontsize=7)


def _by_rate(panel: Any, found: Found, network: str, rows: Mapping[str, Sequence[Cell]], value: str) -> None:
    """A series a row, over the rate."""
    for row, cells in rows.items():
        if row in PROTECTED or row == "8bit":
            line = sorted(cells, key=lambda cell: cell.ber)
            values = [getattr(cell, value) for cell in line]
            panel.plot([cell.ber for cell in line], values, "s-" if row in PROTECTED else "o-", label=NAMES[row], ms=4)
    panel.set_xscale("log")
    panel.set_xlabel("bit error rate")
    if any(rows.values()):
        panel.legend(fontsize=7)
