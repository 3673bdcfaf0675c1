# SPDX-License-Identifier: Apache-2.0
"""Do 95 % intervals cover in 95 % of campaigns? Simulated, as a Markdown table: method, rate, trials used, coverage.

    python benchmarks/coverage_of_intervals.py --campaigns 2000 --rates 0.0001 0.001 0.01 0.1 0.5 --json FILE

Fixed methods try 1,537 faults (Leveugle's size for 2.5 points), sequential ones stop when their interval is `margin` to
either side (half the rate, from 0.0005 to 0.025) and look after every trial up to 50, then after 2 % more. "Guaranteed"
methods must cover at least nominally, less the noise of the simulation; the Wald stop and a fixed-n interval that is
looked at repeatedly must not: the exit status is 1 otherwise. Progress goes to stderr.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import stats

from bitward.metrics import sample_size
from bitward.statistics import (
    Screening,
    allocate,
    pilot_deviation,
    screened_share,
)
from bitward.statistics.beta_binomial import looks_up_to, with_replacement, without_replacement
from bitward.statistics.fixed import exact_limits, finite_limits
from bitward.statistics.methods import sequence
from bitward.statistics.stratified import stratified_limits

ALPHA = 0.05
FIXED = sample_size(math.inf)
POPULATION = 20_000  # of faults, where they are drawn without replacement
STRATA = np.array([4000, 4000, 4000, 4000, 2000, 1000, 500, 500])
LIFT = np.array([0.01, 0.01, 0.1, 0.2, 0.5, 1, 4, 8])  # how often a stratum's faults hit, up to a factor
IMAGES = 16  # per fault, where values are means
AUDIT = 0.1
ROUNDING = 1e-12  # a census is one point
Generator = np.random.Generator
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Row:
    """One method at one rate. `margin` is what a sequential method stops at; `guaranteed` what its theory says.

    `fixed_trials` is Leveugle's size for that margin, which has to reckon with a rate of 0.5.
    """

    method: str
    rate: float
    margin: float | None
    fixed_trials: int | None
    trials: float
    half_width: float
    coverage: float
    guaranteed: bool


@dataclass(frozen=True)
class Outcome:
    """Of each campaign: the trials it used, and where its interval ended."""

    trials: Array
    low: Array
    high: Array


Simulation = Callable[[float, float, int, Generator], Outcome]


def margin_of(rate: float) -> float:
    """The half-width that sequential methods stop at."""
    return min(0.025, max(rate / 2, 0.0005))


# -- fixed numbers of trials -----------------------------------------------------------------------------------------


def fixed(
    limits: Callable[[Array, Array], tuple[Array, Array]], rate: float, _: float, many: int, rng: Generator
) -> Outcome:
    """Independent trials, and limits of (hits, trials)."""
    trials = np.full(many, FIXED)
    return Outcome(trials, *limits(rng.binomial(FIXED, rate, many), trials))


def wilson_limits(hits: Array, trials: Array) -> tuple[Array, Array]:
    """Wilson's limits of many shares."""
    z, share = stats.norm.ppf(1 - ALPHA / 2), hits / trials
    centre, scale = share + z * z / (2 * trials), 1 + z * z / trials
    spread = z * np.sqrt(share * (1 - share) / trials + (z / (2 * trials)) ** 2)
    return np.where(hits == 0, 0, (centre - spread) / scale), np.where(hits == trials, 1, (centre + spread) / scale)


def finite_population(rate: float, _: float, many: int, rng: Generator) -> Outcome:
    """Different faults of a small population."""
    hits = round(rate * POPULATION)
    found = rng.hypergeometric(hits, POPULATION - hits, FIXED, many)
    return Outcome(np.full(many, FIXED), *finite_limits(found, FIXED, POPULATION, ALPHA))


def strata_hits(rate: float) -> npt.NDArray[np.int64]:
    """The hits in each stratum, `rate` of all faults together: in proportion to LIFT, as long as a stratum has room."""
    return allocate(STRATA, round(rate * STRATA.sum()), LIFT, least=0)


