# SPDX-License-Identifier: Apache-2.0
"""What a campaign's plan says: several faults a trial, failures, time limits, stopping, screens, floats."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict, replace
from functools import partial

import numpy as np
import pytest
from toy_target import FAULTS, GOLDEN, IMAGES, MANIFEST, ToyTarget, campaign, compute, stumbles

from bitward import statistics
from bitward.campaign import METRICS, Campaign, Screen, Trial, TrialStore, run_campaign, trial_faults, verdicts_sha256
from bitward.campaign.collect import Collector
from bitward.campaign.judge import FAULTS_KEPT
from bitward.campaign.metrics import value
from bitward.campaign.plan import digest
from bitward.campaign.prefix import Prefix
from bitward.campaign.recorded import recorded_trials
from bitward.campaign.session import Trials
from bitward.errors import BoardError, ConfigError, LostBoardError, ManifestError, StoreError, ToolError
from bitward.faults import Ber, Burst, Exact, Fault, Replay, Uniform, faults_sha256
from bitward.manifest import Io, StreamTensor
from bitward.statistics import Stopping
from bitward.targets import Outcome
from bitward.targets.deadline import DeadlineError, deadline


def run(directory, toy, factory=ToyTarget, **options):
    with TrialStore.open(directory, toy.spec()) as store:
        return run_campaign(toy, factory, store, **options), store.read()


def naive(faults):
    """The toy's outputs with these faults, straight from the memories' bits."""
    memories = {name: image.copy() for name, image in GOLDEN.items()}
    for fault in faults:
        mask = np.uint32(1 << fault.bit)
        row = memories[fault.memory][fault.word]
        row[0] = {"flip": row[0] ^ mask, "stuck0": row[0] & ~mask, "stuck1": row[0] | mask}[fault.kind]
    return compute(memories, IMAGES)


# ---- faults ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model",
    [
        Ber(MANIFEST, 2, ber=0.03),
        Exact(MANIFEST, 2, flips=9),
        Burst(MANIFEST, 2, burst=4),
        Uniform(MANIFEST, 2, stuck=1),
        Exact(MANIFEST, 2, flips=3, stuck=0),
        Replay([FAULTS[:3], (), [FAULTS[7]]] * 10),
    ],
    ids=lambda model: model.name,
)
def test_trials_of_any_model_are_those_of_a_naive_loop(tmp_path, model):
    result, table = run(tmp_path, campaign(faults=model, trials=30), workers=2 if model.name == "ber" else 1)
    golden = compute(GOLDEN, IMAGES)
    assert result.restored_golden and result.trials == 30
    for number, row in enumerate(table.to_pylist()):
        faults = model.trial(number)
        outputs = naive(faults)
        assert (row["trial"], row["flips"], row["faults"]) == (number, len(faults), list(map(str, faults)))
        assert row["faults_sha256"] == faults_sha256(faults)
        assert (row["status"], row["path"], row["error"], row["screened"]) == ("done", "full", None, False)
        assert row["outputs_sha256"] == digest(outputs)
        assert row["outputs_changed"] == (outputs != golden).any(axis=1).sum()
        assert (row["memory"] is None) == (row["word"] is None) == (len(faults) != 1)
        assert row["seconds"] > 0


def test_a_list_too_long_to_keep_is_drawn_again(tmp_path, monkeypatch):
    monkeypatch.setattr("bitward.campaign.judge.FAULTS_KEPT", 4)
    model = Exact(MANIFEST, 2, flips=9)
    run(tmp_path, campaign(faults=model, trials=3))
    assert TrialStore.load(tmp_path).read()["faults"].to_pylist() == [None] * 3
    assert recorded_trials(tmp_path, MANIFEST) == tuple(model.trial(number) for number in range(3))
    assert FAULTS_KEPT == 4096
    spec, (trial, *_) = TrialStore.load(tmp_path).spec, TrialStore.load(tmp_path).trials()
    with pytest.raises(
        StoreError, match=r"^the faults of trial 0 must be those that were injected, got others: use the"
    ):
        trial_faults(trial, {**spec, "model": {**spec["model"], "seed": 3}}, MANIFEST)
    with pytest.raises(
        StoreError, match=r"^the faults of trial 0 must be drawn from the spec's model again, got a fault"
    ):
        trial_faults(trial, {**spec, "model": {"model": "replay"}}, MANIFEST)


def test_a_target_is_given_few_trials_at_a_time_where_each_has_many_faults(tmp_path, monkeypatch):
    given = []

    class Counting(ToyTarget):
        chunk_trials = 8

        def outcomes(self, images, trials):
            given.append(len(trials))
            return super().outcomes(images, trials)

    run(tmp_path / "few", campaign(faults=Exact(MANIFEST, 2, flips=9), trials=20), Counting)
    assert given == [8, 8, 4]
    monkeypatch.setattr("bitward.campaign.session.FLIPS_AT_ONCE", 25)
    run(tmp_path / "many", campaign(faults=Exact(MANIFEST, 2, flips=9), trials=20), Counting)
    assert given[3:] == [3] * 6 + [2]


def test_a_recorded_campaign_is_another_ones_faults(tmp_path):
    model = Ber(MANIFEST, 2, ber=0.03)
    _, first = run(tmp_path / "first", campaign(faults=model, trials=20))
    again = Replay(recorded_trials(tmp_path / "first", MANIFEST))
    _, second = run(tmp_path / "second", campaign(faults=again))
    assert verdicts_sha256(first) == verdicts_sha256(second)
    with (
        TrialStore.open(tmp_path / "none", {}),
        pytest.raises(StoreError, match=r"^.*none must hold a campaign's trials"),
    ):
        recorded_trials(tmp_path / "none", MANIFEST)


def test_a_fault_that_is_nowhere_is_refused_before_anything_runs():
    with pytest.raises(ManifestError, match=r"^word must be 0 to 5 in memory first, got 6; take faults from bitward"):
        campaign(faults=[FAULTS[0], [Fault("first", 6, 0)]])


# ---- trials that fail ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_a_trial_that_fails_is_a_row_and_the_others_go_on(tmp_path, workers):
    _, right = run(tmp_path / "right", campaign())
    result, table = run(tmp_path / "stumbling", campaign(), partial(ToyTarget, broken="stumbles"), workers=workers)
    bad = {number for number, fault in enumerate(FAULTS) if stumbles(fault)}
    assert bad and result.failed == len(bad) and result.restored_golden and result.trials == len(FAULTS)
    for row, expected in zip(table.to_pylist(), right.to_pylist(), strict=True):
        if row["trial"] in bad:
            assert (row["status"], row["path"]) == ("failed", "none")
            assert row["error"] == "the board must answer, got nothing: switch it on"
            assert {row[name] for name in ("outputs_changed", "top1_changed", "outputs_sha256")} == {None}
            assert (row["memory"], row["word"], row["bit"]) == (expected["memory"], expected["word"], expected["bit"])
        else:
            assert {**row, "seconds": 0} == {**expected, "seconds": 0}
    failed = [trial for trial in TrialStore.load(tmp_path / "stumbling").trials() if trial.status == "failed"]
    assert {value(metric, trial) for trial in failed for metric in METRICS} == {1.0}  # in the denominator, at worst


def test_a_trial_that_hangs_is_given_up(tmp_path):
    faults = [fault for fault in FAULTS if stumbles(fault)][:2] + list(FAULTS[:2])
    toy = campaign(faults=faults, timeout_s=0.2)
    result, table = run(tmp_path, toy, partial(ToyTarget, broken="hangs"))
    assert table["status"].to_pylist() == ["timed-out", "timed-out", "done", "done"]
    assert result.failed == 2 and result.restored_golden
    assert all(0.2 <= seconds < 5 for seconds in table["seconds"].to_pylist()[:2])


def test_a_deadline_leaves_nothing_behind():
    with deadline(0.05), pytest.raises(DeadlineError):
        while True:
            pass
    with deadline(60), deadline(None):
        pass


class Wrong(ToyTarget):
    """Wrong in ways that no fault explains."""

    def outcomes(self, images, trials):
        if self.broken == "too few":
            return iter(())
        if self.broken == "a bug":
            raise TypeError("a bug")
        return iter([Outcome(np.zeros((1, 2)), "full", 0.0)] * len(trials))


def test_what_no_fault_explains_ends_the_campaign(tmp_path):
    with pytest.raises(
        ToolError, match=r"^target toy must give an outcome for every trial, got too few: mend its outc"
    ):
        run(tmp_path / "a", campaign(), partial(Wrong, broken="too few"))
    with pytest.raises(
        BoardError, match=r"^target toy must give outputs of shape \(5, 3\), got \(1, 2\): build the des"
    ):
        run(tmp_path / "b", campaign(), partial(Wrong, broken="of another shape"))
    with pytest.raises(TypeError, match="a bug"):
        run(tmp_path / "c", campaign(), partial(Wrong, broken="a bug"))


class Drifting(ToyTarget):
    """Fails once, and gives other outputs when it is opened anew."""

    opened = 0

    def open(self):
        super().open()
        Drifting.opened += 1

    def infer(self, images):
        return super().infer(images) + (Drifting.opened > 1)


def test_a_target_that_is_another_one_after_a_failure_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Drifting, "opened", 0)
    sentence = r"^target toy must compute after a failed trial what it did before, got other outputs without faults: "
    with pytest.raises(BoardError, match=sentence):
        run(tmp_path, campaign(), partial(Drifting, broken="stumbles"))


class Lost(ToyTarget):
    def infer(self, images):
        if self.is_down:
            raise LostBoardError("the board must be golden again within 60 s, got nothing: set it aside")
        return super().infer(images)


def test_a_lost_board_is_no_trial_s_outcome_and_another_goes_on(tmp_path):
    _, right = run(tmp_path / "right", campaign())
    with pytest.raises(LostBoardError, match=r"^the board must be golden again within 60 s, got nothing: set it aside"):
        run(tmp_path / "lost", campaign(), partial(Lost, broken="stumbles"))
    kept = list(TrialStore.load(tmp_path / "lost").trials())
    assert {trial.status for trial in kept} <= {"done"} and len(kept) < len(FAULTS)
    result, table = run(tmp_path / "lost", campaign())
    assert result.failed == 0 and len(table) == len(FAULTS)
    assert verdicts_sha256(table) == verdicts_sha256(right)


# ---- stopping --------------------------------------------------------------------------------------------------------

RULE = Stopping("outputs_changed", margin=0.12, method="beta-binomial", least=5)
BITS = Uniform(MANIFEST, 11)


class Uneven(ToyTarget):
    """Trials that change something take longer: whoever looks at what is finished first sees too few of them."""

    def infer(self, images):
        outputs = super().infer(images)
        if not np.array_equal(outputs, compute(GOLDEN, images)):
            time.sleep(0.01)
        return outputs


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A campaign that stopped by its rule, with one worker."""
    return run(tmp_path_factory.mktemp("stopped"), campaign(faults=BITS, stopping=RULE))


