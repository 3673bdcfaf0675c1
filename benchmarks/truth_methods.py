# SPDX-License-Identifier: Apache-2.0
"""Campaigns drawn from a table of every fault's outcome, and the interval that each method gives of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import stats

from bitward.metrics import sample_size
from bitward.statistics import Screening, Stopping, allocate, pilot_deviation, screened_share
from bitward.statistics.beta_binomial import with_replacement, without_replacement
from bitward.statistics.fixed import exact_limits, finite_limits
from bitward.statistics.stratified import stratified_limits

ALPHA, AUDIT, PILOT = 0.05, 0.1, 20
SEVERAL = 3  # images whose decision changes: a rare outcome
Array = np.ndarray
Generator = np.random.Generator


@dataclass(frozen=True)
class Truth:
    """Of every fault: what it did, which stratum (memory and bit) it is of, and whether the screen leaves it out."""

    values: dict[str, Array]
    stratum: Array
    screened: Array
    images: int
    verdicts_sha256: str

    @property
    def size(self) -> int:
        """Number of faults."""
        return len(self.stratum)

    @cached_property
    def sizes(self) -> Array:
        """Faults of each stratum."""
        return np.bincount(self.stratum)

    def mean(self, metric: str) -> float:
        """The true value."""
        return float(self.values[metric].mean())


@dataclass(frozen=True)
class Outcome:
    """Of each campaign: the trials that were run, and where its interval ended."""

    trials: Array
    low: Array
    high: Array


@dataclass(frozen=True)
class Draw:
    """What a campaign estimates, and how narrow it is to be when it may stop."""

    truth: Truth
    metric: str
    margin: float
    campaigns: int
    random: Generator

    @property
    def values(self) -> Array:
        """Every fault's value."""
        return self.truth.values[self.metric]

    @property
    def fixed(self) -> int:
        """Leveugle's sample for 2.5 points."""
        return min(self.truth.size, sample_size(self.truth.size))

    @cached_property
    def looks(self) -> Array:
        """The numbers of trials after which a rule is asked, up to all faults (of those drawn again and again too)."""
        rule, found = self.rule("beta-binomial"), [1]
        while found[-1] < self.truth.size:
            found.append(min(self.truth.size, rule.next_look(found[-1])))
        return np.array(found)

    def rule(self, method: Any) -> Stopping:
        """The rule that a campaign would have in its plan."""
        return Stopping("top1_changed", self.margin, 1 - ALPHA, method)

    def orders(self, replaced: bool = False) -> Iterator[Array]:
        """The faults of each campaign in their random order, each once, or drawn again and again."""
        size = self.truth.size
        for _ in range(self.campaigns):
            yield self.random.integers(0, size, size) if replaced else self.random.permutation(size)

    def hits(self, replaced: bool) -> Array:
        """Hits among the first `fixed` trials of each campaign."""
        return np.array([self.values[order[: self.fixed]].sum() for order in self.orders(replaced)])

    def hits_at_looks(self, replaced: bool) -> Array:
        """Hits after each look, shape (campaigns, looks)."""
        return np.array([np.cumsum(self.values[order])[self.looks - 1] for order in self.orders(replaced)])


def fixed(draw: Draw) -> Outcome:
    """So many faults, any of them again and again: the exact interval."""
    hits, trials = draw.hits(replaced=True), np.full(draw.campaigns, draw.fixed)
    return Outcome(trials, *exact_limits(hits, trials, ALPHA))


def finite(draw: Draw) -> Outcome:
    """So many different faults: the finite population's interval."""
    hits, trials = draw.hits(replaced=False), np.full(draw.campaigns, draw.fixed)
    return Outcome(trials, *finite_limits(hits, trials, draw.truth.size, ALPHA))


def hits_of_strata(draw: Draw, order: Array, plan: Array) -> Array:
    """Hits among the first `plan` faults of each stratum in that order."""
    members = [order[draw.truth.stratum[order] == number] for number in range(len(plan))]
    return np.array([draw.values[some[:count]].sum() for some, count in zip(members, plan.tolist(), strict=True)])


def stratified(method: str, neyman: bool, draw: Draw) -> Outcome:
    """Strata in proportion to their sizes; or as Neyman says from a pilot, which is counted and thrown away."""
    sizes, found, plans = draw.truth.sizes, [], []
    pilot = np.minimum(sizes, PILOT) if neyman else np.zeros(len(sizes), np.int64)
    for order in draw.orders():
        plan = allocate(sizes, draw.fixed, least=PILOT)
        if neyman:
            hits = hits_of_strata(draw, draw.random.permutation(draw.truth.size), pilot)
            spread = [pilot_deviation(np.arange(n) < hit) for n, hit in zip(pilot, hits, strict=True)]
            plan = allocate(sizes, draw.fixed, spread, least=PILOT)
        found.append(hits_of_strata(draw, order, plan))
        plans.append(plan)
    low, high, _ = stratified_limits(found, plans, sizes, ALPHA, method)
    return Outcome(np.sum(plans, axis=1) + pilot.sum(), low, high)