def stratified_fixed(method: str, neyman: bool, rate: float, _: float, many: int, rng: Generator) -> Outcome:
    """Faults of eight strata, in proportion to their sizes or as Neyman says from a pilot of 20 faults each."""
    hits = strata_hits(rate)
    plan = np.tile(allocate(STRATA, FIXED, least=20), (many, 1))
    if neyman:
        pilots = rng.hypergeometric(hits, STRATA - hits, 20, (many, len(STRATA)))
        spreads = [[pilot_deviation(np.arange(20) < found) for found in pilot] for pilot in pilots]
        plan = np.array([allocate(STRATA, FIXED, spread, least=20) for spread in spreads])
    found = rng.hypergeometric(hits, STRATA - hits, plan)
    low, high, _ = stratified_limits(found, plan, STRATA, ALPHA, method)
    return Outcome(plan.sum(axis=1), low, high)


def screened_fixed(rate: float, _: float, many: int, rng: Generator) -> Outcome:
    """A screen that keeps a fifth of the faults and misses one hit in ten; a tenth of what it leaves out is audited."""
    ends = []
    for _ in range(many):
        values = rng.random(10 * FIXED) < rate
        screened = np.where(values, rng.random(len(values)) < 0.1, rng.random(len(values)) < 0.8)
        audited = screened & (rng.random(len(values)) < AUDIT)
        found = screened_share(values, Screening(screened, audited, AUDIT))
        ends.append((found.low, found.high))
    low, high = np.array(ends).T
    return Outcome(np.full(many, 10 * FIXED), low, high)


# -- sequences -------------------------------------------------------------------------------------------------------


def counts_at_looks(rate: float, most: int, many: int, rng: Generator, population: int | None) -> tuple[Array, Array]:
    """(looks, hits at each), shapes (looks,) and (campaigns, looks)."""
    looks = looks_up_to(most)
    hits = np.zeros((many, len(looks)), np.int64)
    before = np.zeros(many, np.int64)
    done = 0
    whole = round(rate * population) if population else 0
    for at, look in enumerate(looks.tolist()):
        if population:
            left = whole - before
            before = before + rng.hypergeometric(left, population - done - left, look - done)
        else:
            before = before + rng.binomial(look - done, rate, many)
        hits[:, at], done = before, look
    return looks, hits


def stopped(looks: Array, low: Array, high: Array, margin: float, running: bool = True) -> Outcome:
    """Each campaign at its first look with an interval narrow enough; at the last where there is none."""
    if running:
        low, high = np.maximum.accumulate(low, axis=1), np.minimum.accumulate(high, axis=1)
    enough = (high - low) / 2 <= margin
    at = np.where(enough.any(axis=1), enough.argmax(axis=1), len(looks) - 1)
    rows = np.arange(len(low))
    return Outcome(looks[at].astype(float), low[rows, at], high[rows, at])


def most_trials(rate: float, margin: float) -> int:
    """More than any sequence here needs."""
    return int(30 * max(rate * (1 - rate), margin / 4) / margin**2)


def mixture(population: int | None, rate: float, margin: float, many: int, rng: Generator) -> Outcome:
    """Beta-binomial sequences, with and without replacement."""
    most = min(most_trials(rate, margin), population or sys.maxsize)
    looks, hits = counts_at_looks(rate, most, many, rng, population)
    if population:
        return stopped(looks, *without_replacement(hits, looks, population, ALPHA), margin)
    return stopped(looks, *with_replacement(hits, looks, ALPHA), margin)


def wald_stop(rate: float, margin: float, many: int, rng: Generator) -> Outcome:
    """Stops when Wald's interval is narrow enough, after 30 trials at least: what must not be done."""
    looks, hits = counts_at_looks(rate, most_trials(rate, margin), many, rng, None)
    keep = looks >= 30
    looks, share = looks[keep], hits[:, keep] / looks[keep]
    width = stats.norm.ppf(1 - ALPHA / 2) * np.sqrt(share * (1 - share) / looks)
    return stopped(looks, share - width, share + width, margin, running=False)


