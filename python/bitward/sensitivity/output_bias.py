# SPDX-License-Identifier: Apache-2.0
"""Upsets of the output layer's biases, predicted from the network without faults, beside injection (SEU paper, eq. 2).

A bias that becomes very negative takes its class from every pixel that had it; one that becomes very positive gives its
class to every pixel. So the error rate is P(class), or 1 - P(class): no fault need be tried.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from bitward.errors import ConfigError
from bitward.sensitivity.pixels import classes_of
from bitward.sensitivity.sets import ParameterSet
from bitward.sensitivity.study import Study, error_rates


@dataclass(frozen=True)
class OutputBias:
    """One bit of the bias of one class, flipped. Rates are shares of pixels whose class changes.

    `share` is P(class) without faults, `bias` and `value` the bias before and after. `predicted` is equation 2's term
    of the class; `decides` says whether it applies: the bias moves by more than the two furthest scores of any pixel
    are apart. `computed` adds what the bias moves by to the scores without faults; None where these are no sums of the
    layer (a quantizer behind it). `measured` is injection.
    """

    label: int
    bit: int
    share: float
    bias: float
    value: float
    predicted: float
    decides: bool
    computed: float | None
    measured: float


def output_set(study: Study) -> ParameterSet:
    """The set of the output layer's biases: the last one, a value a class; ConfigError where there is none such."""
    classes = study.scores.shape[1]
    biases = [found for found in study.sets if found.kind.endswith("bias")]
    if not biases or biases[-1].parameters != classes:
        raise ConfigError(
            f"network {study.name} must end in a layer with a bias for each of its {classes} classes, that is a "
            "memory, got another: equation 2 is about such"
        )
    return biases[-1]


def output_biases(study: Study, table: pa.Table, scores_are_sums: bool = True) -> tuple[OutputBias, ...]:
    """Every fault of the output layer's biases in a table of single faults, predicted and measured.

    Without `scores_are_sums` something stands between the layer and the scores, such as a quantizer. ConfigError:
    there is no such layer, or no such fault.
    """
    found = output_set(study)
    chosen = np.array([name == found.name for name in table["memory"].to_pylist()], bool)
    if not chosen.any():
        raise ConfigError(f"faults must be of the output layer's biases, {found.name}, too, got none there: try them")
    rows = table.filter(pa.array(chosen))
    words, bits = (np.array(rows[name].to_pylist(), np.int64) for name in ("word", "bit"))
    golden, values = study.engine.stored(found.name).hit(words, bits, ["flip"] * len(words))
    shares = [float(np.mean(study.golden == label)) for label in range(study.scores.shape[1])]
    spread = float((study.scores.max(axis=1) - study.scores.min(axis=1)).max())
    made = []
    for label, bit, before, after, measured in zip(words, bits, golden, values, error_rates(rows), strict=True):
        moved = float(after) - float(before)
        made.append(OutputBias(
            int(label), int(bit), shares[label], float(before), float(after), predicted_error(shares[label], moved),
            scores_are_sums and not abs(moved) <= spread,
            _computed(study, int(label), moved) if scores_are_sums else None, float(measured),
        ))  # fmt: skip
    return tuple(sorted(made, key=lambda each: (each.bit, each.label)))


def predicted_error(share: float, moved: float) -> float:
    """The share of pixels that change class where the bias of a class, which has `share` of them, moves by very much.

    >>> predicted_error(0.25, -1e30), predicted_error(0.25, 1e30), predicted_error(0.25, float("nan"))
    (0.25, 0.75, 1.0)
    """
    return 1.0 if math.isnan(moved) else share if moved < 0 else 1 - share


def equation_2(rows: Sequence[OutputBias], bits: Sequence[int]) -> tuple[float, float]:
    """(predicted, measured) mean over the classes and those bits, each alike: the paper's equation 2, and injection."""
    chosen = [row for row in rows if row.bit in bits]
    if not chosen:
        raise ConfigError(f"faults of the output layer's biases must be of bits {bits}, got none there: try these too")
    return float(np.mean([row.predicted for row in chosen])), float(np.mean([row.measured for row in chosen]))


def _computed(study: Study, label: int, moved: float) -> float:
    scores = study.scores.copy()
    with np.errstate(over="ignore", invalid="ignore"):
        scores[:, label] += np.float32(moved)
    return float(np.mean(classes_of(scores) != study.golden))
