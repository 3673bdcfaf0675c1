# SPDX-License-Identifier: Apache-2.0
"""Shares of single-bit faults with their intervals: by stratum, by memory, for the whole design.

The unit is the fault, judged on the campaign's images: it counts when at least one image changed. A stratum is all live
bits of a memory that are the same bit of the stored word.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bitward.campaign.query import has_changed
from bitward.errors import StoreError
from bitward.manifest import Manifest, Memory
from bitward.report.load import AGREEING, Missing, RunData
from bitward.statistics import Interval, StratumTrials, exact, finite, stratified_share
from bitward.statistics.fixed import finite_limits

Metric = Literal["outputs_changed", "top1_changed"]
METRICS: tuple[Metric, ...] = get_args(Metric)
ALPHA = 0.05
Method = Literal["census", "finite population", "exact, Clopper-Pearson", "strata added in squares"]


@dataclass(frozen=True)
class Estimate:
    """A share of faults and its 95 % interval by `method`. A census tried every fault there is: that is the share."""

    value: float
    low: float
    high: float
    count: int  # faults that changed something, of `tried`
    tried: int
    population: int
    method: Method

    @property
    def is_census(self) -> bool:
        """Whether every fault was tried."""
        return self.tried == self.population

    @property
    def masked(self) -> Estimate:
        """The share of the other faults: those that changed nothing."""
        unchanged = self.tried - self.count
        return replace(self, value=1 - self.value, low=1 - self.high, high=1 - self.low, count=unchanged)


@dataclass(frozen=True)
class Stratum:
    """The trials of one stored bit of a memory: of `size` live bits `tried` were flipped."""

    memory: Memory
    stored_bit: int
    size: int
    tried: int
    outputs_changed: int
    top1_changed: int
    intervals: Mapping[Metric, Interval] = field(default_factory=dict, compare=False)  # found for all strata at once

    @property
    def copy(self) -> int:
        """0: the word itself; 1 and 2: the scheme's copies."""
        return self.memory.scheme.origin(self.stored_bit)[0]

    @property
    def bit(self) -> int:
        """The bit of the plain word."""
        return self.memory.scheme.origin(self.stored_bit)[1]

    @property
    def is_voted(self) -> bool:
        """Whether the scheme promises that a single flip here is never read."""
        return self.stored_bit in self.memory.scheme.masked_bits

    def share(self, metric: Metric) -> Estimate | None:
        """The share of its faults that changed something; None when none was tried."""
        return combine([self], metric)


def strata(manifest: Manifest, table: pa.Table) -> list[Stratum]:
    """Every stratum of a design with what the trials found in it; StoreError for trials of another design."""
    found = _counted(table)
    unknown = {memory for memory, _ in found} - {memory.name for memory in manifest.memories}
    if unknown:
        raise StoreError(
            f"trials must be of design {manifest.design}'s memories, got {', '.join(sorted(unknown))}: they belong to "
            "another build; run the flow again"
        )
    parts = [
        Stratum(memory, stratum.stored_bit, stratum.size, *found.get((memory.name, stratum.stored_bit), (0, 0, 0)))
        for memory in manifest.memories
        for stratum in memory.strata
        if stratum.size
    ]
    return _with_intervals(parts)


def _with_intervals(parts: Sequence[Stratum]) -> list[Stratum]:
    """The strata with the finite populations' intervals of both metrics: thousands of strata take one search."""
    tried = np.array([max(1, part.tried) for part in parts])  # where none was tried nothing is made of it
    sizes = np.array([part.size for part in parts])
    known: list[dict[Metric, Interval]] = [{} for _ in parts]
    for metric in METRICS if parts else ():
        counts = np.array([getattr(part, metric) for part in parts])
        low, high = finite_limits(counts, tried, sizes, ALPHA)
        for at, part in enumerate(parts):
            if part.tried:
                known[at][metric] = Interval(
                    float(low[at]), float(high[at]), float(counts[at] / part.tried), part.tried
                )
    return [replace(part, intervals=found) for part, found in zip(parts, known, strict=True)]


