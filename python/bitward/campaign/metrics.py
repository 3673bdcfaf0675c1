# SPDX-License-Identifier: Apache-2.0
"""What a campaign estimates: the value, 0 to 1, that each trial gives. A new one is one line here."""

from __future__ import annotations

from collections.abc import Callable

from bitward.campaign.trial import SCREENED, Trial

METRICS: dict[str, Callable[[Trial], float]] = {
    "top1_changed": lambda trial: float(bool(trial.top1_changed)),  # the decision on any image: 0 or 1
    "outputs_changed": lambda trial: float(bool(trial.outputs_changed)),  # any output of any image: 0 or 1
    "top1_change_rate": lambda trial: (trial.top1_changed or 0) / trial.images,  # share of images
}


def value(metric: str, trial: Trial) -> float | None:
    """What a trial gives for a metric; None where it was screened out. One that failed or timed out counts as 1."""
    if trial.status != "done":
        return 1.0
    return None if trial.path == SCREENED else METRICS[metric](trial)