def looked_at_repeatedly(rate: float, _: float, many: int, rng: Generator) -> Outcome:
    """A fixed-n exact interval, intersected at every look up to 50 times its n: what must not be done either."""
    looks, hits = counts_at_looks(rate, 50 * FIXED, many, rng, None)
    return stopped(looks, *exact_limits(hits, looks, ALPHA), margin=0)


def values_of(kind: str, rate: float, count: int, rng: Generator) -> Array:
    """Faults' values of mean `rate`: 0 and 1, or means over images of the faults that do harm, or a population's."""
    if kind == "population":
        return rng.permutation(np.arange(POPULATION) < round(rate * POPULATION))[:count].astype(float)
    if kind == "means":
        harmful = rng.random(count) < 2 * rate
        return np.where(harmful, rng.binomial(IMAGES, 0.5, count) / IMAGES, 0.0)
    return (rng.random(count) < rate).astype(float)


def by_class(method: str, kind: str, rate: float, margin: float, many: int, rng: Generator) -> Outcome:
    """Campaigns through the classes themselves; the first look that is enough is bisected, as widths only shrink."""
    population = POPULATION if kind == "population" else None
    looks = looks_up_to(min(most_trials(rate, margin), population or sys.maxsize))
    found = []
    for _ in range(many):
        values = values_of(kind, rate, int(looks[-1]), rng)
        first, last = 0, len(looks) - 1
        while first < last:
            middle = (first + last) // 2
            enough = _interval(method, population, values[: looks[middle]]).half_width <= margin
            first, last = (first, middle) if enough else (middle + 1, last)
        end = _interval(method, population, values[: looks[last]])
        found.append((end.trials, end.low, end.high))
    return Outcome(*np.array(found).T)


def _interval(method, population, values):
    found = sequence(method, 1 - ALPHA, population)
    found.update(values)
    return found.interval()


def stratified_sequence(rate: float, margin: float, many: int, rng: Generator) -> Outcome:
    """Eight strata in proportion to their sizes, sequences added, until the margin or every fault is tried."""
    looks = np.unique(np.geomspace(100, STRATA.sum(), 40).astype(int))
    plans = np.maximum.accumulate([allocate(STRATA, int(total), least=1) for total in looks])
    left, tried = np.tile(strata_hits(rate), (many, 1)), np.zeros(len(STRATA), np.int64)
    found = np.zeros((many, *plans.shape), np.int64)
    for at, plan in enumerate(plans):
        drawn = rng.hypergeometric(left, STRATA - tried - left, plan - tried)
        found[:, at], left, tried = found[:, at - 1] + drawn, left - drawn, plan
    low, high = without_replacement(found, plans, STRATA, ALPHA / len(STRATA))
    low, high = np.maximum.accumulate(low, axis=1), np.minimum.accumulate(high, axis=1)
    weights = STRATA / STRATA.sum()
    return stopped(plans.sum(axis=1), low @ weights, high @ weights, margin)


# -- the table -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A method, whether it stops by itself, and whether its theory promises the coverage."""

    name: str
    simulate: Simulation
    sequential: bool
    guaranteed: bool
    slow: bool = False
    must_fail: bool = False
    population: float = math.inf


