# SPDX-License-Identifier: Apache-2.0
"""Trials that overstay: a worker that does not hear the alarm is ended, its trial counts, the others go on."""

from __future__ import annotations

import os
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
from toy_target import FAULTS, GOLDEN, ToyTarget, campaign, stumbles

from bitward.campaign import CampaignResult, Screen, Trial, TrialStore, run_campaign, verdicts_sha256, watch
from bitward.campaign.session import Began, Ready, Session, Trials
from bitward.campaign.watch import Missing, Watch
from bitward.errors import BoardError, ToolError

STUCK = [fault for fault in FAULTS if stumbles(fault)][:2]
MIXED = [FAULTS[0], STUCK[0], *FAULTS[1:4], STUCK[1], *FAULTS[4:8]]
LIMIT_S = 0.3


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(watch, "GRACE_S", 0.4)


def run(folder: Path, workers: int = 1, broken: str = "deaf", **options: object) -> tuple[CampaignResult, TrialStore]:
    toy = campaign(faults=MIXED, timeout_s=LIMIT_S, **options)
    with TrialStore.open(folder, toy.spec()) as store:
        return run_campaign(toy, partial(ToyTarget, broken=broken), store, workers=workers), store


@pytest.mark.parametrize("workers", [1, 2])
def test_a_trial_that_no_alarm_ends_is_given_up_and_the_others_go_on(tmp_path, workers):
    result, store = run(tmp_path / "deaf", workers)
    rows = store.trials()
    assert [row.trial for row in rows] == list(range(len(MIXED)))
    assert [row.status for row in rows] == ["timed-out" if fault in STUCK else "done" for fault in MIXED]
    assert result.failed == 2 and result.restored_golden and result.trials == len(MIXED)
    for row in rows:
        if row.status == "timed-out":
            assert row.error == "the trial took longer than 0.3 s and did not hear the alarm: its process was ended"
            assert LIMIT_S <= row.seconds < 20 and row.path == "none" and row.images == 5
            assert row.faults == (str(MIXED[row.trial]),) and row.memory == "second"
    _, heard = run(tmp_path / "hangs", workers, broken="hangs")
    assert verdicts_sha256(store.read()) == verdicts_sha256(heard.read())


def test_with_a_limit_nobody_overstays_the_table_is_the_usual_one(tmp_path):
    _, store = run(tmp_path / "limited", broken="")
    toy = campaign(faults=MIXED)
    with TrialStore.open(tmp_path / "free", toy.spec()) as free:
        run_campaign(toy, ToyTarget, free)
        assert verdicts_sha256(store.read()) == verdicts_sha256(free.read())


def test_what_goes_wrong_elsewhere_is_told_as_ever(tmp_path):
    with pytest.raises(BoardError, match=r"^the workers. targets must agree without faults, got two outputs"):
        run(tmp_path / "differs", 2, broken="differs")


class AtOnce(ToyTarget):
    """Computes all trials that it is given before it says anything, and notes how many they were."""

    given: ClassVar[list[int]] = []

    def outcomes(self, images, trials):
        self.given.append(len(trials))
        return iter(list(super().outcomes(images, trials)))


@pytest.mark.parametrize(("limit_s", "sizes"), [(None, [10]), (5.0, [1] * 10)])
def test_a_limit_is_a_trials_also_where_a_target_computes_many_at_once(limit_s, sizes):
    AtOnce.given.clear()
    with closing(Session(campaign(faults=MIXED, timeout_s=limit_s), AtOnce)) as session:
        events = list(session.trials(range(10)))
    assert AtOnce.given == sizes
    began = [event.number for event in events if isinstance(event, Began)]
    assert began == ([] if limit_s is None else list(range(10)))
    assert [event.trial for event in events if isinstance(event, Trial)] == list(range(10))


class Clock:
    """A clock that a test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(watch, "time", SimpleNamespace(monotonic=lambda: self.now))


@pytest.fixture
def clock(monkeypatch) -> Clock:
    return Clock(monkeypatch)


def row(number: int, toy) -> object:
    judge = watch.Judge(toy, toy.images)
    return judge.failed(watch.Planned(number, toy.model.trial(number)), "failed", "no answer", 0.1)


def test_a_worker_is_overdue_only_while_it_is_at_a_trial(clock):
    toy = campaign(faults=MIXED, timeout_s=1.0)
    seen = Watch(toy, [Missing(10, frozenset()).share(n, 2) for n in range(2)], 1.0)
    assert seen.left_s(0) is None  # it may take its time to open its target
    seen.heard(0, Ready("golden", ()))
    seen.heard(0, Began(0, False))
    assert seen.left_s(0) == pytest.approx(1.4) and seen.left_s(1) is None
    clock.now += 1
    seen.heard(0, Began(2, False))
    assert seen.left_s(0) == pytest.approx(1.4)
    seen.heard(0, Trials((row(0, toy),)))  # what was done before came late: it is still at trial 2
    assert seen.left_s(0) == pytest.approx(1.4)
    seen.heard(0, Trials((row(2, toy),)))  # it failed, and is being mended
    clock.now += 60
    assert seen.left_s(0) is None


def test_the_row_and_the_rest_of_one_that_was_ended(clock):
    toy = campaign(faults=MIXED, timeout_s=1.0, screen=Screen(audit=0.5))
    seen = Watch(toy, [Missing(10, frozenset({4})).share(n, 2) for n in range(2)], 1.0)
    seen.heard(0, Began(0, False))
    seen.heard(0, Trials((row(0, toy),)))
    seen.heard(0, Began(2, True))
    clock.now += 3
    assert seen.left_s(0) == pytest.approx(-1.6)
    event, rest = seen.gave_up(0)
    assert [(each.trial, each.status, each.screened, each.seconds) for each in event.trials] == [
        (2, "timed-out", True, 3)
    ]
    assert list(rest) == [6, 8] and seen.left_s(0) is None
    seen.heard(0, Began(6, False))
    assert list(seen.gave_up(0)[1]) == [8]


def test_a_coordinator_that_was_busy_hears_its_workers_before_it_ends_them(tmp_path):
    toy = campaign(faults=FAULTS, timeout_s=LIMIT_S)
    slow = iter(range(1000))

    def busy(done: int, planned: int, note: str) -> None:
        if next(slow) in (1, 3):
            time.sleep(2 * LIMIT_S + 1)

    with TrialStore.open(tmp_path, toy.spec()) as store:
        result = run_campaign(toy, partial(ToyTarget, 0.02), store, workers=2, progress=busy)
    assert result.failed == 0 and result.trials == len(FAULTS)


def test_a_worker_that_dies_by_itself_is_still_one_sentence(tmp_path):
    toy = campaign(faults=MIXED, timeout_s=5.0)
    with (
        TrialStore.open(tmp_path, toy.spec()) as store,
        pytest.raises(
            ToolError, match=r"^a worker process must end after its last trial, got exit code 3: start again"
        ),
    ):
        run_campaign(toy, Dying, store)


class Dying(ToyTarget):
    """Takes its process with it."""

    def infer(self, images):
        if (self.memories["first"] != GOLDEN["first"]).any():
            os._exit(3)
        return super().infer(images)
