# SPDX-License-Identifier: Apache-2.0
"""What boards did in a run's campaigns, and what they had trouble with: every trial is in a row, none is left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bitward.report.figures import number
from bitward.report.load import RunData, Trials


@dataclass(frozen=True)
class BoardRow:
    """One board in one campaign, as text. `was_set_aside` says why, if it was."""

    campaign: str
    board: str
    trials: str
    run_once_more: str
    loaded_anew: str
    failed: str
    was_set_aside: str


def board_rows(run: RunData) -> list[BoardRow]:
    """A row for each board of each campaign on boards."""
    campaigns = [run.campaigns[name] for name in run.campaigns if name == "agree-board"]
    return [row for trials in (*campaigns, *run.by_hand.values()) for row in _rows(trials)]


def _rows(trials: Trials) -> list[BoardRow]:
    aside = _set_aside(trials.result)
    calls: Any = (trials.result or {}).get("names", {})
    names = dict.fromkeys(name for name in trials.table["board"].to_pylist() if name is not None)
    return [
        _row(
            trials.name,
            f"{name}, {calls[name]}" if name in calls else name,
            trials.table.filter(pc.equal(trials.table["board"], name)),
            aside.get(name, "no"),
        )
        for name in dict.fromkeys([*names, *aside])
    ]


def _row(campaign: str, board: str, table: pa.Table, aside: str) -> BoardRow:
    """Failing twice is the trial's outcome; failing once is the board's trouble."""
    is_done = pc.equal(table["status"], "done")
    again = pc.and_(is_done, pc.is_valid(table["first_failure"]))
    columns = (again, pc.is_valid(table["aftermath"]), pc.invert(is_done))
    retried, anew, failed = (number(pc.sum(each).as_py() or 0) for each in columns)
    return BoardRow(campaign, board, number(table.num_rows), retried, anew, failed, aside)


def _set_aside(result: Mapping[str, Any] | None) -> dict[str, str]:
    """Why each board was set aside that was; names have colons too."""
    told = (each.partition(": ") for each in (result or {}).get("set_aside", ()))
    return {board: why for board, _, why in told}