def test_a_campaign_stops_where_its_rule_first_holds(stopped, tmp_path):
    result, table = stopped
    _, everything = run(tmp_path, campaign(faults=BITS))
    assert everything.num_rows == result.planned == BITS.trials > result.trials == table.num_rows
    assert result.ended == "margin reached" and result.interval.half_width <= RULE.margin
    values = [float(changed > 0) for changed in everything["outputs_changed"].to_pylist()]
    look, met = RULE.next_look(0), None
    while met is None:
        met = look if RULE.is_met(values[:look], BITS.trials) else None
        look = RULE.next_look(look)
    assert result.trials == met
    assert result.interval == RULE.interval(values[:met], BITS.trials)


def test_the_stop_does_not_depend_on_who_is_quick(stopped, tmp_path):
    toy = campaign(faults=BITS, stopping=RULE)
    result, table = run(tmp_path, toy, Uneven, workers=3, part_trials=5)
    assert result == stopped[0]
    assert verdicts_sha256(table) == verdicts_sha256(stopped[1])


def test_an_interrupted_campaign_stops_at_the_same_trial(stopped, tmp_path, monkeypatch):
    monkeypatch.setattr("bitward.campaign.session.SEND_TRIALS", 8)
    toy = campaign(faults=BITS, stopping=RULE)

    def interrupt(done, total, note):
        if done > 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, toy, progress=interrupt)
    assert 10 < TrialStore.load(tmp_path).read().num_rows < stopped[0].trials
    result, table = run(tmp_path, toy)
    assert result == stopped[0] and verdicts_sha256(table) == verdicts_sha256(stopped[1])
    (tmp_path / "result.json").unlink()
    assert run(tmp_path, toy)[0] == stopped[0]  # the read-back alone