def audited(draw: Draw, order: Array) -> Screening:
    """What the real screen leaves out of these trials, and which of those chance has run all the same."""
    out = draw.truth.screened[order]
    return Screening(out, out & (draw.random.random(len(order)) < AUDIT), AUDIT)


def screened(draw: Draw) -> Outcome:
    """So many different faults through the screen; those that were run are counted."""
    found = []
    for order in draw.orders():
        sample = order[: draw.fixed]
        screening = audited(draw, sample)
        interval = screened_share(draw.values[sample], screening, 1 - ALPHA)
        found.append((int((~screening.screened | screening.audited).sum()), interval.low, interval.high))
    return Outcome(*np.array(found).T)


def stopped(draw: Draw, low: Array, high: Array, trials: Array, running: bool = True) -> Outcome:
    """Each campaign at its first look with an interval narrow enough; at the last where there is none."""
    if running:
        low, high = np.maximum.accumulate(low, axis=1), np.minimum.accumulate(high, axis=1)
    enough = (high - low) / 2 <= draw.margin
    at = np.where(enough.any(axis=1), enough.argmax(axis=1), low.shape[1] - 1)
    rows = np.arange(len(low))
    return Outcome(trials[at], low[rows, at], high[rows, at])


def mixture(replaced: bool, draw: Draw) -> Outcome:
    """Beta-binomial sequences."""
    hits = draw.hits_at_looks(replaced)
    if replaced:
        return stopped(draw, *with_replacement(hits, draw.looks, ALPHA), draw.looks)
    return stopped(draw, *without_replacement(hits, draw.looks, draw.truth.size, ALPHA), draw.looks)


def stratified_sequence(draw: Draw) -> Outcome:
    """Strata in proportion to their sizes, sequences added."""
    sizes = draw.truth.sizes
    looks = np.unique(np.geomspace(20 * len(sizes), draw.truth.size, 40).astype(int))
    plans = np.maximum.accumulate([allocate(sizes, int(total), least=1) for total in looks])
    found = np.zeros((draw.campaigns, *plans.shape), np.int64)
    for number, order in enumerate(draw.orders()):
        for stratum in range(len(sizes)):
            members = order[draw.truth.stratum[order] == stratum]
            sums = np.concatenate([[0], np.cumsum(draw.values[members])])
            found[number, :, stratum] = sums[plans[:, stratum]]
    low, high = without_replacement(found, plans, sizes, ALPHA / len(sizes))
    low, high = np.maximum.accumulate(low, axis=1), np.minimum.accumulate(high, axis=1)
    weights = sizes / sizes.sum()
    return stopped(draw, low @ weights, high @ weights, looks)


def by_rule(method: str, replaced: bool, draw: Draw, screening: bool = False) -> Outcome:
    """Campaigns through the rule itself; the first look that is enough is bisected, as widths only shrink."""
    rule, population = draw.rule(method), None if replaced else draw.truth.size
    found = []
    for order in draw.orders(replaced):
        values, flags = draw.values[order], audited(draw, order) if screening else None

        def at(look: int, values: Array = values, flags: Screening | None = flags) -> Any:
            some = None if flags is None else Screening(flags.screened[:look], flags.audited[:look], AUDIT)
            return rule.interval(values[:look], population, some)

        first, last = 0, len(draw.looks) - 1
        while first < last:
            middle = (first + last) // 2
            first, last = (
                (first, middle) if rule.is_met_by(at(int(draw.looks[middle])), population) else (middle + 1, last)
            )
        end, look = at(int(draw.looks[last])), int(draw.looks[last])
        run = look if flags is None else int((~flags.screened | flags.audited)[:look].sum())
        found.append((run, end.low, end.high))
    return Outcome(*np.array(found).T)


def wald_stop(draw: Draw) -> Outcome:
    """Stops when Wald's interval is narrow enough, after 30 trials at least: what must not be done."""
    hits = draw.hits_at_looks(replaced=True)
    keep = draw.looks >= 30
    looks, share = draw.looks[keep], hits[:, keep] / draw.looks[keep]
    width = stats.norm.ppf(1 - ALPHA / 2) * np.sqrt(share * (1 - share) / looks)
    return stopped(draw, share - width, share + width, looks, running=False)
