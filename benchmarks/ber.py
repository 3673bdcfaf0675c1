# SPDX-License-Identifier: Apache-2.0
"""Bit error rates: what a trial costs, and how few image evaluations an interval of half a point takes.

    python benchmarks/ber.py sample resnet18-fp32 --rates 1e-5 1e-4 1e-3 --trials 10 --json FILE
    python benchmarks/ber.py split small-int8 --rates 1e-3 --data CIFAR10 --weights small-800.pt --json FILE

"sample" draws trials of a network's weights, writes them into the engine's memories in place, and restores these, each
timed by itself; beside it the usual way to draw, a random number for every bit. Times are of this process' one thread
on the processor (what a busy machine adds is left out; "wall" in the JSON has it).

"split" finds where the variance of the accuracy lost under a rate comes from: a pilot of fault sets x images is run and
taken apart into components; from these follow the repetitions and images that reach the half-width at least time. This
split is then run --check times, each with fault sets and images of its own: the spread of the results must be the one
that was computed. How many repetitions of 10,000 images each (--usual-images) would be needed is computed, from the
components of all repetitions of the check (of the pilot where --check is 0).

A case is small|resnet18 - fp32|int8 (benchmarks/fault_injection.py). --weights: its trained parameters; without them
and with --data it is trained first, without both it is random (for "sample" alone).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from fault_injection import MODELS, STEPS, train
from scipy import stats

from bitward.datasets import Dataset, load_dataset
from bitward.engine.pytorch import TorchEngine, as_float32, as_integers
from bitward.faults import Ber, Trial
from bitward.statistics import Components, Costs, Split, best_split, split_for, standard_error, variance_components
from bitward.tools import atomic_write

CONFIDENCE = 0.95
FIRST_CHECK = 1_000_000  # trials of the check: none is the pilot's
Found = TypeVar("Found")
Array = np.ndarray


def timed(work: Callable[[], Found]) -> tuple[Found, float, float]:
    """What the work gives, seconds on the processor, and by the clock."""
    wall, process = time.perf_counter(), time.process_time()
    found = work()
    return found, time.process_time() - process, time.perf_counter() - wall


def engine_of(case: str, weights: Path | None, data: Dataset | None, steps: int | None) -> TorchEngine:
    """The engine that holds the case's network, its weights as memories."""
    name, form = case.split("-")
    torch.manual_seed(0)
    network = MODELS[name]()
    if weights is not None:
        network.load_state_dict(torch.load(weights))
    elif data is not None:
        labels = torch.from_numpy(np.asarray(data.train_labels))
        train(network, torch.from_numpy(scaled(data.train_images)), labels, steps or STEPS[name])
    else:
        with torch.no_grad():
            network.train()(torch.randn(8, 3, 32, 32))  # batch norm has statistics of something
    if form == "int8":
        return TorchEngine(network, as_integers(8), case)
    return TorchEngine(network, lambda *tensor: as_float32(*tensor) if tensor[1] == "weight" else None, case)


def scaled(images: Array) -> Array:
    """Pictures of bytes as the networks take them."""
    return np.asarray(images, dtype=np.float32) / 128 - 1


# -- what a trial costs ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sampled:
    """A rate's trials: flips (mean, least, most), and median seconds of each step on the processor and by the clock."""

    ber: float
    flips: tuple[float, int, int]
    seconds: dict[str, float]
    wall: dict[str, float]


def sample(engine: TorchEngine, ber: float, trials: int, seed: int) -> Sampled:
    """Trials are drawn, written and undone; every weight is as it was afterwards, bit for bit (ValueError if not)."""
    model = Ber(engine.manifest, seed, ber=ber)
    golden = [engine.stored(memory.name).tensor.clone() for memory in engine.manifest.memories]
    model.trial(0)  # tables that are made once
    flips, taken, wall = [], [], []
    for number in range(1, trials + 1):
        trial, *draw = timed(lambda number=number: model.trial(number))
        _, *write = timed(lambda trial=trial: engine.inject(trial))
        _, *undo = timed(engine.restore)
        flips.append(len(trial))
        taken.append([draw[0], write[0], undo[0]])
        wall.append([draw[1], write[1], undo[1]])
    for memory, values in zip(engine.manifest.memories, golden, strict=True):
        if not torch.equal(values.view(torch.int32), engine.stored(memory.name).tensor.view(torch.int32)):
            raise ValueError(f"memory {memory.name} must be restored bit for bit, got other values")
    steps = ("draw", "write", "restore")
    medians = [dict(zip(steps, np.median(times, axis=0).tolist(), strict=True)) for times in (taken, wall)]
    return Sampled(ber, (float(np.mean(flips)), min(flips), max(flips)), *medians)