def test_a_fixed_rule_ends_at_its_number_with_its_interval(tmp_path):
    rule = Stopping("top1_changed", margin=0.1, method="fixed", most=25)
    result, table = run(tmp_path, campaign(faults=BITS, stopping=rule))
    hits = [float(changed > 0) for changed in table["top1_changed"].to_pylist()]
    assert (result.trials, result.ended) == (25, "all trials done")
    assert result.interval == rule.interval(hits, BITS.trials)


def test_trials_that_come_out_of_order_wait():
    rows = [row(number, outputs_changed=number % 2) for number in range(60)]
    in_order = Prefix(RULE, None)
    expected = in_order.take(rows)
    mixed = Prefix(RULE, None)
    taken = [trial for start in (40, 20, 0) for trial in mixed.take(rows[start : start + 20])]
    assert taken == expected == rows[: len(expected)]
    assert (mixed.is_met, mixed.interval) == (in_order.is_met, in_order.interval)
    assert Prefix(RULE, None).take(rows[1:]) == []


def test_looking_at_the_interval_does_not_change_where_the_rule_is_met():
    rows = [row(number, outputs_changed=int(number % 7 == 0)) for number in range(4000)]
    rule = Stopping("outputs_changed", margin=0.05, method="beta-binomial")
    expected = Prefix(rule, None).take(rows)
    watched = Prefix(rule, None)
    taken = []
    for one in rows:
        taken += watched.take([one])
        watched.latest()
    assert 100 < len(expected) < len(rows) and taken == expected


