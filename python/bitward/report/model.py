# SPDX-License-Identifier: Apache-2.0
"""The campaigns of the flow's own fault model: which faults, how many flips a trial, what came of them."""

from __future__ import annotations

from dataclasses import dataclass

from bitward.campaign.query import Flips, flips, method_text, model_text
from bitward.report.figures import number, percent
from bitward.report.load import SIDES, Missing, RunData, Side, Trials


@dataclass(frozen=True)
class ModelRow:
    """One build's campaign as text; `flips` are those of its trials, `share` is with its interval and method."""

    side: Side
    model: str
    flips: Flips | None
    trials: str
    outputs_changed: str
    top1_changed: str
    share: str


def model_rows(run: RunData) -> list[ModelRow]:
    """A row for each build that has such a campaign."""
    found = ((side, run.trials(f"model-{side}")) for side in SIDES)
    return [_row(side, trials) for side, trials in found if not isinstance(trials, Missing)]


def _row(side: Side, trials: Trials) -> ModelRow:
    return ModelRow(
        side,
        model_text(trials.spec.get("model")),
        flips(trials.table),
        f"{number(trials.table.num_rows)} x {number(trials.images)} images",
        number(trials.count("outputs_changed")),
        number(trials.count("top1_changed")),
        _share(trials),
    )


def _share(trials: Trials) -> str:
    """The value that the campaign's rule is about, its interval and the interval's method."""
    if trials.result is None:
        return "no interval: not ended yet"
    found = trials.result.get("interval")
    if found is None:
        return "no interval: these trials are no random sample"
    rule = trials.spec.get("stopping") or {"metric": "top1_changed"}
    ends = f"{percent(found['low'])} to {percent(found['high'])}"
    return f"{rule['metric']} {percent(found['estimate'])}, {ends} ({method_text(trials.spec)})"