def _counted(table: pa.Table) -> dict[tuple[str, int], tuple[int, int, int]]:
    """(trials, outputs changed, top-1 changed) by (memory, stored bit); dead bits are in no stratum."""
    columns: dict[str, Any] = {name: has_changed(table, name).cast(pa.int64()) for name in METRICS}
    marked = pa.table({"memory": table["memory"], "stored_bit": table["stored_bit"], **columns})
    marked = marked.filter(pc.is_valid(table["stored_bit"]))
    sums = marked.group_by(["memory", "stored_bit"]).aggregate(
        [("memory", "count"), ("outputs_changed", "sum"), ("top1_changed", "sum")]
    )
    found = [sums[name].to_pylist() for name in ("memory_count", "outputs_changed_sum", "top1_changed_sum")]
    keys = zip(sums["memory"].to_pylist(), sums["stored_bit"].to_pylist(), strict=True)
    return dict(zip(keys, zip(*found, strict=True), strict=True))


def combine(parts: Sequence[Stratum], metric: Metric) -> Estimate | None:
    """The share of faults in all these strata together, each weighted by its size; None when one was not tried.

    Trials are different faults, a number of them fixed beforehand. One stratum: its finite population's interval.
    Several sampled at one rate: the exact interval of the pooled counts, which vary less than independent trials' do
    (W. Hoeffding, Ann. Math. Stat. 27 (1956)). Sampled at several rates: the strata's finite intervals added in squares
    (`bitward.statistics.stratified_share`), nominal in simulation. Strata of which every bit was tried have no sampling
    error.
    """
    if not parts or any(part.tried == 0 for part in parts):
        return None
    tried, size = sum(part.tried for part in parts), sum(part.size for part in parts)
    counts = [getattr(part, metric) for part in parts]
    found, method = _interval(parts, counts, tried, size, metric)
    value = sum(part.size * count / part.tried for part, count in zip(parts, counts, strict=True)) / size
    return Estimate(value, found.low, found.high, sum(counts), tried, size, method)


def _interval(
    parts: Sequence[Stratum], counts: Sequence[int], tried: int, size: int, metric: Metric
) -> tuple[Interval, Method]:
    if len(parts) == 1:
        known = parts[0].intervals.get(metric) or finite(counts[0], tried, size)
        return known, "census" if tried == size else "finite population"
    if tried == size:
        return finite(sum(counts), tried, size), "census"
    if all(part.tried * size == part.size * tried for part in parts):
        return exact(sum(counts), tried), "exact, Clopper-Pearson"
    strata = [StratumTrials(part.size, part.tried, count) for part, count in zip(parts, counts, strict=True)]
    return stratified_share(strata, method="mover"), "strata added in squares"


@dataclass(frozen=True)
class Agreement:
    """Of `compared` faults, tried on every target, `equal` gave the same integer outputs for every image."""

    compared: int
    equal: int


def agreement(run: RunData) -> Agreement | Missing:
    """How far engine, RTL and board agree, fault by fault, as their trials say; Missing where one was not attacked."""
    digests = []
    for on in AGREEING:
        trials = run.trials(f"agree-{on}")
        if isinstance(trials, Missing):
            return trials
        keys = zip(*(trials.table[name].to_pylist() for name in ("memory", "word", "bit")), strict=True)
        digests.append(dict(zip(keys, trials.table["outputs_sha256"].to_pylist(), strict=True)))
    everywhere = set.intersection(*map(set, digests))
    if not everywhere:
        return Missing("no fault was tried on every target: the run did not come so far")
    equal = sum(len({found[fault] for found in digests}) == 1 for fault in everywhere)
    return Agreement(len(everywhere), equal)


def of_memory(parts: Iterable[Stratum], memory: str) -> list[Stratum]:
    """The strata of one memory."""
    return [part for part in parts if part.memory.name == memory]