def full_mask(engine: TorchEngine, ber: float) -> int:
    """The usual draw: a number for every bit, those below the rate are flips; how many they are."""
    flips = 0
    for memory in engine.manifest.memories:
        mask = torch.rand(memory.parameters, memory.width) < ber
        flips += int(mask.sum())
    return flips


def run_sample(given: argparse.Namespace) -> dict[str, Any]:
    """Every rate of the case."""
    engine = engine_of(given.case, given.weights, None, None)
    full_mask(engine, 1e-3)
    masks = [timed(lambda: full_mask(engine, 1e-3))[1:] for _ in range(2)]
    rows = [sample(engine, ber, given.trials, given.seed) for ber in given.rates]
    return {
        "kind": "sample", "case": given.case, "weights": sum(m.parameters for m in engine.manifest.memories),
        "bits": engine.manifest.population, "trials": given.trials, "rows": [asdict(row) for row in rows],
        "mask_seconds": min(seconds for seconds, _ in masks), "mask_wall": min(wall for _, wall in masks),
    }  # fmt: skip


def sample_table(found: dict[str, Any]) -> str:
    """Milliseconds of each step."""
    lines = [
        f"`{found['case']}`: {found['weights']:,} weights, {found['bits']:,} stored bits, {found['trials']} trials a "
        "rate, median ms on one thread",
        "",
        "| bit error rate | flips a trial: mean (range) | draw | write in place | restore | sum | full mask, draw |",
        "|---" * 7 + "|",
    ]
    for row in found["rows"]:
        mean, least, most = row["flips"]
        steps = [1000 * row["seconds"][step] for step in ("draw", "write", "restore")]
        cells = [
            f"{row['ber']:g}",
            f"{mean:,.0f} ({least:,} to {most:,})",
            *(f"{ms:.1f}" for ms in [*steps, sum(steps)]),
        ]
        lines.append(f"| {' | '.join(cells)} | {1000 * found['mask_seconds']:,.0f} |")
    return "\n".join(lines)


# -- how many repetitions, and images each -----------------------------------------------------------------------------


class Bench:
    """A network, its test images, and which of them it has right without faults."""

    def __init__(self, engine: TorchEngine, data: Dataset, most: int | None = None) -> None:
        """At most the first `most` test images, which are in random order."""
        self.engine = engine
        order = np.random.default_rng(0).permutation(len(data.test_images))[:most]
        self.images = scaled(data.test_images[order])
        self.labels = np.asarray(data.test_labels)[order]
        self.right = np.concatenate(
            [
                self._right(np.arange(first, min(first + 500, len(self.images))))
                for first in range(0, len(self.images), 500)
            ]
        )

    def _right(self, chosen: Array) -> Array:
        return self.engine.infer(self.images[chosen]).argmax(axis=1) == self.labels[chosen]

    def losses(self, trial: Trial, chosen: Array) -> Array:
        """Per image 1: right before and wrong under the faults; -1: the reverse; else 0."""
        self.engine.inject(trial)
        try:
            return self.right[chosen].astype(np.int8) - self._right(chosen)
        finally:
            self.engine.restore()

    def some(self, count: int, random: np.random.Generator) -> Array:
        """So many different test images."""
        return random.choice(len(self.images), count, replace=False)

    def costs(self, model: Ber, random: np.random.Generator) -> Costs:
        """Seconds of a repetition (fault set drawn, written, undone; the network called) and of an image."""
        many, times = min(64, len(self.images)), []
        for number in range(5):
            trial, draw, _ = timed(lambda number=number: model.trial(number))
            one, few = (timed(lambda n=n, t=trial: self.losses(t, self.some(n, random)))[1] for n in (1, many))
            image = max(0.0, few - one) / (many - 1)
            times.append((draw + max(0.0, one - image), image))
        repetition, image = np.median(times, axis=0)
        return Costs(float(repetition), float(image))


@dataclass(frozen=True)
class Check:
    """The split, run `runs` times: the spread of the results, what it was to be, and how often intervals held.

    `low` and `high`: where 99 % of such spreads lie if the computed standard error is right (chi-squared). `covered`:
    how many of the runs' own intervals hold the mean of all runs. `components` are those of all repetitions together
    (images and rest as one: each repetition has images of its own), from far more fault sets than the pilot's.
    """

    runs: int
    standard_error: float
    spread: float
    low: float
    high: float
    covered: int
    half_width: float
    mean: float
    components: Components

    @property
    def agrees(self) -> bool:
        """Whether the spread is one that the standard error explains."""
        return self.low <= self.spread <= self.high