CASES = (
    Case("Wilson, fixed n", partial(fixed, wilson_limits), False, False),
    Case("exact, fixed n", partial(fixed, partial(exact_limits, alpha=ALPHA)), False, True),
    Case("finite population, fixed n", finite_population, False, True),
    Case("stratified, union", partial(stratified_fixed, "union", False), False, True),
    Case("stratified, square-and-add", partial(stratified_fixed, "mover", False), False, False),
    Case("stratified, Neyman, union", partial(stratified_fixed, "union", True), False, True, slow=True),
    Case("screened, audited", screened_fixed, False, True),
    Case("beta-binomial", partial(mixture, None), True, True),
    Case("beta-binomial, without replacement", partial(mixture, POPULATION), True, True, population=POPULATION),
    Case("betting, 0/1", partial(by_class, "betting", "shares"), True, True, slow=True),
    Case("betting, means of images", partial(by_class, "betting", "means"), True, True, slow=True),
    Case(
        "betting, without replacement",
        partial(by_class, "betting", "population"),
        True,
        True,
        population=POPULATION,
        slow=True,
    ),
    Case("empirical Bernstein, means", partial(by_class, "empirical-bernstein", "means"), True, True, slow=True),
    Case(
        "empirical Bernstein, without repl.",
        partial(by_class, "empirical-bernstein", "population"),
        True,
        True,
        population=POPULATION,
        slow=True,
    ),
    Case("stratified, sequences added", stratified_sequence, True, True, population=POPULATION),
    Case("exact, looked at repeatedly", looked_at_repeatedly, False, False, must_fail=True),
    Case("Wald stop", wald_stop, True, False, must_fail=True),
)


def run(cases: Iterable[Case], rates: Sequence[float], campaigns: int, seed: int = 0) -> Iterator[Row]:
    """A row per case and rate."""
    for case in cases:
        for rate in rates:
            started = time.monotonic()
            rng = np.random.default_rng([seed, round(rate * 1e9), *case.name.encode()])
            found = case.simulate(rate, margin_of(rate), campaigns, rng)
            covered = (found.low <= rate + ROUNDING) & (rate - ROUNDING <= found.high)
            width = np.median(found.high - found.low) / 2
            margin = margin_of(rate) if case.sequential else None
            trials, coverage = float(np.median(found.trials)), float(covered.mean())
            size = margin and sample_size(case.population, margin)
            yield Row(case.name, rate, margin, size, trials, float(width), coverage, case.guaranteed)
            print(f"{case.name} at {rate:g}: {coverage:.2%} in {time.monotonic() - started:.1f} s", file=sys.stderr)


def complaints(rows: Sequence[Row], campaigns: int) -> list[str]:
    """What is not as it must be: guaranteed methods that cover too little, controls that cover too much."""
    least = 1 - ALPHA - 3 * np.sqrt(ALPHA * (1 - ALPHA) / campaigns)
    wrong = [
        f"{row.method} at {row.rate:g} covers {row.coverage:.2%}"
        for row in rows
        if row.guaranteed and row.coverage < least
    ]
    for case in CASES:
        covers = [row.coverage for row in rows if row.method == case.name]
        if case.must_fail and covers and min(covers) >= least:
            wrong.append(f"{case.name} covers {min(covers):.2%} at least, and must not")
    return wrong


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a table, a method's rates together."""
    lines = [
        "| method | rate | margin | fixed n for it | trials (median) | half-width (median) | coverage | guaranteed |",
        "|---" * 8 + "|",
    ]
    for row in rows:
        margin = "fixed n |" if row.margin is None else f"{row.margin:g} | {row.fixed_trials:,}"
        figures = (f"{row.rate:g}", margin, f"{row.trials:,.0f}", f"{row.half_width:.2g}", f"{row.coverage:.2%}")
        lines.append("| " + " | ".join((row.method, *figures, "yes" if row.guaranteed else "no")) + " |")
    return "\n".join(lines)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--campaigns", type=int, default=2000)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.0001, 0.001, 0.01, 0.1, 0.5])
    parser.add_argument("--only", nargs="+", help="methods whose names hold one of these words")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    cases = [case for case in CASES if not given.only or any(word in case.name for word in given.only)]
    rows = list(run(cases, given.rates, given.campaigns, given.seed))
    print(markdown(rows))
    wrong = complaints(rows, given.campaigns)
    if given.json:
        settings = {"campaigns": given.campaigns, "seed": given.seed, "confidence": 1 - ALPHA}
        result = {**settings, "rows": [asdict(row) for row in rows], "complaints": wrong}
        given.json.write_text(json.dumps(result, indent=1) + "\n")
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
