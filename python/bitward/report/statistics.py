# SPDX-License-Identifier: Apache-2.0
"""Shares of single-bit faults with their intervals: by stratum, by memory, for the whole design.

The unit is the fault, judged on the campaign's images: it counts when at least one image changed. A stratum is all live
bits of a memory that are the same bit of the stored word.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from bitward.errors import StoreError
from bitward.manifest import Manifest, Memory
from bitward.metrics import wilson
from bitward.report.load import AGREEING, Missing, RunData

Metric = Literal["outputs_changed", "top1_changed"]


@dataclass(frozen=True)
class Estimate:
    """A share of faults and its 95 % interval. A census tried every fault there is: its interval is the share."""

    value: float
    low: float
    high: float
    count: int  # faults that changed something, of `tried`
    tried: int
    population: int

    @property
    def is_census(self) -> bool:
        """Whether every fault was tried."""
        return self.tried == self.population

    @property
    def masked(self) -> Estimate:
        """The share of the other faults: those that changed nothing."""
        unchanged = self.tried - self.count
        return Estimate(1 - self.value, 1 - self.high, 1 - self.low, unchanged, self.tried, self.population)


@dataclass(frozen=True)
class Stratum:
    """The trials of one stored bit of a memory: of `size` live bits `tried` were flipped."""

    memory: Memory
    stored_bit: int
    size: int
    tried: int
    outputs_changed: int
    top1_changed: int

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
    return [
        Stratum(memory, stratum.stored_bit, stratum.size, *found.get((memory.name, stratum.stored_bit), (0, 0, 0)))
        for memory in manifest.memories
        for stratum in memory.strata
        if stratum.size
    ]


def _counted(table: pa.Table) -> dict[tuple[str, int], tuple[int, int, int]]:
    """(trials, outputs changed, top-1 changed) by (memory, stored bit); dead bits are in no stratum."""
    marked = pa.table(
        {
            "memory": table["memory"],
            "stored_bit": table["stored_bit"],
            **{
                name: pc.fill_null(pc.greater(table[name], 0), True).cast(pa.int64())  # no verdict: no answers
                for name in ("outputs_changed", "top1_changed")
            },
        }
    ).filter(pc.is_valid(table["stored_bit"]))
    sums = marked.group_by(["memory", "stored_bit"]).aggregate(
        [("memory", "count"), ("outputs_changed", "sum"), ("top1_changed", "sum")]
    )
    columns = [sums[name].to_pylist() for name in ("memory_count", "outputs_changed_sum", "top1_changed_sum")]
    keys = zip(sums["memory"].to_pylist(), sums["stored_bit"].to_pylist(), strict=True)
    return dict(zip(keys, zip(*columns, strict=True), strict=True))


def combine(parts: Sequence[Stratum], metric: Metric) -> Estimate | None:
    """The share of faults in all these strata together, each weighted by its size; None when one was not tried.

    One stratum, or several sampled at one rate: Wilson's interval of the pooled counts. Sampled at several rates: the
    distances from the share to the strata's Wilson limits, weighted and added in squares (G. Y. Zou, A. Donner,
    "Construction of confidence limits about effect measures", Stat. Med. 27 (2008)). A stratum of which every bit was
    tried has no sampling error.
    """
    if not parts or any(part.tried == 0 for part in parts):
        return None
    tried, size = sum(part.tried for part in parts), sum(part.size for part in parts)
    counts = [getattr(part, metric) for part in parts]
    value = sum(part.size * count / part.tried for part, count in zip(parts, counts, strict=True)) / size
    if tried == size:
        low = high = value
    elif all(part.tried * size == part.size * tried for part in parts):
        pooled = wilson(sum(counts), tried)
        low, high = pooled.low, pooled.high
    else:
        low, high = _limits(parts, counts, size, value)
    return Estimate(value, low, high, sum(counts), tried, size)


def _limits(parts: Sequence[Stratum], counts: Sequence[int], size: int, value: float) -> tuple[float, float]:
    below = above = 0.0
    for part, count in zip(parts, counts, strict=True):
        if part.tried < part.size:
            share = wilson(count, part.tried)
            below += (part.size / size * (share.value - share.low)) ** 2
            above += (part.size / size * (share.high - share.value)) ** 2
    return max(0.0, value - math.sqrt(below)), min(1.0, value + math.sqrt(above))


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
