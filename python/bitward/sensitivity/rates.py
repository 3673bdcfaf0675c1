# SPDX-License-Identifier: Apache-2.0
"""Bit-flip error rates by parameter set and bit, as the papers' heat maps, each with n and its interval."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bitward.errors import ConfigError
from bitward.sensitivity.sample import Sampling, faults_of
from bitward.sensitivity.sets import ParameterSet
from bitward.sensitivity.study import Progress, Study, error_rates
from bitward.statistics import Interval, finite, sequence

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Cell:
    """One bit of one parameter set, `population` faults, of which `error.trials` were tried.

    `error` is the mean share of pixels whose class changes, `critical` the share of faults that change any pixel. Of a
    census both are points.
    """

    set: str
    bit: int
    population: int
    error: Interval
    critical: Interval
    failed: int = 0

    @property
    def is_census(self) -> bool:
        """Whether every fault of it was tried."""
        return self.error.trials == self.population


@dataclass(frozen=True)
class Rates:
    """The cells of a network, by (set, bit), and what they come to."""

    sets: tuple[ParameterSet, ...]
    cells: Mapping[tuple[str, int], Cell]

    def of_set(self, name: str, bits: Iterable[int] | None = None) -> Interval:
        """The mean over the bits of a set that were tried, each alike (they have equally many faults), or over `bits`.

        The distances of the cells' ends add in squares (G. Y. Zou, A. Donner, Stat. Med. 27 (2008)): nominal in
        simulation, not guaranteed.
        """
        chosen = set(next(each for each in self.sets if each.name == name).bits if bits is None else bits)
        found = [cell for (where, bit), cell in self.cells.items() if where == name and bit in chosen]
        return combined([(1.0, cell.error) for cell in found])

    def of_bit(self, bit: int) -> Interval:
        """The mean over all sets that have the bit, each alike."""
        return combined([(1.0, cell.error) for cell in self.cells.values() if cell.bit == bit])

    @property
    def mean(self) -> Interval:
        """The mean over all sets, each alike: the papers' one figure of a network."""
        return combined([(1.0, self.of_set(each.name)) for each in self.sets])

    @property
    def deviation(self) -> float:
        """The standard deviation of the error rate over sets."""
        return float(np.std([self.of_set(each.name).estimate for each in self.sets]))

    @property
    def per_upset(self) -> Interval:
        """The mean over all bits that were tried, as many as a set has: what one random upset of them does."""
        return combined([(cell.population, cell.error) for cell in self.cells.values()])


def flip_rates(study: Study, sampling: Sampling, progress: Progress | None = None) -> tuple[Rates, pa.Table]:
    """The error rates of a network, and the trials that they are from: single faults, each by itself."""
    faults = faults_of(study.manifest, study.sets, sampling)
    table = study.trials("flips", faults, progress=progress)
    return rates_of(table, study.sets, sampling.confidence), table


def rates_of(table: pa.Table, sets: tuple[ParameterSet, ...], confidence: float = 0.95) -> Rates:
    """The cells of a table of single faults. Numbers of trials were fixed beforehand, drawn without replacement."""
    errors = error_rates(table)
    failed = np.array([status != "done" for status in table["status"].to_pylist()], bool)
    rows: dict[tuple[str, int], list[int]] = {}
    for row, key in enumerate(zip(table["memory"].to_pylist(), table["stored_bit"].to_pylist(), strict=True)):
        rows.setdefault(key, []).append(row)
    population = {each.name: each.parameters for each in sets}
    cells = {
        (name, bit): Cell(name, bit, population[name], mean_error(errors[found], population[name], confidence),
                          _critical(errors[found], population[name], confidence), int(failed[found].sum()))
        for (name, bit), found in rows.items()
    }  # fmt: skip
    return Rates(sets, cells)


def mean_error(errors: Floats, population: int, confidence: float = 0.95) -> Interval:
    """The mean of error rates of different faults drawn from a population; of all of them a point.

    Hedged-capital betting without replacement, which supposes nothing but 0 to 1 (bitward.statistics.Betting).
    """
    mean = float(errors.mean())
    if len(errors) == population:
        return Interval(mean, mean, mean, population)
    found = sequence("betting", confidence, population)
    found.update(errors)
    ends = found.interval()
    return Interval(min(ends.low, mean), max(ends.high, mean), mean, len(errors))


def _critical(errors: Floats, population: int, confidence: float) -> Interval:
    return finite(int(np.count_nonzero(errors)), len(errors), population, confidence)


def combined(parts: Sequence[tuple[float, Interval]]) -> Interval:
    """The weighted mean of independent estimates; ends at the root of the summed squares of their distances.

    ConfigError: there is none.
    """
    total = math.fsum(weight for weight, _ in parts)
    if not total > 0:
        raise ConfigError("error rates must be of one cell or more to be combined, got none: try faults of this set")
    share = [(weight / total, each) for weight, each in parts]
    mean = math.fsum(weight * each.estimate for weight, each in share)
    below = math.sqrt(math.fsum((weight * (each.estimate - each.low)) ** 2 for weight, each in share))
    above = math.sqrt(math.fsum((weight * (each.high - each.estimate)) ** 2 for weight, each in share))
    return Interval(max(0.0, mean - below), min(1.0, mean + above), mean, sum(each.trials for _, each in share))


def as_rows(rates: Rates) -> list[dict[str, Any]]:
    """The cells as JSON values, set by set: what tables and figures are made of."""
    numbers = {each.name: each for each in rates.sets}
    return [
        {
            "number": numbers[cell.set].number,
            "set": cell.set,
            "kind": numbers[cell.set].kind,
            "bit": cell.bit,
            "population": cell.population,
            "n": cell.error.trials,
            "error": cell.error.estimate,
            "low": cell.error.low,
            "high": cell.error.high,
            "critical": cell.critical.estimate,
            "critical_low": cell.critical.low,
            "critical_high": cell.critical.high,
            "failed": cell.failed,
        }
        for cell in rates.cells.values()
    ]


def as_dict(found: Interval) -> dict[str, Any]:
    """An interval as JSON values."""
    return asdict(found)