def row(number, **changes):
    at = ("first", "fc1", "weight", 0, 0, 0, 0, 0, 0, 0)
    given = {"outputs_changed": 0, "top1_changed": 0, "top1_correct": None, "outputs_sha256": "x", **changes}
    return Trial(number, "toy", *at, 5, *(given.pop(name) for name in list(given)[:4]), **given)


def test_the_live_line_has_the_interval_and_the_time_left(tmp_path):
    notes = []
    toy = campaign(faults=BITS, stopping=RULE)
    run(tmp_path / "a", toy, progress=lambda done, total, note: notes.append(note))
    assert notes[0] == ""
    with TrialStore.open(tmp_path / "b", toy.spec()) as store:
        collector = Collector(toy, store, lambda done, total, note: notes.append(note), 1000, 60.0)
        collector.take(Trials(tuple(row(number, outputs_changed=number % 2) for number in range(8))))
    assert notes[-1].startswith("outputs_changed 50 % [")
    assert notes[-1].endswith(" to ±12 %")
    run(tmp_path / "c", campaign(), progress=lambda done, total, note: notes.append(note))
    assert notes[-1].startswith("top1_changed ") and notes[-1].endswith(" %]")


# ---- the screen ------------------------------------------------------------------------------------------------------


class Screening(ToyTarget):
    """Says of the lower two bits of every weight that they do not matter, which is not quite true."""

    def screened(self, images, trials):
        return np.array([all(fault.bit % 4 < 2 for fault in faults) for faults in trials])


def test_a_screen_leaves_out_all_but_an_audited_share(tmp_path):
    toy = campaign(faults=BITS, screen=Screen(audit=0.3, seed=2))
    result, table = run(tmp_path / "one", toy, Screening)
    _, everything = run(tmp_path / "all", campaign(faults=BITS))
    assert result.restored_golden
    seen = Counter()
    for found, full in zip(table.to_pylist(), everything.to_pylist(), strict=True):
        named = found["bit"] % 4 < 2
        kind = (found["screened"], found["path"])
        seen[kind] += 1
        assert found["screened"] == named
        if found["path"] == "screened":
            assert (found["status"], found["outputs_changed"], found["outputs_sha256"]) == ("done", None, None)
        else:
            assert {**found, "seconds": 0, "screened": False} == {**full, "seconds": 0}
    assert set(seen) == {(False, "full"), (True, "full"), (True, "screened")}
    share = seen[True, "full"] / (seen[True, "full"] + seen[True, "screened"])
    assert 0.15 < share < 0.45
    again = run(tmp_path / "two", toy, Screening, workers=2)[1]
    assert verdicts_sha256(again) == verdicts_sha256(table)  # the audit is the plan's, not the workers'
    trials = TrialStore.load(tmp_path / "one").trials()
    assert {value("outputs_changed", trial) is None for trial in trials if trial.path == "screened"} == {True}


@pytest.mark.parametrize("method", ["beta-binomial", "fixed"])
def test_the_interval_of_a_screened_campaign_is_that_of_the_statistics(tmp_path, method):
    most = 120 if method == "fixed" else None
    rule = Stopping("outputs_changed", margin=0.2, method=method, least=20, most=most)
    toy = campaign(faults=BITS, screen=Screen(audit=0.5, seed=2), stopping=rule)
    result, table = run(tmp_path / "one", toy, Screening)
    assert result == run(tmp_path / "two", toy, Screening, workers=2)[0]
    rows = table.to_pylist()
    screened = np.array([row["screened"] for row in rows])
    audited = np.array([row["screened"] and row["path"] == "full" for row in rows])
    values = [float((row["outputs_changed"] or 0) > 0) for row in rows]
    expected = rule.interval(values, BITS.trials, statistics.Screening(screened, audited, 0.5))
    assert result.interval == expected and result.trials == len(rows) == (most or result.trials)
    assert rule.is_met(values, BITS.trials, statistics.Screening(screened, audited, 0.5))
    truth = [naive(BITS.trial(number)) for number in range(BITS.trials)]
    share = np.mean([(outputs != compute(GOLDEN, IMAGES)).any() for outputs in truth])
    assert result.interval.low <= share <= result.interval.high


