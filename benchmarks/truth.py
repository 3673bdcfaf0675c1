# SPDX-License-Identifier: Apache-2.0
"""Every fault of one small network, and whether the estimators find from a sample what all of them say.

    python benchmarks/truth.py --store runs/truth --campaigns 1000 --json FILE

A convolutional network of 1,352 weights on the digits, int8: each stored bit of each weight is flipped, one trial each,
by a campaign of `bitward.campaign` on the torch engine (its store is --store: killed, it goes on there). A share of the
verdicts is computed again by a loop that writes the bit, runs everything and restores (--verify faults); one that
differs ends the benchmark. That table is the truth. From it campaigns are drawn, --campaigns of each kind, and
estimated: the table printed says how often the 95 % interval at the end of a campaign held the true value, and after
how many trials. Guaranteed methods must cover at least nominally, less the noise of so many campaigns; a Wald stop must
not: the exit status is 1 otherwise.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it
from truth_methods import (
    ALPHA,
    SEVERAL,
    Array,
    Draw,
    Outcome,
    Truth,
    by_rule,
    finite,
    fixed,
    mixture,
    screened,
    stratified,
    stratified_sequence,
    wald_stop,
)

from bitward.campaign import Campaign, TrialStore, run_campaign, verdicts_sha256
from bitward.datasets import load_dataset
from bitward.engine.pytorch import TorchEngine, as_integers
from bitward.faults import Fault, Uniform
from bitward.targets.torch import TorchTarget
from bitward.tools import atomic_write

ROUNDING = 1e-12


# -- the truth ---------------------------------------------------------------------------------------------------------


def network(steps: int = 300) -> nn.Module:
    """A convolution of 72 weights and a dense layer of 1,280, trained on the digits; the same each time."""
    torch.manual_seed(0)
    data = load_dataset("digits")
    images, labels = (torch.from_numpy(np.asarray(part)) for part in (data.train_images, data.train_labels))
    layers = (nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 10))
    model = nn.Sequential(*layers)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(steps):
        chosen = torch.randint(0, len(images), (64,))
        loss = F.cross_entropy(model(images[chosen].float() / 255), labels[chosen].long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def target(steps: int = 300) -> TorchTarget:
    """The network with its weights in int8, as a campaign takes it."""
    return TorchTarget(partial(network, steps), as_integers(8), "truth")


def exhaustive(folder: Path, images: int, faults: int | None = None, verify: int = 200, steps: int = 300) -> Truth:
    """Every fault is tried (of the first `faults` in their random order, where that is given), and some twice.

    ValueError where a verdict is not the naive loop's.
    """
    pictures = np.asarray(load_dataset("digits").test_images[:images], np.float32) / 255
    make = partial(target, steps)
    with make() as opened:
        model = Uniform(opened.manifest)
        plan = Campaign("torch", opened.manifest, opened.engine.images(), model, pictures, trials=faults)
        with TrialStore.open(folder, plan.spec()) as store:
            run_campaign(plan, make, store)
            table = store.read()
        trials = [model.trial(number) for number in range(len(table))]
        check(opened.engine, pictures, trials, table["top1_changed"].to_pylist(), verify)
        screened = opened.screened(pictures, trials)
    changed = np.array(table["top1_changed"].to_pylist()) / images
    places = zip(table["memory"].to_pylist(), table["stored_bit"].to_pylist(), strict=True)
    numbers: dict[tuple[str, int], int] = {}
    stratum = np.array([numbers.setdefault(place, len(numbers)) for place in places])
    values = {
        "any decision": (changed > 0).astype(float),
        "several decisions": (changed >= SEVERAL / images).astype(float),
        "share of decisions": changed,
    }
    return Truth(values, stratum, np.asarray(screened), images, verdicts_sha256(table))


def check(engine: TorchEngine, images: Array, trials: Sequence[Sequence[Fault]], found: list[int], count: int) -> None:
    """Some of the verdicts are those of a loop that runs everything for each; ValueError otherwise."""
    golden = engine.infer(images).argmax(axis=1)
    for number in np.random.default_rng(0).permutation(len(trials))[:count].tolist():
        engine.inject(trials[number])
        changed = int((engine.infer(images).argmax(axis=1) != golden).sum())
        engine.restore()
        if changed != found[number]:
            raise ValueError(f"trial {number} must change {changed} decisions, as the loop says, got {found[number]}")


# -- the table ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A method, what it may be used for, and what its theory promises."""

    name: str
    estimate: Callable[[Draw], Outcome]
    guaranteed: bool = True
    shares: bool = True  # of faults that hit, else means
    must_fail: bool = False
    slow: bool = False


