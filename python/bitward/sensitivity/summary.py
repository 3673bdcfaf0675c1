# SPDX-License-Identifier: Apache-2.0
"""All that is found of one network, as JSON values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from bitward.errors import ConfigError
from bitward.formats import Float32
from bitward.metrics import memory_bits
from bitward.sensitivity.explain import BIAS_BITS, FLOAT_MSB, Explained, activation_ranges, correlation, explained
from bitward.sensitivity.output_bias import equation_2, output_biases
from bitward.sensitivity.rates import Rates, as_dict, as_rows
from bitward.sensitivity.sets import Kind
from bitward.sensitivity.several import Several
from bitward.sensitivity.study import Study

SIGNED: tuple[tuple[str, tuple[Kind, ...]], ...] = (
    ("conv biases", ("conv bias",)),
    ("betas", ("beta",)),
    ("transposed conv biases", ("transposed conv bias",)),
    ("biases and betas", ("conv bias", "dense bias", "transposed conv bias", "beta")),
)  # fmt: skip
VALUED: tuple[Kind, ...] = (
    "conv kernel", "conv bias", "transposed conv kernel", "transposed conv bias", "dense kernel", "dense bias", "gamma",
    "beta", "mean", "variance",
)  # fmt: skip


def summary_of(study: Study, rates: Rates, table: pa.Table, several: Sequence[Several] = ()) -> dict[str, Any]:
    """Cells, sets, bits, what goes with them, the output layer's biases, activations, several flips."""
    rows = explained(study, rates)
    bits = memory_bits(study.manifest)["total"]
    return {
        "faults": len(table),
        "failed": sum(cell.failed for cell in rates.cells.values()),
        "census_cells": sum(cell.is_census for cell in rates.cells.values()),
        "images": len(study.images),
        "pixels": study.golden.size,
        "parameters": bits.parameters,
        "stored_bits": bits.stored_bits,
        "mean": as_dict(rates.mean),
        "deviation": rates.deviation,
        "per_upset": as_dict(rates.per_upset),
        "bits": {str(bit): as_dict(rates.of_bit(bit)) for bit in sorted({cell.bit for cell in rates.cells.values()})},
        "cells": as_rows(rates),
        "sets": [_row(row, rates) for row in rows],
        "correlations": _correlations(rows),
        "output_biases": _output(study, table),
        "ranges": [asdict(each) for each in activation_ranges(study.engine.network, study.images)],
        "several": [{**asdict(each), "error": as_dict(each.error)} for each in several],
    }


def is_float(study: Study) -> bool:
    """Whether every memory is in single precision."""
    return all(isinstance(memory.format, Float32) for memory in study.manifest.memories)


def _row(row: Explained, rates: Rates) -> dict[str, Any]:
    found = row.set
    return {
        "number": found.number,
        "name": found.name,
        "kind": found.kind,
        "parameters": found.parameters,
        "error": as_dict(rates.of_set(found.name)),
        "dangerous": None if row.error is None else as_dict(row.error),
        "positive": row.positive,
        "risky": row.risky,
        "positive_bits": row.positive_bits,
        "negative_bits": row.negative_bits,
    }


def _correlations(rows: Sequence[Explained]) -> list[dict[str, Any]]:
    """Shares of the sets against the error rate of their most dangerous bits; those that are not defined are None."""
    wanted = [(f"positive {what}", correlation(rows, kinds, lambda row: row.positive)) for what, kinds in SIGNED]
    wanted.append(("values in 1 <= |x| < 2", correlation(rows, VALUED, lambda row: row.risky)))
    return [{"what": what, "r": None if found is None else as_dict(found)} for what, found in wanted]


def _output(study: Study, table: pa.Table) -> dict[str, Any] | None:
    """Equation 2; None of a network whose output layer has no biases in a memory."""
    is_sum = is_float(study)
    try:
        rows = output_biases(study, table, is_sum)
    except ConfigError:
        return None
    bits = [bit for bit in (FLOAT_MSB if is_sum else BIAS_BITS) if any(row.bit == bit for row in rows)]
    if not bits:
        return None
    predicted, measured = equation_2(rows, bits)
    return {"bits": bits, "predicted": predicted, "measured": measured, "rows": [asdict(row) for row in rows]}
