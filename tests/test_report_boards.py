# SPDX-License-Identifier: Apache-2.0
"""The report's boards: who did which trials, what was run once more, what failed, who was set aside."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from report_run import manifest, trials, write_run
from test_report import Page

from bitward.campaign import Trial, TrialStore
from bitward.faults import single_bit_stratified
from bitward.report import write_report
from bitward.report.boards import board_rows
from bitward.report.load import load_run

ASIDE = ["b:1: the board must be golden again within 60 s, got: nothing", "c:2: its process ended with exit code -9"]


def on_boards(rows: list[Trial]) -> list[Trial]:
    """Trials in turn on two boards; of a's one was run once more and one failed twice, of b's one timed out."""
    found = [replace(row, board=("a:7967", "b:1")[row.trial % 2]) for row in rows]
    found[2] = replace(found[2], first_failure="no answer")
    found[3] = replace(found[3], aftermath="a row of the last trial stayed wrong")
    none = dict.fromkeys(("outputs_changed", "top1_changed", "top1_correct", "outputs_sha256"))
    for at, status in ((4, "failed"), (5, "timed-out")):
        found[at] = replace(found[at], status=status, error="no answer", first_failure="no answer", **none)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_run(tmp_path / "run")
    hardened = manifest("hardened")
    rows = on_boards(trials(hardened, single_bit_stratified(hardened, 2, seed=2), "board"))
    with TrialStore.open(tmp_path / "run" / "campaigns" / "inject-hardened-board", {"faults": len(rows)}) as store:
        store.append(rows)
        store.set_result({"restored_golden": True, "set_aside": ASIDE, "names": {"a:7967": "KV260 (virtual)"}})
    return tmp_path / "run"


def test_every_trial_is_in_a_row_and_trouble_is_told_from_outcomes(folder: Path):
    rows = {row.board: row for row in board_rows(load_run(folder))}
    planned = len(load_run(folder).by_hand["inject-hardened-board"].table)
    assert sum(int(row.trials) for row in rows.values()) == planned
    assert {name: (row.run_once_more, row.loaded_anew, row.failed) for name, row in rows.items()} == {
        "a:7967, KV260 (virtual)": ("1", "0", "1"), "b:1": ("0", "1", "1"), "c:2": ("0", "0", "0"),
    }  # fmt: skip
    assert (
        rows["a:7967, KV260 (virtual)"].was_set_aside == "no"
        and rows["c:2"].was_set_aside == "its process ended with exit code -9"
    )
    assert rows["b:1"].was_set_aside == "the board must be golden again within 60 s, got: nothing"


def test_the_page_says_what_an_outcome_is(folder: Path):
    text = Page(write_report(folder).read_text(encoding="utf-8")).text
    assert "Trials on boards" in text and "outcome of its own that stays in every denominator" in text
    assert "b:1" in text and "its process ended with exit code -9" in text


def test_a_campaign_that_has_not_ended_shows_the_boards_so_far(folder: Path):
    (folder / "campaigns" / "inject-hardened-board" / "result.json").unlink()
    assert {row.was_set_aside for row in board_rows(load_run(folder))} == {"no"}


def test_a_run_without_boards_has_no_such_section(tmp_path: Path):
    write_run(tmp_path / "run")
    assert "Trials on boards" not in Page(write_report(tmp_path / "run").read_text(encoding="utf-8")).text
