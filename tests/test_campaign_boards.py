# SPDX-License-Identifier: Apache-2.0
"""One campaign on several boards: every trial once, the table that of one board, whoever is lost on the way."""

from __future__ import annotations

import json
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from toy_board import ToyBoard, boards, together
from toy_target import FAULTS, ToyTarget, campaign

from bitward.campaign import Campaign, CampaignResult, TrialStore, run_campaign, verdicts_sha256
from bitward.campaign import boards as boards_module
from bitward.campaign.session import in_batches
from bitward.errors import BoardError, ConfigError, LostBoardError, ManifestError
from bitward.faults import Uniform
from bitward.statistics import Stopping

ALL = list(range(len(FAULTS)))


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boards_module, "CHUNK_TRIALS", 8)
    monkeypatch.setattr(boards_module.from_boards, "__defaults__", (lambda: False, 8))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What one board finds, undisturbed."""
    _, store = run(tmp_path_factory.mktemp("alone") / "trials", partial(ToyBoard, "a", after=10**9))
    return verdicts_sha256(store.read())


def run(folder: Path, factory: object, toy: Campaign | None = None) -> tuple[CampaignResult, TrialStore]:
    toy = toy or campaign()
    with TrialStore.open(folder, toy.spec()) as store:
        return run_campaign(toy, factory, store, part_trials=5, part_s=0.05), store  # type: ignore[arg-type]


def shares(store: TrialStore) -> Counter[str]:
    return Counter(trial.board for trial in store.trials())


def test_three_boards_share_the_trials_and_the_table_is_that_of_one(tmp_path: Path, alone: str):
    result, store = run(tmp_path / "trials", together(tmp_path, a={}, b={}, c={}))
    assert [trial.trial for trial in store.trials()] == ALL and verdicts_sha256(store.read()) == alone
    assert result.boards == shares(store) and set(result.boards) == {"a", "b", "c"}
    assert result.restored_golden and not result.set_aside and result.retried == 0 and store.log() == []
    assert CampaignResult.from_dict(store.result()) == result
    _, other = run(tmp_path / "engine", ToyTarget)
    assert verdicts_sha256(other.read()) == alone and {trial.board for trial in other.trials()} == {None}


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("lost", "the board must be golden again within 60 s, got: nothing"),
        ("killed", "its process ended with exit code -9"),
        ("closed", "the board at b must answer, got no connection; is its server running?"),
        ("unread", "the board must answer, got nothing: switch it on"),
    ],
)
def test_what_a_lost_board_left_is_done_by_the_others(tmp_path: Path, alone: str, how: str, why: str):
    result, store = run(tmp_path / "trials", together(tmp_path, a={}, b={"breaks": how, "after": 11}))
    assert [trial.trial for trial in store.trials()] == ALL and verdicts_sha256(store.read()) == alone
    assert result.set_aside == (f"b: {why}",) and result.restored_golden and result.failed == 0
    (noted,) = store.log()
    assert (noted["event"], noted["board"], noted["why"]) == ("set aside", "b", why) and noted["at"][:2] == "20"
    did = shares(store)["b"]
    assert did == 0 if how == "closed" else did > 11 if how == "unread" else 0 < did <= 11


def test_a_board_that_is_wrong_after_a_failed_trial_is_set_aside_and_its_verdict_stays(tmp_path: Path):
    result, store = run(tmp_path / "trials", together(tmp_path, a={}, b={"breaks": "wrong", "after": 5}))
    assert [trial.trial for trial in store.trials()] == ALL
    (failed,) = (trial for trial in store.trials() if trial.status != "done")
    assert failed.board == "b" and result.failed == 1 and shares(store)["b"] == 6
    assert result.set_aside == (
        "b: target toy must compute after a failed trial what it did before, got other outputs without faults: start "
        "again to go on",
    )


def test_with_no_board_left_the_campaign_ends_in_a_sentence_and_goes_on_later(tmp_path: Path, alone: str):
    lost = {"breaks": "lost", "after": 7}
    with pytest.raises(
        LostBoardError,
        match=r"^one board of 2 must be left to end the campaign, got none \(.: the board must be golden again within "
        r"60 s, got: nothing; .: the board must be golden .*\): mend one, and start again to go on where it stopped$",
    ):
        run(tmp_path / "trials", together(tmp_path, a=lost, b=lost))
    kept = TrialStore.load(tmp_path / "trials")
    assert len(kept.read()) == 14 and kept.result() is None
    result, store = run(tmp_path / "trials", boards(c={}))
    assert verdicts_sha256(store.read()) == alone and shares(store) == {"a": 7, "b": 7, "c": len(FAULTS) - 14}
    assert sorted(each[0] for each in result.set_aside) == ["a", "b"] and result.boards == shares(store)


def test_an_error_that_is_no_boards_is_raised(tmp_path: Path):
    """A fault outside the design is the trial's verdict; what is wrong with the campaign is everybody's."""
    result, store = run(tmp_path / "trials", together(tmp_path, a={}, b={"breaks": "bug", "after": 3}))
    assert result.failed > 0 and {t.error for t in store.trials() if t.status == "failed"} == {
        "word must be 0 to 3, got 4; see the manifest"
    }
    toy = campaign(faults=Broken())
    with pytest.raises(ManifestError, match="^no such place"):
        run(tmp_path / "other", boards(a={}), toy)


class Broken(Uniform):
    """A model that cannot draw its third trial."""

    def __init__(self) -> None:
        super().__init__(campaign().manifest, 1)

    def trial(self, number: int) -> tuple:
        if number == 2:
            raise ManifestError("no such place")
        return super().trial(number)


def test_a_stopping_rule_ends_all_boards_at_the_same_trial(tmp_path: Path):
    rule = Stopping("outputs_changed", margin=0.2, method="betting")
    toy = campaign(faults=Uniform(campaign().manifest, 2), stopping=rule)
    first, alone = run(tmp_path / "alone", partial(ToyBoard, "a", after=10**9), toy)
    assert first.ended == "margin reached" and first.trials < first.planned
    second, store = run(tmp_path / "trials", together(tmp_path, a={}, b={"breaks": "lost", "after": 4}), toy)
    assert (second.trials, second.interval) == (first.trials, first.interval)
    assert verdicts_sha256(store.read()) == verdicts_sha256(alone.read())


@pytest.mark.parametrize("scheduler", [None, "local"])
def test_no_boards_or_boards_on_dask_are_refused(tmp_path: Path, scheduler: str | None):
    toy = campaign()
    with (
        TrialStore.open(tmp_path / "trials", toy.spec()) as store,
        pytest.raises(ConfigError, match=r"^boards that share trials must be one or more, without Dask, got \d and"),
    ):
        run_campaign(toy, boards(a={}) if scheduler else {}, store, scheduler=scheduler)


# ---- trials run once more ------------------------------------------------------------------------------------------


def test_infrastructure_retries_and_unrecoverable_errors_are_recorded_apart(tmp_path: Path):
    odd = {"retries": (3, 17, 30), "due": (5, 20)}
    result, store = run(tmp_path / "trials", together(tmp_path, a=odd, b=odd))
    rows = store.trials()
    again = {row.trial: row.status for row in rows if row.first_failure is not None}
    assert again == {3: "done", 17: "done", 30: "done", 5: "failed", 20: "failed"}
    assert (result.retried, result.failed, result.trials) == (3, 2, len(FAULTS))
    assert {row.error for row in rows if row.status == "failed"} == {
        "the accelerator must end, got no end: load it again"
    }
    noted = {entry["trial"]: entry for entry in store.log()}
    assert {trial: entry["then"] for trial, entry in noted.items()} == again
    assert {entry["event"] for entry in store.log()} == {"run once more"}
    assert all(entry["board"] == rows[trial].board for trial, entry in noted.items())
    assert result.interval is None  # a list; the failed ones stay in a sample's denominator:
    drawn = campaign(faults=Uniform(campaign().manifest, 1), trials=0)
    assert drawn.planned == 0


def test_failed_trials_stay_in_the_denominator_and_count_as_changed(tmp_path: Path):
    toy = campaign(faults=Sampled(), trials=len(FAULTS))
    good, _ = run(tmp_path / "good", partial(ToyBoard, "a", after=10**9), toy)
    due, _ = run(tmp_path / "due", partial(ToyBoard, "a", after=10**9, due=tuple(ALL[:10])), toy)
    assert good.interval is not None and due.interval is not None
    assert good.interval.trials == due.interval.trials == len(FAULTS)
    assert due.interval.estimate > good.interval.estimate and due.failed == 10


class Sampled(Uniform):
    """The list of faults, called a random sample."""

    def __init__(self) -> None:
        super().__init__(campaign().manifest, 1)

    def trial(self, number: int) -> tuple:
        return (FAULTS[number],)


def test_a_trial_that_is_too_slow_twice_has_timed_out(tmp_path: Path):
    toy = campaign(timeout_s=0.2)
    result, store = run(tmp_path / "trials", boards(a={"slow": (2, 9)}), toy)
    slow = [trial for trial in store.trials() if trial.status == "timed-out"]
    assert [trial.trial for trial in slow] == [2, 9] and result.failed == 2
    assert {trial.first_failure for trial in slow} == {
        "the trial must end within 0.2 s, got no end: give it a longer time limit"
    }


def test_a_resumed_campaign_counts_what_was_run_once_more_before(tmp_path: Path):
    first = {"retries": (1, 2), "breaks": "lost", "after": 6}
    with pytest.raises(LostBoardError):
        run(tmp_path / "trials", partial(ToyBoard, "a", **first))
    result, store = run(tmp_path / "trials", partial(ToyBoard, "b", retries=(40,)))
    assert result.retried == 3 and len(store.log()) == 4
    (tmp_path / "trials" / "log.jsonl").open("a").write('{"event": "cut')
    assert len(store.log()) == 4


def test_what_was_done_before_an_error_comes_before_it():
    def two() -> object:
        yield from ("first", "second")
        raise BoardError("gone")

    rows = [_row(name) for name in ("first", "second")]

    def events() -> object:
        yield from rows
        raise BoardError("gone")

    batches = in_batches(events())  # type: ignore[arg-type]
    assert next(batches).trials == tuple(rows)  # type: ignore[union-attr]
    with pytest.raises(BoardError, match="^gone"):
        next(batches)


def _row(name: str) -> object:
    from types import SimpleNamespace

    return SimpleNamespace(status="done", name=name)


def test_the_store_keeps_who_ran_a_trial_and_why_twice(tmp_path: Path):
    _, store = run(tmp_path / "trials", partial(ToyBoard, "a", retries=(0,)))
    row = store.read().slice(0, 1).to_pylist()[0]
    assert row["board"] == "a" and row["first_failure"].startswith("the board must answer")
    assert json.loads((tmp_path / "trials" / "result.json").read_text())["boards"] == {"a": len(FAULTS)}
