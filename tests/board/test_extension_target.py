# SPDX-License-Identifier: Apache-2.0
"""A board as a target: batches through the extension, the stock client where it is missing, and boards that fail."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bitward_runtime.extension_client import ExtensionClient
from bitward_runtime.server import Server
from bitward_virtual.emulate import overlay_of, virtual_board
from small_design import DEPTH, ELEMENTS, Broken, SmallDesign, make_small_build

from bitward import tools
from bitward.engine.images import load_images
from bitward.errors import BoardError, LostBoardError, ManifestError
from bitward.faults import Fault, Faults, single_bit_stratified
from bitward.manifest import Manifest
from bitward.targets import board as board_module
from bitward.targets._blocks import hits_of
from bitward.targets._handoff import read_handoff
from bitward.targets.board import BoardTarget
from bitward.words import beat_of

IMAGES = np.arange(3 * ELEMENTS).reshape(3, ELEMENTS)


@pytest.fixture
def target(small: Path, running: Server, monkeypatch: Any) -> Iterator[BoardTarget]:
    monkeypatch.setattr(board_module, "TRY_AGAIN_S", 0.05)
    with BoardTarget(small, running.host, running.port) as target:
        yield target


def golden_of(build: Path) -> dict[str, np.ndarray]:
    return load_images(build / "memories.npz")


def sum_under(build: Path, faults: list[Fault]) -> int:
    """The independent oracle: beats as Python integers, faults one after another."""
    rows = {(name, word): beat_of(row) for name, image in golden_of(build).items() for word, row in enumerate(image)}
    for fault in faults:
        rows[fault.memory, fault.word] = fault.hit(rows[fault.memory, fault.word])
    return sum(rows.values())


def expected(build: Path, faults: list[Fault]) -> np.ndarray:
    return (IMAGES + sum_under(build, faults)) % 256


def random_faults(manifest: Manifest, count: int, seed: int) -> list[Fault]:
    random = np.random.default_rng(seed)
    kinds = ("flip", "flip", "stuck0", "stuck1")
    memories = [manifest.memories[at] for at in random.integers(0, len(manifest.memories), count)]
    return [
        Fault(m.name, int(random.integers(DEPTH)), int(random.integers(m.width)), kinds[random.integers(4)])
        for m in memories
    ]


@pytest.mark.parametrize("seed", range(6))
def test_trials_of_many_faults_are_what_faults_one_by_one_are(target: BoardTarget, small: Path, seed: int):
    trials = [random_faults(target.manifest, count, seed) for count in (1, 0, 200, 7)]
    for faults, outcome in zip(trials, target.outcomes(IMAGES, trials), strict=True):
        assert np.array_equal(outcome.outputs, expected(small, faults))
    assert list(target.differing(golden_of(small))) == [] and target.retries == 0


@pytest.mark.parametrize("kind", ["flip", "stuck0", "stuck1"])
def test_faults_as_arrays_are_the_same_faults(target: BoardTarget, small: Path, kind: str):
    random = np.random.default_rng(1)
    places = {
        m.name: (random.integers(0, DEPTH, 50), random.integers(0, m.width, 50)) for m in target.manifest.memories
    }
    faults = Faults(places, kind)
    (outcome,) = target.outcomes(IMAGES, [faults])
    assert np.array_equal(outcome.outputs, expected(small, list(faults)))
    target.inject_many(faults)
    assert list(target.differing(golden_of(small)))
    target.restore_many(faults)
    assert list(target.differing(golden_of(small))) == []


def test_a_trial_is_few_calls_whatever_its_faults(target: BoardTarget, monkeypatch: Any):
    calls: list[str] = []
    ask = ExtensionClient._ask

    def counted(self: ExtensionClient, name: str, *arguments: Any) -> Any:
        calls.append(name)
        return ask(self, name, *arguments)

    list(target.outcomes(IMAGES, [[]]))  # the canary's golden outputs
    monkeypatch.setattr(ExtensionClient, "_ask", counted)
    list(target.outcomes(IMAGES, [random_faults(target.manifest, 500, 1)]))
    assert [name for name in calls if name != "renew"] == ["flip", "write", "infer", "write", "check", "write", "infer"]


def test_rows_are_read_and_written_at_once(target: BoardTarget, small: Path):
    golden = golden_of(small)
    assert np.array_equal(target.read_rows("wide"), golden["wide"])
    assert np.array_equal(target.read_rows("wide", [3, 1]), golden["wide"][[3, 1]])
    target.write_rows("wide", [2], golden["wide"][[0]])
    assert target.read("wide", 2) == target.golden("wide", 0)
    assert list(target.differing(golden)) == [("wide", 2)]
    target.write("wide", 2, target.golden("wide", 2))
    target.inject(Fault("wide", 5, 47))
    assert target.read("wide", 5) == target.golden("wide", 5) ^ 1 << 47
    with pytest.raises(
        ManifestError, match=r"^words of memory wide must be of shape \(1, 2\), got \(1, 1\); give 2 32-"
    ):
        target.write_rows("wide", [2], np.zeros((1, 1), np.uint32))


@pytest.mark.parametrize("as_arrays", [False, True])
@pytest.mark.parametrize(
    ("word", "bit", "sentence"),
    [
        (DEPTH, 0, r"^word must be 0 to 5 in memory wide, got 6; take faults from bitward.faults$"),
        (-1, 0, r"^word must be 0 to 5 in memory wide, got -1; "),
        (0, 48, r"^bit must be 0 to 47 in memory wide, got 48; take faults from bitward.faults$"),
    ],
)
def test_faults_at_places_that_are_not_there_are_refused(
    small: Path, as_arrays: bool, word: int, bit: int, sentence: str
):
    manifest = Manifest.load(small / "manifest.json")
    places = Faults({"wide": (np.array([word]), np.array([bit]))})
    with pytest.raises(ManifestError, match=sentence):
        hits_of(places if as_arrays else list(places), manifest)


def test_a_software_only_memory_has_no_rows(small: Path):
    manifest = Manifest.load(small / "manifest.json")
    software = replace(manifest, memories=(replace(manifest.memories[0], hardware=None),))
    with pytest.raises(
        ManifestError, match=r"^memory narrow must be in hardware, got a software-only one; build the mo"
    ):
        hits_of([Fault("narrow", 0, 0)], software)


# ---- boards that fail -----------------------------------------------------------------------------------------------


def fail() -> None:
    raise BoardError("the accelerator must end within 1000 cycles, got none; load the overlay again")


def test_a_trial_that_fails_once_is_run_again_on_a_board_loaded_anew(
    target: BoardTarget, small: Path, broken: Broken, caplog: Any
):
    faults = [[fault] for fault in single_bit_stratified(target.manifest, 1, 1)[:4]]
    outcomes = target.outcomes(IMAGES, faults)
    assert np.array_equal(next(outcomes).outputs, expected(small, faults[0]))
    broken.streams.append(fail)
    with caplog.at_level(logging.WARNING):
        rest = [outcome.outputs for outcome in outcomes]
    assert all(np.array_equal(found, expected(small, trial)) for found, trial in zip(rest, faults[1:], strict=True))
    assert target.retries == 1 and broken.loads == 2
    assert "a trial of 1 rows failed (the accelerator must end" in caplog.text


def test_a_trial_that_fails_twice_fails_and_leaves_the_board_golden(target: BoardTarget, small: Path, broken: Broken):
    list(target.outcomes(IMAGES, [[]]))
    broken.streams += [fail, lambda: None, fail]  # the attempt, the canary after loading, the second attempt
    trials = [[Fault("wide", 1, 3)], [Fault("narrow", 1, 3)]]
    with pytest.raises(BoardError, match=r"^the accelerator must end within 1000 cycles, got none; load ") as caught:
        list(target.outcomes(IMAGES, trials))
    assert not isinstance(caught.value, LostBoardError)
    assert list(target.differing(golden_of(small))) == []
    (outcome,) = target.outcomes(IMAGES, trials[1:])
    assert np.array_equal(outcome.outputs, expected(small, trials[1]))


def test_a_bit_that_stays_wrong_is_found_before_the_next_trial(
    target: BoardTarget, small: Path, broken: Broken, caplog: Any
):
    trials = [[Fault("wide", 1, 3)], [Fault("narrow", 1, 3)]]
    outcomes = target.outcomes(IMAGES, trials)

    def stick() -> None:
        broken.stuck["wide", 1] = 1 << 3
        broken.streams.append(broken.stuck.clear)  # the next stream is the canary's, after the board was loaded

    list(target.outcomes(IMAGES, [[]]))
    broken.streams.append(stick)
    found = [outcome.outputs for outcome in outcomes]
    assert all(np.array_equal(each, expected(small, trial)) for each, trial in zip(found, trials, strict=True))
    assert "a row of the last trial stayed wrong: the overlay is loaded anew" in caplog.text and broken.loads == 2


def test_a_design_that_computes_wrongly_is_found_by_the_canary(
    target: BoardTarget, small: Path, broken: Broken, caplog: Any
):
    list(target.outcomes(IMAGES, [[]]))

    broken.streams += [lambda: None, lambda: setattr(broken, "drift", 1)]  # the trial; the canary after it
    broken.streams.append(lambda: setattr(broken, "drift", 0))  # the canary on the board loaded anew
    trials = [[Fault("narrow", 0, 0)], [Fault("narrow", 1, 3)]]
    found = [outcome.outputs for outcome in target.outcomes(IMAGES, trials)]
    assert all(np.array_equal(each, expected(small, trial)) for each, trial in zip(found, trials, strict=True))
    assert "the canary image is wrong after the last trial: the overlay is loaded anew" in caplog.text
    assert broken.loads == 2


def test_a_canary_that_fails_once_is_no_trials_fault(target: BoardTarget, small: Path, broken: Broken):
    broken.streams.append(fail)
    (outcome,) = target.outcomes(IMAGES, [[Fault("narrow", 0, 0)]])
    assert np.array_equal(outcome.outputs, expected(small, [Fault("narrow", 0, 0)]))
    assert broken.loads == 2 and target.retries == 0


def test_a_board_that_needs_too_many_attempts_is_set_aside(target: BoardTarget, broken: Broken):
    list(target.outcomes(IMAGES, [[]]))
    for _ in range(4):  # each trial: fails, canary after loading, succeeds, canary after it
        broken.streams += [fail, *[lambda: None] * 3]
    trials = [[Fault("narrow", 0, bit)] for bit in range(6)]
    outcomes = target.outcomes(IMAGES, trials)
    for _ in range(3):
        next(outcomes)
    with pytest.raises(
        LostBoardError, match=r"^at most 3 trials in a row must need a second attempt, got one more \(the "
    ):
        next(outcomes)


def test_a_board_that_does_not_come_back_is_lost(target: BoardTarget, running: Server, monkeypatch: Any):
    monkeypatch.setattr(board_module, "REVIVED_WITHIN_S", 0.2)
    outcomes = target.outcomes(IMAGES, [[Fault("narrow", 0, 0)]] * 2)
    next(outcomes)
    running.stop()
    with pytest.raises(
        LostBoardError, match=r"^the board must be golden again within 0\.2 s, got: the board at .* must "
    ):
        next(outcomes)


@pytest.mark.parametrize(
    ("breaks", "sentence"),
    [
        (
            {"zero_at_load": "narrow"},
            r"got: a board loaded anew must hold the golden image, got 6 other words; load it a",
        ),
        ({"drift": 3}, r"got: a board loaded anew must compute what it did before, got other outputs; load it again$"),
    ],
)
def test_a_board_that_loads_wrongly_is_lost(
    target: BoardTarget, broken: Broken, monkeypatch: Any, breaks: Any, sentence: str
):
    monkeypatch.setattr(board_module, "REVIVED_WITHIN_S", 0.0)
    list(target.outcomes(IMAGES, [[]]))
    broken.streams.append(fail)
    vars(broken).update(breaks)
    with pytest.raises(LostBoardError, match=sentence):
        list(target.outcomes(IMAGES, [[Fault("narrow", 0, 0)]]))


def test_ultra_ram_is_written_and_verified_after_loading(tmp_path: Path, broken: Broken):
    build = make_small_build(tmp_path / "ultra", "ultra")
    broken.zero_at_load = "wide"
    with Server(virtual_board(build, lambda _: SmallDesign(build, broken)), port=0) as server:
        with BoardTarget(build, server.host, server.port) as target:
            assert list(target.differing(golden_of(build))) == []
            assert np.array_equal(target.infer(IMAGES), expected(build, []))
        broken.stuck["wide", 0] = (1 << 48) - 1
        with pytest.raises(
            BoardError, match=r"^UltraRAM wide must hold what was written, got [12] other words; load it "
        ):
            BoardTarget(build, server.host, server.port).__enter__()


# ---- two ways to a board --------------------------------------------------------------------------------------------


def test_a_server_without_the_extension_is_reached_by_the_stock_client(
    small: Path, running: Server, board_python: Path, monkeypatch: Any, caplog: Any
):
    monkeypatch.setattr(ExtensionClient, "hello", lambda self, *_: None)
    faults = random_faults(Manifest.load(small / "manifest.json"), 30, 2)
    with caplog.at_level(logging.INFO), BoardTarget(small, running.host, running.port) as target:
        assert "has no extension of bitward's: through the stock PYNQ client" in caplog.text
        assert target.name == "KV260 (virtual, bitward)" and target.is_simulated
        (outcome,) = target.outcomes(IMAGES, [faults])
        assert np.array_equal(outcome.outputs, expected(small, faults))
        assert list(target.differing(golden_of(small))) == []


def test_the_stock_client_needs_its_environment(small: Path, running: Server, monkeypatch: Any):
    monkeypatch.setattr(ExtensionClient, "hello", lambda self, *_: None)
    monkeypatch.setattr("bitward.targets._links.board_python", lambda: None)
    with pytest.raises(
        BoardError, match=r"^the PYNQ client's environment \.venv-board must be there, got none; run ma"
    ):
        BoardTarget(small, running.host, running.port).__enter__()


def test_the_extension_needs_no_process(target: BoardTarget, monkeypatch: Any, small: Path, running: Server):
    target.close()
    monkeypatch.setattr(tools, "popen", lambda *_, **__: pytest.fail("a process was started"))
    with BoardTarget(small, running.host, running.port) as again:  # and the lease was given back
        assert again.name == "KV260 (virtual, bitward)"


def test_a_board_of_our_own_is_loaded_anew_where_it_is(small: Path, broken: Broken, monkeypatch: Any):
    """A target without an address has a server in this process, which goes on when a trial fails."""

    def loaded(_: Path) -> SmallDesign:
        broken.loads += 1
        return SmallDesign(small, broken)

    monkeypatch.setattr(board_module, "virtual_board", lambda build: virtual_board(build, loaded))
    with BoardTarget(small) as target:
        faults = [[fault] for fault in single_bit_stratified(target.manifest, 1, 1)[:2]]
        outcomes = target.outcomes(IMAGES, faults)
        assert np.array_equal(next(outcomes).outputs, expected(small, faults[0]))
        broken.streams.append(fail)
        assert np.array_equal(next(outcomes).outputs, expected(small, faults[1]))
        assert target.retries == 1 and broken.loads == 2
        assert list(target.differing(golden_of(small))) == []


@pytest.mark.parametrize("text", ["BASEVALUE", "PL0_REF_CTRL__DIVISOR0", "PL0_REF_CTRL__SRCSEL"])
def test_a_handoff_that_lacks_something_is_refused(small: Path, text: str):
    hwh = overlay_of(small).with_suffix(".hwh")
    whole = hwh.read_text()
    places = read_handoff(hwh)
    assert (places.accelerator, places.dma, places.pl0_ref_ctrl) == (0xA000_0000, 0xAFFF_0000, 0x01010500)
    hwh.write_text(whole.replace(text, "x"))
    with pytest.raises(BoardError, match=r"^\S+\.hwh must "):
        read_handoff(hwh)
    hwh.unlink()
    with pytest.raises(BoardError, match=r"^\S+\.hwh must be the handoff file beside the overlay, got "):
        read_handoff(hwh)
