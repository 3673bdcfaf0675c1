# SPDX-License-Identifier: Apache-2.0
"""A campaign on several virtual boards, one of which is lost on the way: every trial once, the undisturbed table."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from bitward_runtime.server import Server
from bitward_virtual.emulate import virtual_board
from quick_boards import quick_board
from small_design import ELEMENTS, Broken, SmallDesign, make_small_build

from bitward import tools
from bitward.campaign import Campaign, CampaignResult, TrialStore, run_campaign, verdicts_sha256
from bitward.campaign import boards as boards_module
from bitward.datasets import load_dataset
from bitward.engine.images import load_images
from bitward.errors import BoardError
from bitward.faults import single_bit_stratified
from bitward.manifest import Manifest, apply_edge
from bitward.targets.board import BoardTarget
from bitward.targets.engine import EngineTarget


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boards_module.from_boards, "__defaults__", (lambda: False, 8))


def campaign_of(build: Path, images: np.ndarray, per_stratum: int) -> Campaign:
    manifest = Manifest.load(build / "manifest.json")
    faults = single_bit_stratified(manifest, per_stratum, 3)
    return Campaign("board", manifest, load_images(build / "memories.npz"), faults, images)


def run(
    folder: Path, toy: Campaign, factory: object, at: int = 0, then: Callable[[], object] = lambda: None
) -> tuple[CampaignResult, TrialStore]:
    """The campaign is done; when `at` trials were, `then()` was called."""
    pending = [then]

    def progress(done: int, total: int, note: str) -> None:
        if done >= at and pending:
            pending.pop()()

    with TrialStore.open(folder, toy.spec()) as store:
        return run_campaign(toy, factory, store, progress=progress), store  # type: ignore[arg-type]


def factories(build: Path, *ports: int) -> dict[str, Callable[[], BoardTarget]]:
    return {f"127.0.0.1:{port}": partial(quick_board, build, "127.0.0.1", port) for port in ports}


# ---- a small design ------------------------------------------------------------------------------------------------


@contextmanager
def small_board(build: Path, broken: Broken) -> Iterator[Server]:
    with Server(virtual_board(build, lambda _: SmallDesign(build, broken)), port=0) as server:
        yield server


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_small_build(tmp_path_factory.mktemp("small") / "build")


@pytest.fixture(scope="module")
def toy(small: Path) -> Campaign:
    return campaign_of(small, np.arange(3 * ELEMENTS).reshape(3, ELEMENTS), 3)


@pytest.fixture(scope="module")
def undisturbed(small: Path, toy: Campaign, tmp_path_factory: pytest.TempPathFactory) -> str:
    with small_board(small, Broken()) as server:
        result, store = run(
            tmp_path_factory.mktemp("one") / "trials", toy, partial(BoardTarget, small, server.host, server.port)
        )
    assert result.boards == {f"{server.host}:{server.port}": len(toy.faults)}  # type: ignore[arg-type]
    return verdicts_sha256(store.read())


def test_a_server_that_is_gone_costs_no_trial(tmp_path: Path, small: Path, toy: Campaign, undisturbed: str):
    """It goes within a trial of its own; until then the others wait, whoever was opened first."""
    lasting, dying = Broken(), Broken()
    stopping = Thread(target=lambda: second.stop())
    dying.streams = [lambda: None] * 2 + [stopping.start]  # the outputs without faults, the canary's, a trial
    with ExitStack() as stack:
        first, third = (stack.enter_context(small_board(small, lasting)) for _ in range(2))
        second = stack.enter_context(small_board(small, dying))
        lasting.streams = [lambda: None] * 4 + [lambda: wait_for(stopping)] * 2
        made = factories(small, first.port, second.port, third.port)
        result, store = run(tmp_path / "trials", toy, made)
    assert [trial.trial for trial in store.trials()] == list(range(toy.planned))
    assert verdicts_sha256(store.read()) == undisturbed and result.failed == 0 and result.restored_golden
    did = Counter(trial.board for trial in store.trials())
    assert result.boards == did and did.keys() <= made.keys()
    (aside,) = result.set_aside
    assert re.match(rf"^127\.0\.0\.1:{second.port}: the board must be golden again within 1 s, got: ", aside)


def wait_for(thread: Thread) -> None:
    """The thread was started, and has ended."""
    while thread.ident is None:
        time.sleep(0.01)
    thread.join()


def fail() -> None:
    raise BoardError("the accelerator must end within 1000 cycles, got none; load the overlay again")


def test_a_board_that_needs_every_trial_twice_is_set_aside_and_its_retries_are_counted(
    tmp_path: Path, small: Path, toy: Campaign, undisturbed: str
):
    """Each of its streams that would be a trial's first fails: after three such trials it is not asked any more."""
    flaky, good = Broken(), Broken()
    flaky.streams = [lambda: None] * 2  # the outputs without faults, and the canary's
    for _ in range(4):  # fails; the canary after loading, the second attempt, the canary after it
        flaky.streams += [fail, *[lambda: None] * 3]
    with small_board(small, flaky) as first, small_board(small, good) as second:
        result, store = run(tmp_path / "trials", toy, factories(small, first.port, second.port))
    assert verdicts_sha256(store.read()) == undisturbed
    again = [trial for trial in store.trials() if trial.first_failure is not None]
    assert {trial.board for trial in again} <= {f"127.0.0.1:{first.port}"} and result.failed == 0
    assert result.retried == len(again) == 3
    assert all(trial.first_failure.startswith("the accelerator must end within 1000 cycles") for trial in again)
    (aside,) = result.set_aside
    assert re.match(r"^127\S+: at most 3 trials in a row must need a second attempt, got one more \(the accele", aside)
    assert Counter(entry["event"] for entry in store.log()) == {"run once more": 3, "set aside": 1}


