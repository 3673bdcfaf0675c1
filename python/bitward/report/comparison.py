# SPDX-License-Identifier: Apache-2.0
"""One page for several runs: what each design costs beside what upsets do to it, and the tables as CSV for papers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bitward.errors import ConfigError
from bitward.explore.seeds import over_seeds
from bitward.explore.text import with_interval
from bitward.report import plots
from bitward.report.export import Table, write_tables
from bitward.report.figures import number, percent
from bitward.report.headline import TONES, frames_per_second
from bitward.report.load import SIDES, Missing, RunData, Side, load_run
from bitward.report.plots import Plot, save
from bitward.report.scatter import Dot, scatter, with_front
from bitward.report.software import Section, page
from bitward.report.statistics import Estimate, combine, strata
from bitward.statistics import Interval
from bitward.tools import atomic_write, output_directory

RESOURCES = ("lut", "ff", "bram36", "dsp")
ABSENT = "not measured"
FRONT = "The line joins the Pareto front of the estimates: no other design is cheaper and better."
SAID = (
    "Every figure is from the runs named, each of which has a page of its own; nothing was run for this one.",
    "A critical bit is one whose flip changes the top-1 answer of at least one test image: the share of sampled flips "
    "that do, times the live bits. Configuration memory, flip-flops and FIFOs were not attacked.",
    "Cycles are counted in RTL simulation; frames per second are those cycles at the clock asked for. Boards are "
    "simulated unless a run's own page says otherwise.",
    "Rates of software-only runs are compared on the same images only where their flows ask for the same.",
)


def write_comparison(
    folders: Sequence[Path], out: Path, tables: Path | None = None, figures: Path | None = None
) -> Path:
    """`out` is the page of these runs; in `tables` its tables are as CSV, in `figures` its figures, where given.

    ConfigError: fewer than two runs, one of them twice, or one of a kind that has nothing to compare.
    """
    if len({folder.resolve() for folder in folders}) < max(2, len(folders)):
        raise ConfigError(f"a comparison must have two different runs at least, got {', '.join(map(str, folders))}")
    runs = [load_run(folder) for folder in folders]
    kinds = {str(run.folder): run.summary.get("kind", "hardware") for run in runs}
    other = next((folder for folder, kind in kinds.items() if kind not in ("hardware", "software-only")), None)
    if other is not None:
        raise ConfigError(f"{other} must be a run of hardware or software-only, got a {kinds[other]}: leave it out")
    hardware = [run for run in runs if kinds[str(run.folder)] == "hardware"]
    software = [run for run in runs if kinds[str(run.folder)] == "software-only"]
    charts = {**_critical_bits(hardware), **_vulnerabilities(software)}
    sections = {**_hardware(hardware), **_software(software), **{name: each.section for name, each in charts.items()}}
    if tables is not None:
        write_tables({name: Table(each.columns, each.rows) for name, each in sections.items()}, tables)
    if figures is not None:
        save({name: each.plot for name, each in charts.items()}, output_directory(figures))
    summary = {
        "said": SAID,
        "settings": {run.summary.get("flow", run.folder.name): run.summary.get("settings", {}) for run in runs},
        "versions": _common(runs, "versions") or {},
        "device": "as each run's page says",
        "git": _common(runs, "git") or "differs from run to run",
    }
    names = ", ".join(str(run.summary.get("flow", run.folder.name)) for run in runs)
    chip = "software-only" if not hardware else "simulated"
    text = page(f"{len(runs)} runs", names, "Designs side by side.", list(sections.values()), summary, chip)
    atomic_write(out, text)
    return out


def _common(runs: Sequence[RunData], key: str) -> Any:
    """The value that all runs have; None where they differ."""
    values = [run.summary.get(key) for run in runs]
    return values[0] if all(value == values[0] for value in values) else None


@dataclass(frozen=True)
class Chart:
    """Dots over their axes, for the page and for print."""

    title: str
    dots: Sequence[Dot]
    across: str
    up: str
    small: str

    @property
    def section(self) -> Section:
        """As the page shows it."""
        return Section(self.title, figure=scatter(self.title, self.dots, self.across, self.up), small=self.small)

    @property
    def plot(self) -> Plot:
        """As print shows it."""
        return Plot(plots.scatter(self.title, self.dots, self.across, self.up), f"{self.title}. {self.small}")


def _hardware(runs: Sequence[RunData]) -> dict[str, Section]:
    """Builds: what they cost, and how many of their bits are critical."""
    if not runs:
        return {}
    rows = [_build(run, side, _critical(run, side)) for run in runs for side in SIDES if side in run.manifests]
    costs = Section(
        "Builds",
        ("Build", "Accuracy", "Live bits", "Flips that change a top-1 answer [95 %]", "Interval by", "Cycles an image",
         "Frames a second", *(name.upper() for name in RESOURCES)),
        rows,
        small="Accuracy is on the images that the run verified. Live bits are all stored bits that a computation "
        "reads: weights, thresholds, biases, copies and check bits. Resources are Yosys' counts, out of context. "
        "Frames a second at the clock asked for.",
    )  # fmt: skip
    return {"builds": costs}


def _critical_bits(runs: Sequence[RunData]) -> dict[str, Chart]:
    """Critical bits against memory: nothing where no build was sampled."""
    dots = [dot for run in runs for side in SIDES if (dot := _dot(run, side, _critical(run, side))) is not None]
    small = (
        "Circles are plain builds, squares hardened ones, with 95 % intervals. Further down is safer, further left "
        f"cheaper. {FRONT}"
    )
    title, across, up = "Critical bits against memory", "live bits, thousands", "critical bits, thousands"
    return {"critical": Chart(title, with_front(dots), across, up, small)} if dots else {}


def _critical(run: RunData, side: Side) -> Estimate | None:
    trials = run.trials(f"strata-{side}")
    if isinstance(trials, Missing) or side not in run.manifests:
        return None
    return combine(strata(run.manifests[side], trials.table), "top1_changed")


def _live(run: RunData, side: Side) -> int:
    return sum(memory.population for memory in run.manifests[side].memories)


def _name(run: RunData, side: Side) -> str:
    return f"{run.summary.get('flow', run.folder.name)}, {TONES[side].lower()}"


def _build(run: RunData, side: Side, critical: Estimate | None) -> tuple[str, ...]:
    accuracy = run.figure("verify", side, "accuracy")
    cycles, clock = run.figure("steady_cycles_per_image", side), run.figure("clk_mhz")
    known = not isinstance(cycles, Missing) and not isinstance(clock, Missing)
    total = run.figure("resources", side, "total")
    counts: Mapping[str, Any] = {} if isinstance(total, Missing) else total
    return (
        _name(run, side),
        ABSENT if isinstance(accuracy, Missing) else percent(accuracy, 2),
        number(_live(run, side)),
        ABSENT if critical is None else _share(critical),
        "" if critical is None else critical.method,
        ABSENT if isinstance(cycles, Missing) else number(cycles),
        frames_per_second(cycles, clock).removesuffix(" frames/s") if known else ABSENT,
        *(number(counts[name]) if name in counts else ABSENT for name in RESOURCES),
    )


def _share(found: Estimate) -> str:
    return f"{percent(found.value)} [{percent(found.low)}, {percent(found.high)}]"


def _dot(run: RunData, side: Side, critical: Estimate | None) -> Dot | None:
    if critical is None:
        return None
    live = _live(run, side) / 1000
    low, at, high = (live * share for share in (critical.low, critical.value, critical.high))
    says = f"{_name(run, side)}: {at:.3g} thousand critical bits of {live:.4g}"
    return Dot(live, at, low, high, str(run.summary.get("flow", run.folder.name)), says, side)


def _software(runs: Sequence[RunData]) -> dict[str, Section]:
    """Stored networks: what each loses at each rate."""
    found: dict[str, Section] = {}
    cells = {run.summary["flow"]: over_seeds(run.summary.get("vulnerability", [])) for run in runs}
    rates = sorted({key for each in cells.values() for key in each})
    if runs:
        columns = ("Network, stored as", "Accuracy", "Stored bits", "Memory, % of 8-bit words")
        rows = [
            (
                run.summary["flow"], percent(run.summary["accuracy_mean"], 2),
                number(run.summary["memory"]["stored_bits"]), f"{100 * run.summary['memory']['of_8_bit']:.2f}",
                *(_lost(cells[run.summary["flow"]].get(rate)) for rate in rates),
            )
            for run in runs
        ]  # fmt: skip
        lost = tuple(f"Points lost, {ber:g} over {spread} [95 %]" for spread, ber in rates)
        small = "Intervals are between training seeds where there are several, else over fault sets. Software-only."
        found["networks"] = Section("Stored networks", (*columns, *lost), rows, small=small)
    return found


def _vulnerabilities(runs: Sequence[RunData]) -> dict[str, Chart]:
    """Points lost against memory, for either spread at its highest rate."""
    cells = {run.summary["flow"]: over_seeds(run.summary.get("vulnerability", [])) for run in runs}
    rates = sorted({key for each in cells.values() for key in each})
    found = {}
    for spread in dict.fromkeys(spread for spread, _ in rates):
        ber = max(rate for of, rate in rates if of == spread)
        dots = [dot for run in runs if (dot := _soft_dot(run, cells[run.summary["flow"]].get((spread, ber))))]
        found[f"vulnerability-{spread}"] = Chart(
            f"Vulnerability against memory, {ber:g} over {spread}", with_front(dots),
            "stored bits, % of unprotected 8-bit words", "points lost",
            f"Circles are plain, squares protected, with 95 % intervals. {FRONT}",
        )  # fmt: skip
    return found


def _lost(cell: Mapping[str, Any] | None) -> str:
    return ABSENT if cell is None else with_interval(_interval(cell))


def _interval(cell: Mapping[str, Any]) -> Interval:
    first = cell["rows"][0]["drop"]
    return Interval(**{**first, "estimate": cell["drop"], "low": cell["low"], "high": cell["high"]})


def _soft_dot(run: RunData, cell: Mapping[str, Any] | None) -> Dot | None:
    if cell is None:
        return None
    summary = run.summary
    low, at, high = (100 * cell[name] for name in ("low", "drop", "high"))
    protected = summary["memory"]["stored_bits"] > summary["memory"]["plain_bits"]
    says = f"{summary['flow']}: {with_interval(_interval(cell))} points lost"
    return Dot(
        100 * summary["memory"]["of_8_bit"], at, low, high, summary["flow"], says, "hardened" if protected else "plain"
    )