def test_a_sample_without_a_rule_has_the_interval_of_its_size(tmp_path):
    result, table = run(tmp_path, campaign(faults=BITS, trials=50))
    hits = sum(count > 0 for count in table["top1_changed"].to_pylist())
    assert result.interval == statistics.finite(hits, 50, BITS.trials)
    assert run(tmp_path / "list", campaign())[0].interval is None  # a list is no sample


def test_without_a_screen_nothing_is_left_out(tmp_path):
    _, table = run(tmp_path, campaign(faults=BITS, trials=40), Screening)
    assert set(table["path"].to_pylist()) == {"full"} and not any(table["screened"].to_pylist())


# ---- floats ----------------------------------------------------------------------------------------------------------


class Floating(ToyTarget):
    """Gives floats, NaN where a score is 0."""

    def infer(self, images):
        scores = np.asarray(super().infer(images), dtype=np.float32) / 3
        return np.where(scores == 0, np.float32(np.nan), scores)


def test_a_target_that_gives_nan_without_faults_recovers_all_the_same(tmp_path):
    toy = campaign(images=IMAGES.astype(np.float32) * 0)
    result, table = run(tmp_path, toy, partial(Floating, broken="stumbles"))
    assert result.failed == sum(map(stumbles, FAULTS)) and result.restored_golden
    assert set(table["outputs_changed"].to_pylist()) == {0, None}  # NaN is NaN


def test_floats_are_compared_and_digested_as_such(tmp_path):
    toy = campaign(images=IMAGES.astype(np.float32), faults=BITS)
    _, table = run(tmp_path, toy, Floating)
    target = Floating()
    target.open()
    golden = target.infer(IMAGES)
    assert np.isnan(golden).any() or len(set(table["outputs_changed"].to_pylist())) > 1
    unchanged = [row for row in table.to_pylist() if row["outputs_changed"] == 0]
    assert unchanged and {row["outputs_sha256"] for row in unchanged} == {digest(golden)}
    assert digest(np.float32([1.5])) == digest(np.float64([1.5])) != digest(np.float32([1.25]))


# ---- refusals --------------------------------------------------------------------------------------------------------

STREAMED = replace(MANIFEST, io=Io(*(StreamTensor((6,), "UINT4", 8, 1, 6) for _ in range(2))))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"manifest": STREAMED, "images": IMAGES / 2},
            r"^a campaign's images must be integers, as they are streamed, g",
        ),
        ({"trials": -1}, r"^a campaign's trials must be 0 or more, got -1: 1000 is a beginning$"),
        ({"timeout_s": 0}, r"^a campaign's timeout_s must be above 0, got 0: leave it out for no limit$"),
        (
            {"faults": Ber(MANIFEST)},
            r"^a campaign's trials must be given for the model ber, which has no end, got none: ",
        ),
        (
            {"faults": BITS, "trials": 10**6},
            r"^a campaign's trials must be at most the \d+ that the model uniform has, ",
        ),
        (
            {"faults": BITS, "stopping": replace(RULE, metric="outputs_chnged")},
            r"^a stopping rule's metric must be one of top1_changed, .*, got 'outputs_chnged'; did you mean 'outputs_c",
        ),
        (
            {"stopping": RULE},
            r"^a stopping rule must go with trials that are a random sample, got the model replay, whose first trials ",
        ),
    ],
)
def test_a_plan_that_does_not_fit_is_refused(change, sentence):
    with pytest.raises(ConfigError, match=sentence):
        campaign(**change)


@pytest.mark.parametrize("audit", [0, 1.5])
def test_an_audit_is_a_share(audit):
    with pytest.raises(
        ConfigError, match=rf"^a screen's audit must be above 0 and at most 1, got {audit}: 0.05 is one"
    ):
        Screen(audit)


@pytest.mark.parametrize("change", [{"trials": 7}, {"stopping": RULE}, {"screen": Screen()}, {"timeout_s": 1.0}])
def test_a_plan_with_another_rule_is_another_campaign(tmp_path, change):
    TrialStore.open(tmp_path, campaign(faults=BITS).spec()).close()
    name = "faults" if "trials" in change else next(iter(change))
    with pytest.raises(StoreError, match=rf"^the trials in .* must be continued as they were begun, got {name}"):
        TrialStore.open(tmp_path, campaign(faults=BITS, **change).spec())


def test_a_campaign_is_what_it_was_given():
    assert isinstance(campaign(), Campaign) and asdict(Screen()) == {"audit": 0.05, "seed": 1}