def check(bench: Bench, model: Ber, plan: Split, found: Components, runs: int, random: np.random.Generator) -> Check:
    """The plan is run so often, with fault sets and images that no other run has had."""
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, plan.repetitions - 1)
    values, within = np.zeros((2, runs, plan.repetitions))
    for number, place in enumerate(np.ndindex(runs, plan.repetitions)):
        losses = bench.losses(model.trial(FIRST_CHECK + number), bench.some(plan.images, random))
        values[place], within[place] = losses.mean(), losses.var(ddof=1)
    means, widths = values.mean(axis=1), quantile * values.std(axis=1, ddof=1) / plan.repetitions**0.5
    expected = float(standard_error(found, plan.repetitions, plan.images, "fresh"))
    low, high = (expected * (stats.chi2.ppf(at, runs - 1) / (runs - 1)) ** 0.5 for at in (0.005, 0.995))
    covered = int(np.sum(np.abs(means - means.mean()) <= widths))
    single = float(within.mean())
    again = Components(max(0.0, float(values.var(ddof=1)) - single / plan.images), 0.0, single)
    spread = float(means.std(ddof=1))
    result = (runs, expected, spread, float(low), float(high), covered, float(np.median(widths)), float(means.mean()))
    return Check(*result, again)


def split(bench: Bench, ber: float, given: argparse.Namespace) -> dict[str, Any]:
    """One rate: the pilot, its components, the plans they give, and the check of the chosen one."""
    model = Ber(bench.engine.manifest, given.seed, ber=ber)
    random = np.random.default_rng([given.seed, round(ber * 1e9)])
    costs = bench.costs(model, random)
    chosen, trials = bench.some(given.pilot_images, random), [model.trial(number) for number in range(given.pilot_sets)]
    table = np.array([bench.losses(trial, chosen) for trial in trials])
    found = variance_components(table)
    plan = best_split(found, given.half_width, given.usual_images, CONFIDENCE, costs)
    fewest = best_split(found, given.half_width, given.usual_images, CONFIDENCE)
    result = check(bench, model, plan, found, given.check, random) if given.check else None
    flips = [len(trial) for trial in trials]
    return {
        "ber": ber, "flips": (float(np.mean(flips)), min(flips), max(flips)), "components": asdict(found),
        "pilot": {"sets": given.pilot_sets, "images": given.pilot_images, "mean_loss": float(table.mean())},
        "costs": asdict(costs), "plan": asdict(plan), "fewest": asdict(fewest),
        **compared(result.components if result else found, plan.images, costs, given, table.size),
        "check": None if result is None else asdict(result), "agrees": result is None or result.agrees,
    }  # fmt: skip


def compared(
    found: Components, images: int, costs: Costs, given: argparse.Namespace, pilot: int
) -> dict[str, dict[str, Any] | float]:
    """The usual way and repetitions of so many images, both for the same half-width, by the best components known."""
    usual, needed = (
        split_for(found, given.half_width, each, CONFIDENCE, costs) for each in (given.usual_images, images)
    )
    if usual is None or needed is None:
        raise ValueError(f"a half-width of {given.half_width} must be reachable by repetitions, got none")
    return {
        "usual": asdict(usual), "needed": asdict(needed), "fewer_evaluations": usual.evaluations / needed.evaluations,
        "fewer_with_pilot": usual.evaluations / (needed.evaluations + pilot), "less_time": usual.cost / needed.cost,
    }  # fmt: skip


def run_split(given: argparse.Namespace) -> dict[str, Any]:
    """Every rate of the case."""
    if given.data is None:
        raise SystemExit("--data must name the pictures of CIFAR-10: an accuracy needs a trained network")
    data = load_dataset("cifar10", given.data)
    engine = engine_of(given.case, given.weights, data, given.steps)
    bench = Bench(engine, data, given.test_images)
    rows = [split(bench, ber, given) for ber in given.rates]
    return {
        "kind": "split", "case": given.case, "weights": sum(m.parameters for m in engine.manifest.memories),
        "bits": engine.manifest.population, "accuracy": float(bench.right.mean()), "images": len(bench.images),
        "usual_images": given.usual_images, "half_width": given.half_width, "confidence": CONFIDENCE, "rows": rows,
    }  # fmt: skip


def split_table(found: dict[str, Any]) -> str:
    """What was measured, what follows from it, and what the check says: a column for each rate."""
    columns = [split_facts(row) for row in found["rows"]]
    lines = [
        f"`{found['case']}`: {found['weights']:,} weights, {found['bits']:,} stored bits, {found['accuracy']:.2%} "
        f"right of {found['images']:,} test images; half-width {100 * found['half_width']:g} points at "
        f"{found['confidence']:.0%}",
        "",
        "| bit error rate | " + " | ".join(f"{row['ber']:g}" for row in found["rows"]) + " |",
        "|---" * (len(columns) + 1) + "|",
        *(f"| {fact} | " + " | ".join(column[fact] for column in columns) + " |" for fact in columns[0]),
    ]
    return "\n".join(lines)