CASES = (
    Case("exact, fixed n", fixed),
    Case("finite population, fixed n", finite),
    Case("stratified, union", partial(stratified, "union", False)),
    Case("stratified, square-and-add", partial(stratified, "mover", False), guaranteed=False),
    Case("stratified, Neyman, union", partial(stratified, "union", True), slow=True),
    Case("stratified, Neyman, square-and-add", partial(stratified, "mover", True), guaranteed=False, slow=True),
    Case("screened, audited, fixed n", screened),
    Case("beta-binomial", partial(mixture, True)),
    Case("beta-binomial, without replacement", partial(mixture, False)),
    Case("stratified, sequences added", stratified_sequence, slow=True),
    Case("screened sequence, without repl.", partial(by_rule, "beta-binomial", False, screening=True), slow=True),
    Case("betting", partial(by_rule, "betting", True), shares=False, slow=True),
    Case("betting, without replacement", partial(by_rule, "betting", False), shares=False, slow=True),
    Case("empirical Bernstein, without repl.", partial(by_rule, "empirical-bernstein", False), shares=False, slow=True),
    Case("Wald stop", wald_stop, guaranteed=False, must_fail=True),
)


@dataclass(frozen=True)
class Row:
    """One method on one metric. `trials` (median) are those that were run; `margin` is what sequences stop at."""

    method: str
    metric: str
    truth: float
    margin: float
    trials: float
    half_width: float
    coverage: float
    guaranteed: bool


def margin_of(value: float) -> float:
    """The half-width that sequential methods stop at."""
    return min(0.025, max(value / 2, 0.001))


def run(truth: Truth, cases: Sequence[Case], campaigns: int, seed: int = 0) -> Iterator[Row]:
    """A row for each case and each metric that it takes."""
    for case in cases:
        for metric in truth.values:
            if case.shares == (metric == "share of decisions"):
                continue
            started, value = time.monotonic(), truth.mean(metric)
            random = np.random.default_rng([seed, *case.name.encode(), *metric.encode()])
            draw = Draw(truth, metric, margin_of(value), campaigns, random)
            found = case.estimate(draw)
            covered = (found.low - ROUNDING <= value) & (value <= found.high + ROUNDING)
            trials, width = float(np.median(found.trials)), float(np.median(found.high - found.low)) / 2
            yield Row(case.name, metric, value, draw.margin, trials, width, float(covered.mean()), case.guaranteed)
            print(f"{case.name}, {metric}: {time.monotonic() - started:.1f} s", file=sys.stderr, flush=True)


def complaints(rows: Sequence[Row], campaigns: int) -> list[str]:
    """What is not as it must be: guaranteed methods that cover too little, a control that covers too well."""
    least = 1 - ALPHA - 3 * np.sqrt(ALPHA * (1 - ALPHA) / campaigns)
    wrong = [
        f"{row.method}, {row.metric}: covers {row.coverage:.2%}"
        for row in rows
        if row.guaranteed and row.coverage < least
    ]
    for case in CASES:
        covers = [row.coverage for row in rows if row.method == case.name]
        if case.must_fail and covers and min(covers) >= least:
            wrong.append(f"{case.name} covers {min(covers):.2%} at least, and must not")
    return wrong


def markdown(truth: Truth, rows: Sequence[Row], campaigns: int) -> str:
    """The truth in a sentence, and the rows as a table."""
    lines = [
        f"{truth.size:,} faults, every one of the network, on {truth.images} images each; {truth.screened.mean():.1%} "
        f"of them screened; {campaigns:,} campaigns a row",
        "",
        "| method | value | truth | stops at | trials run (median) | half-width (median) | coverage | guaranteed |",
        "|---" * 8 + "|",
    ]
    for row in rows:
        cells = [f"{row.truth:.4g}", f"{row.margin:.3g}", f"{row.trials:,.0f}", f"{row.half_width:.2g}"]
        figures = " | ".join([*cells, f"{row.coverage:.1%}", "yes" if row.guaranteed else "no"])
        lines.append(f"| {row.method} | {row.metric} | {figures} |")
    return "\n".join(lines)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=Path("runs/truth"), help="folder of the exhaustive campaign")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--faults", type=int, help="only so many of them, to try the command")
    parser.add_argument("--verify", type=int, default=200, help="verdicts that a naive loop computes again")
    parser.add_argument("--campaigns", type=int, default=1000)
    parser.add_argument("--only", nargs="+", help="methods whose names hold one of these words")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=Path("runs/truth.json"))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    truth = exhaustive(given.store, given.images, given.faults, given.verify)
    cases = [case for case in CASES if not given.only or any(word in case.name for word in given.only)]
    rows = list(run(truth, cases, given.campaigns, given.seed))
    wrong = complaints(rows, given.campaigns)
    found = {
        "faults": truth.size, "images": truth.images, "verified": given.verify, "campaigns": given.campaigns,
        "verdicts_sha256": truth.verdicts_sha256, "screened": float(truth.screened.mean()), "seed": given.seed,
        "rows": [asdict(row) for row in rows], "complaints": wrong,
    }  # fmt: skip
    given.json.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(given.json, json.dumps(found, indent=1) + "\n")
    print(markdown(truth, rows, given.campaigns))
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
