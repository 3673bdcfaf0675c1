# SPDX-License-Identifier: Apache-2.0
"""Campaigns on Dask: one table for any number of workers, and when workers are lost."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest
from toy_target import FAULTS, GOLDEN, IMAGES, MANIFEST, ToyTarget, campaign, compute, long_campaign, stumbles

from bitward.campaign import TrialStore, run_campaign, verdicts_sha256
from bitward.campaign import cluster as cluster_module
from bitward.cli._ending import Ending
from bitward.errors import BoardError, ConfigError, ToolError
from bitward.faults import Uniform
from bitward.statistics import Stopping

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def cluster():
    """A scheduler and two workers that are other processes, found by address alone."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0"
    ) as local:
        yield local


def run(directory, toy, factory=ToyTarget, **options):
    with TrialStore.open(directory, toy.spec()) as store:
        return run_campaign(toy, factory, store, **options), store.read()


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The table of the process pool."""
    return run(tmp_path_factory.mktemp("pool"), long_campaign(300), workers=2)[1]


class Named(ToyTarget):
    """Notes each opening of a target, by its process, in the folder `log`."""

    def __init__(self, log: Path, delay_s: float = 0.0) -> None:
        super().__init__(delay_s)
        self.log = log

    def open(self):
        super().open()
        (self.log / f"{os.getpid()}-{time.monotonic_ns()}").touch()


def test_two_workers_of_a_cluster_give_the_pools_table_and_open_one_target_each(cluster, tmp_path, expected):
    (tmp_path / "log").mkdir()
    factory = partial(Named, tmp_path / "log", 0.002)
    result, table = run(tmp_path / "store", long_campaign(300), factory, scheduler=cluster.scheduler_address)
    assert verdicts_sha256(table) == verdicts_sha256(expected)
    assert result.restored_golden and result.trials == 300
    opened = [path.name.split("-")[0] for path in (tmp_path / "log").iterdir()]
    assert len(opened) == len(set(opened)) == 2 and str(os.getpid()) not in opened


@pytest.mark.parametrize("workers", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_local_workers_give_the_same_table(tmp_path, expected, workers):
    result, table = run(tmp_path, long_campaign(300), scheduler="local", workers=workers)
    assert verdicts_sha256(table) == verdicts_sha256(expected) and result.restored_golden


class Told(ToyTarget):
    """Tells in `events` when it is opened and closed; the first `stuck` times it does not close in order."""

    events: list[str] = []
    stuck = 0

    def open(self):
        super().open()
        self.events.append("opened")

    def close(self):
        super().close()
        self.events.append("closed")
        if Told.stuck:
            Told.stuck -= 1
            raise BoardError("the board must give its lease back, got nothing: switch it on")


@pytest.mark.parametrize("stuck", [0, 1])
def test_a_worker_closes_what_a_killed_coordinator_left(monkeypatch, stuck):
    """Also where that fails: then it is told once, and the next chunk has a target of its own."""
    monkeypatch.setattr(cluster_module, "_sessions", {})
    monkeypatch.setattr(Told, "events", [])
    monkeypatch.setattr(Told, "stuck", stuck)
    killed = cluster_module._Work("campaign", "killed", campaign(), Told)
    work = cluster_module._Work("campaign", "begun again", campaign(), Told)
    first = cluster_module._attend(killed, [0, 1])
    if stuck:
        with pytest.raises(BoardError, match="^the board must give its lease back, got nothing: switch it on$"):
            cluster_module._attend(work, [0, 1])
    again, more = cluster_module._attend(work, [0, 1]), cluster_module._attend(work, [2])
    assert Told.events == ["opened", "closed", "opened"]
    assert again.ready is not None and more.ready is None
    assert [each.trial for each in (*again.trials.trials, *more.trials.trials)] == [0, 1, 2]
    assert [(each.status, each.outputs_sha256) for each in again.trials.trials] == [
        (each.status, each.outputs_sha256) for each in first.trials.trials
    ]
    cluster_module._close("campaign", "killed")
    assert cluster_module._unrestored("campaign", "killed") is None
    assert cluster_module._unrestored("campaign", "begun again") == ()
    cluster_module._close("campaign", "begun again")
    assert Told.events == ["opened", "closed", "opened", "closed"]


class Doomed(ToyTarget):
    """Kills its worker once, in the middle of a chunk."""

    def __init__(self, flag: Path) -> None:
        super().__init__()
        self.flag = flag
        self.count = 0

    def infer(self, images):
        self.count += 1
        if self.count > 80 and not self.flag.exists():
            self.flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().infer(images)


def test_a_lost_worker_costs_its_chunk_only(cluster, tmp_path, expected):
    result, table = run(
        tmp_path / "store", long_campaign(300), partial(Doomed, tmp_path / "lost"), scheduler=cluster.scheduler_address
    )
    assert (tmp_path / "lost").exists()
    assert verdicts_sha256(table) == verdicts_sha256(expected) and result.restored_golden


class Cursed(ToyTarget):
    """Kills every worker that it is given to."""

    def infer(self, images):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_chunk_that_ends_every_worker_is_one_sentence(tmp_path):
    once = dask.config.set({"distributed.scheduler.allowed-failures": 0})
    with (
        once,
        pytest.raises(ToolError, match=r"^a chunk of trials must not end its workers, got KilledWorker: start "),
    ):
        run(tmp_path, campaign(), Cursed, scheduler="local", workers=1)


def test_failures_repairs_and_left_faults_are_told(cluster, tmp_path):
    address = cluster.scheduler_address
    result, table = run(tmp_path / "a", campaign(), partial(ToyTarget, broken="stumbles"), scheduler=address)
    bad = [number for number, fault in enumerate(FAULTS) if stumbles(fault)]
    assert [row["trial"] for row in table.to_pylist() if row["status"] == "failed"] == bad
    assert result.failed == len(bad)
    result, _ = run(tmp_path / "b", campaign(), partial(ToyTarget, broken="sticky"), scheduler=address)
    assert not result.restored_golden and result.unrestored == (f"{FAULTS[4].memory}:{FAULTS[4].word}",)
    left = FAULTS[3]
    result, _ = run(tmp_path / "c", campaign(), partial(ToyTarget, leftover=left), scheduler=address)
    assert set(result.repaired) == {f"{left.memory}:{left.word}"} and result.restored_golden
    with pytest.raises(BoardError, match=r"^target toy must compute the expected outputs without faults, got 5 other "):
        run(
            tmp_path / "d",
            campaign(expected=compute(GOLDEN, IMAGES)),
            partial(ToyTarget, broken="wrong outputs"),
            scheduler=address,
        )


def test_a_rule_stops_at_the_same_trial(cluster, tmp_path):
    rule = Stopping("outputs_changed", margin=0.12, method="beta-binomial", least=5)
    toy = campaign(faults=Uniform(MANIFEST, 11), stopping=rule)
    here, expected = run(tmp_path / "here", toy)
    there, table = run(tmp_path / "there", toy, scheduler=cluster.scheduler_address)
    assert here == there and verdicts_sha256(table) == verdicts_sha256(expected)


def test_an_interrupted_campaign_goes_on(cluster, tmp_path, expected):
    def interrupt(done, total, note):
        if done >= 64:
            raise KeyboardInterrupt

    toy, address = long_campaign(300), cluster.scheduler_address
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, toy, scheduler=address, progress=interrupt)
    assert 64 <= len(TrialStore.load(tmp_path).finished()) < 300
    assert verdicts_sha256(run(tmp_path, toy, scheduler=address)[1]) == verdicts_sha256(expected)
    (tmp_path / "result.json").unlink()
    assert run(tmp_path, toy, scheduler=address)[0].restored_golden  # the read-back alone


def test_a_signal_while_a_cluster_starts_is_heard_when_it_can_be_closed(tmp_path, monkeypatch):
    did = []

    class Starting:
        def __init__(self, **_: object) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            did.append("started")

        def __enter__(self) -> Starting:
            return self

        def __exit__(self, *_: object) -> None:
            did.append("closed")

    monkeypatch.setattr(distributed, "LocalCluster", Starting)
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with pytest.raises(KeyboardInterrupt), Ending():
            run(tmp_path, campaign(), scheduler="local", workers=2)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert did == ["started", "closed"]


def test_a_scheduler_that_does_not_answer_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr("bitward.campaign.cluster.START_S", 1)
    for scheduler in ("tcp://127.0.0.1:9", "no address"):
        with pytest.raises(
            ToolError, match=r"^the Dask scheduler must be local, or answer at tcp://host:port with a w"
        ):
            run(tmp_path, campaign(), scheduler=scheduler)


def test_time_limits_are_not_for_dask(tmp_path):
    with pytest.raises(ConfigError, match=r"^a time limit must be watched by this machine's processes, got the Dask s"):
        run(tmp_path, campaign(timeout_s=1.0), scheduler="local")