def split_facts(row: dict[str, Any]) -> dict[str, str]:
    """One rate's column, in points of accuracy; what was not run is "not measured"."""
    (mean, least, most), pilot = row["flips"], row["pilot"]
    parts = [f"{100 * row['components'][name] ** 0.5:.3g}" for name in ("faults", "images", "residual")]
    names = ("plan", "fewest", "usual", "needed")
    plans = {name: f"{row[name]['repetitions']:,} x {row[name]['images']:,}" for name in names}
    return {
        "flips a trial: mean (range)": f"{mean:,.1f} ({least:,} to {most:,})",
        "measured: pilot, fault sets x images": f"{pilot['sets']:,} x {pilot['images']:,}",
        "measured: accuracy lost in the pilot, points": f"{100 * pilot['mean_loss']:.2f}",
        "measured: standard deviations by the pilot: fault sets, images, rest": ", ".join(parts),
        "computed from the pilot: chosen for time (fewest evaluations)": f"{plans['plan']} ({plans['fewest']})",
        "computed from the check: usual way, the same with few images": f"{plans['usual']}, {plans['needed']}",
        "image evaluations, times fewer (pilot counted)": f"{row['fewer_evaluations']:.3g} "
        f"({row['fewer_with_pilot']:.3g})",
        "processor time, times less": f"{row['less_time']:.3g}",
        **check_facts(row["check"]),
    }


def check_facts(ran: dict[str, Any] | None) -> dict[str, str]:
    """What the runs of the split found."""
    facts = dict.fromkeys(CHECKED, "not measured")
    if ran is not None:
        spread, expected, low, high = (100 * ran[name] for name in ("spread", "standard_error", "low", "high"))
        values = (
            f"{ran['runs']}",
            f"{100 * ran['mean']:.2f}",
            f"{100 * ran['components']['faults'] ** 0.5:.3g}",
            f"{spread:.3f}",
            f"{expected:.3f} ({low:.3f} to {high:.3f})",
            f"{100 * ran['half_width']:.2f}",
            f"{ran['covered']} of {ran['runs']}",
        )
        facts = dict(zip(CHECKED, values, strict=True))
    return facts


CHECKED = (
    "check: runs of the chosen split",
    "check, measured: accuracy lost in all of them, points",
    "check, measured: standard deviation of fault sets in all of them",
    "check, measured: spread of the runs' results",
    "check, computed: that spread (99 % of spreads)",
    "check, measured: half-width of the runs' intervals",
    "check, measured: intervals that held the mean of all runs",
)
TABLES = {"sample": sample_table, "split": split_table}


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=[*TABLES, "table"])
    parser.add_argument("case", nargs="+", help="small|resnet18 - fp32|int8; for table: files that --json wrote")
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-5, 1e-4, 1e-3])
    parser.add_argument("--trials", type=int, default=10, help="sample: trials a rate")
    parser.add_argument("--weights", type=Path, help="trained parameters, as torch.save left the state_dict")
    parser.add_argument("--data", type=Path, help="CIFAR-10, as for bitward train")
    parser.add_argument("--steps", type=int, help="of training, where there are no --weights")
    parser.add_argument("--half-width", type=float, default=0.005, help="split: 0.005 is half a point")
    parser.add_argument("--pilot-sets", type=int, default=100)
    parser.add_argument("--pilot-images", type=int, default=100)
    parser.add_argument("--check", type=int, default=20, help="split: how often the chosen split is run")
    parser.add_argument("--test-images", type=int, help="split: only so many, for a large network (default: all)")
    parser.add_argument("--usual-images", type=int, default=10_000, help="split: of a repetition the usual way")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, default=Path("runs/ber.json"))
    return parser.parse_args(arguments)


def main() -> int:
    """Runs a case, or prints the tables of those that ran; 1 where a check's spread is not the computed one."""
    given = parsed()
    if given.what == "table":
        for path in given.case:
            found = json.loads(Path(path).read_text())
            print(TABLES[found["kind"]](found), end="\n\n")
        return 0
    (given.case,) = given.case
    torch.set_num_threads(given.threads)
    found = run_sample(given) if given.what == "sample" else run_split(given)
    given.json.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(given.json, json.dumps(found, indent=1) + "\n")
    print(TABLES[found["kind"]](found))
    return 0 if found["kind"] == "sample" or all(row["agrees"] for row in found["rows"]) else 1


if __name__ == "__main__":
    sys.exit(main())