def test_a_trial_that_fails_twice_is_a_verdict_of_its_own(tmp_path: Path, small: Path, toy: Campaign):
    broken = Broken()
    broken.streams = [lambda: None] * 2 + [fail, lambda: None, fail]
    with small_board(small, broken) as server:
        result, store = run(tmp_path / "trials", toy, partial(BoardTarget, small, server.host, server.port))
    failed, *rest = store.trials()
    assert (failed.trial, failed.status) == (0, "failed") and failed.first_failure == failed.error
    assert all(trial.status == "done" and trial.first_failure is None for trial in rest)
    assert (result.failed, result.retried, result.trials) == (1, 0, toy.planned)


def test_a_trial_that_is_too_slow_once_is_the_boards_and_twice_its_own(tmp_path: Path, small: Path):
    """The limit is an attempt's: loading the board anew between two does not count."""
    toy = replace(campaign_of(small, np.arange(ELEMENTS).reshape(1, -1), 1), timeout_s=0.4)
    broken = Broken()

    def slow() -> None:
        time.sleep(0.8)

    broken.streams = [lambda: None] * 2 + [slow, lambda: None, lambda: None, lambda: None]  # trial 0: once
    broken.streams += [slow, lambda: None, slow]  # trial 1: twice
    with small_board(small, broken) as server:
        result, store = run(tmp_path / "trials", toy, factories(small, server.port))
    first, second, *rest = store.trials()
    limit = "the trial must end within 0.4 s, got no end: give it a longer time limit"
    assert (first.status, first.first_failure) == ("done", limit)
    assert (second.status, second.first_failure, second.error) == ("timed-out", limit, limit)
    assert all(trial.status == "done" and trial.first_failure is None for trial in rest)
    assert (result.retried, result.failed) == (1, 1) and result.set_aside == ()


# ---- RTL -----------------------------------------------------------------------------------------------------------


@contextmanager
def emulated(build: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A virtual board with the build's RTL, in a process of its own, and its port."""
    process = tools.popen([sys.executable, "-m", "bitward_virtual", build, "--port", "0"])
    try:
        assert process.stdout is not None
        yield process, int(re.search(rb"on \S+:(\d+), ctrl-C", process.stdout.readline())[1])  # type: ignore[index]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def test_rtl_boards_one_of_them_killed_give_the_engines_table(mlp_run, tmp_path: Path):
    build = mlp_run.build("hardened")
    manifest = Manifest.load(build / "manifest.json")
    images = apply_edge(manifest.io.pre, load_dataset("digits").test_images[:4]).astype(np.int64)
    toy = campaign_of(build, images, 6)
    _, predicted = run(tmp_path / "engine", toy, partial(EngineTarget, build))
    with emulated(build) as (_, one), emulated(build) as (dying, two), emulated(build) as (_, three):
        made = factories(build, one, two, three)
        result, store = run(tmp_path / "trials", toy, made, toy.planned // 2, dying.kill)
    assert [trial.trial for trial in store.trials()] == list(range(toy.planned))
    assert verdicts_sha256(store.read()) == verdicts_sha256(predicted.read())
    assert result.restored_golden and result.failed == 0
    assert [aside.partition(": ")[0] for aside in result.set_aside] == [f"127.0.0.1:{two}"]
    did = Counter(trial.board for trial in store.trials())
    assert set(did) == set(made) and min(did.values()) > 0
