# SPDX-License-Identifier: Apache-2.0
"""Between two trials on a board: memories golden, a canary right, by the extension and by the stock client."""

from __future__ import annotations

import logging
import threading
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bitward_runtime.extension_client import ExtensionClient
from bitward_runtime.server import Server
from bitward_virtual.emulate import virtual_board
from small_design import ELEMENTS, Broken, SmallDesign, make_small_build

from bitward.campaign import Campaign, CampaignResult, TrialStore, run_campaign, session, verdicts_sha256
from bitward.engine.images import load_images
from bitward.errors import BoardError, LostBoardError
from bitward.faults import single_bit_stratified
from bitward.manifest import Manifest
from bitward.targets import board as board_module
from bitward.targets.board import BoardTarget

IMAGES = np.arange(3 * ELEMENTS).reshape(3, ELEMENTS)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_small_build(tmp_path_factory.mktemp("small") / "build")


@pytest.fixture(params=["extension", "stock client"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The way to the board; the stock client is taken where the server says nothing of the extension."""
    monkeypatch.setattr(board_module, "TRY_AGAIN_S", 0.05)
    if request.param == "stock client":
        request.getfixturevalue("board_python")
        monkeypatch.setattr(ExtensionClient, "hello", lambda self, *_: None)
    return str(request.param)


def campaign(small: Path, per_stratum: int = 1) -> Campaign:
    manifest = Manifest.load(small / "manifest.json")
    faults = single_bit_stratified(manifest, per_stratum, 3)
    return Campaign("board", manifest, load_images(small / "memories.npz"), faults[::2], IMAGES)


def run(folder: Path, small: Path, server: Server) -> tuple[CampaignResult, TrialStore]:
    plan = campaign(small)
    with TrialStore.open(folder, plan.spec()) as store:
        return run_campaign(plan, partial(BoardTarget, small, server.host, server.port), store), store


@pytest.fixture(scope="module")
def undisturbed(small: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    with Server(virtual_board(small, lambda _: SmallDesign(small, Broken())), port=0) as server:
        return verdicts_sha256(run(tmp_path_factory.mktemp("good") / "trials", small, server)[1].read())


def drifting(broken: Broken) -> None:
    """From the canary after the third trial on, the design is wrong until it is loaded anew."""

    def drift() -> None:
        broken.drift = 1
        broken.streams.append(lambda: setattr(broken, "drift", 0))  # the next stream is on the board loaded anew

    nothing = [lambda: None] * 7  # without faults, the canary's first, then trial, canary, trial, canary, trial
    broken.streams += [*nothing, drift]


def sticking(broken: Broken) -> None:
    """All bits stick as they are in the third trial, until the board is loaded anew."""

    def stick() -> None:
        for row in range(6):
            broken.stuck["narrow", row] = broken.stuck["wide", row] = (1 << 48) - 1
        broken.streams.append(broken.stuck.clear)  # the next stream is on the board loaded anew

    broken.streams += [*[lambda: None] * 6, stick]


@pytest.mark.parametrize(
    ("disturb", "says"),
    [
        (drifting, "the canary image is wrong after the last trial: the overlay is loaded anew"),
        (sticking, "a row of the last trial stayed wrong: the overlay is loaded anew"),
    ],
)
def test_what_stays_wrong_is_found_before_the_next_counted_trial(
    tmp_path: Path, small: Path, broken: Broken, running: Server, path: str, undisturbed: str, caplog: Any,
    disturb: Any, says: str,
):  # fmt: skip
    disturb(broken)
    with caplog.at_level(logging.WARNING):
        result, store = run(tmp_path / "trials", small, running)
    assert says in caplog.text and broken.loads == 2
    assert verdicts_sha256(store.read()) == undisturbed and result.restored_golden
    (wrong,) = (row for row in store.trials() if row.aftermath is not None)
    assert f"{wrong.aftermath}: the overlay is loaded anew" == says and wrong.first_failure is None
    (noted,) = store.log()
    assert (noted["event"], noted["trial"], noted["why"]) == ("loaded anew", wrong.trial, wrong.aftermath)


def test_without_the_canary_a_drift_would_be_in_the_table(
    tmp_path: Path, small: Path, broken: Broken, running: Server, undisturbed: str, monkeypatch: pytest.MonkeyPatch
):
    """The control: the same drift, nobody looking."""
    monkeypatch.setattr(BoardTarget, "_attempt", BoardTarget._under)
    broken.streams += [*[lambda: None] * 5, lambda: setattr(broken, "drift", 1)]
    _, store = run(tmp_path / "trials", small, running)
    assert verdicts_sha256(store.read()) != undisturbed


def fail() -> None:
    raise BoardError("the accelerator must end within 1000 cycles, got none; load the overlay again")


def test_a_board_that_dies_in_the_canary_after_a_trial_costs_that_trial_a_second_attempt(
    tmp_path: Path, small: Path, broken: Broken, running: Server, path: str, undisturbed: str
):
    broken.streams += [*[lambda: None] * 5, fail]  # without faults, canary; two trials with theirs, the second's fails
    result, store = run(tmp_path / "trials", small, running)
    assert verdicts_sha256(store.read()) == undisturbed
    assert [row.trial for row in store.trials() if row.first_failure is not None] == [1] and result.retried == 1


def test_a_board_that_cannot_infer_the_canary_at_all_is_lost_and_no_trial_is_blamed(
    tmp_path: Path, small: Path, broken: Broken, running: Server
):
    broken.streams += [lambda: None, fail, fail]  # without faults; the canary; the canary on the board loaded anew
    with pytest.raises(
        LostBoardError, match=r"^a board loaded anew must infer the canary image, got: the accelerator "
    ):
        run(tmp_path / "trials", small, running)
    store = TrialStore.load(tmp_path / "trials")
    assert len(store.read()) == 0
    (noted,) = store.log()
    assert noted["event"] == "set aside" and noted["board"] == f"{running.host}:{running.port}"


def test_every_row_is_read_back_at_the_end_and_what_is_wrong_then_is_named(
    tmp_path: Path, small: Path, broken: Broken, running: Server, path: str, monkeypatch: pytest.MonkeyPatch
):
    """Checks after a trial look at its rows and the canary; a row that no trial hit is the read-back's to find."""
    plan = campaign(small)
    hit = {(fault.memory, fault.word) for fault in plan.faults}  # type: ignore[union-attr]
    row = next(row for row in range(6) if ("narrow", row) not in hit)
    inferred = BoardTarget.infer
    calls: list[int] = []

    def infer(self: BoardTarget, images: Any) -> Any:
        outputs = inferred(self, images)
        calls.append(len(images))
        if len(calls) == 2 + 2 * plan.planned:  # after the last canary
            self.write("narrow", row, self.golden("narrow", row) ^ 1)
        return outputs

    monkeypatch.setattr(BoardTarget, "infer", infer)
    result, _ = run(tmp_path / "trials", small, running)
    assert not result.restored_golden and result.unrestored == (f"narrow:{row}",)


def test_a_server_that_is_gone_for_a_while_costs_a_second_attempt_and_no_trial(
    tmp_path: Path, small: Path, path: str, undisturbed: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(session, "SEND_TRIALS", 1)  # so that it goes after the third trial, and not after all
    servers = [Server(virtual_board(small, lambda _: SmallDesign(small, Broken())), port=0)]
    host, port = servers[0].host, servers[0].port
    plan = campaign(small)

    def back() -> None:
        servers.append(Server(virtual_board(small, lambda _: SmallDesign(small, Broken())), port=port))

    def progress(done: int, total: int, note: str) -> None:
        if done == 3 and len(servers) == 1:
            servers[0].stop()
            threading.Timer(0.5, back).start()

    try:
        with TrialStore.open(tmp_path / "trials", plan.spec()) as store:
            result = run_campaign(plan, partial(BoardTarget, small, host, port), store, progress=progress)
        assert verdicts_sha256(store.read()) == undisturbed and result.restored_golden and result.failed == 0
        assert result.retried == 1 and result.boards == {f"{host}:{port}": plan.planned}
    finally:
        for server in servers:
            server.stop()
