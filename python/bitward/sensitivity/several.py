# SPDX-License-Identifier: Apache-2.0
"""Several flips at once, anywhere in the stored parameters (the SEU paper's 4.2.3, figures 35 and 36)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bitward.faults import Exact
from bitward.sensitivity.study import Progress, Study, error_rates
from bitward.statistics import Interval, student

FLIPS = (1, 10, 50, 100, 250, 400, 650, 800, 950, 1250, 1550, 1750, 2000)
"""The paper's numbers of flips; each is repeated REPETITIONS times."""
REPETITIONS = 150


@dataclass(frozen=True)
class Several:
    """`flips` distinct stored bits at once, drawn anew each time.

    `error` is the mean share of pixels whose class changes, with Student's interval over repetitions; `deviation` is
    that of single repetitions, whose `errors` are in the order of their trials.
    """

    flips: int
    error: Interval
    deviation: float
    errors: tuple[float, ...]


def several_flips(
    study: Study,
    flips: Sequence[int] = FLIPS,
    repetitions: int = REPETITIONS,
    seed: int = 1,
    confidence: float = 0.95,
    progress: Callable[[int], Progress] | None = None,
) -> tuple[Several, ...]:
    """One result for each number of flips, ascending. Repetitions of different numbers are drawn independently.

    Copies and check bits of protected parameters count as stored bits. FormatError: more flips than there are bits.
    """
    found = []
    for count in sorted(flips):
        model = Exact(study.manifest, seed + count, flips=count)
        shown = None if progress is None else progress(count)
        table = study.trials(f"several-{count}", model, repetitions, shown)
        errors = error_rates(table)
        spread = float(np.std(errors, ddof=1)) if len(errors) > 1 else 0.0
        mean = student(errors, confidence, step=1 / study.golden.size)
        mean = replace(mean, low=max(0.0, mean.low))  # a share is never less
        found.append(Several(count, mean, spread, tuple(errors.tolist())))
    return tuple(found)
