# SPDX-License-Identifier: Apache-2.0
"""ctrl-C and SIGTERM, as a terminal and a batch system send them: one line, nothing left running, and it goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest
from shared_runs import ROOT

from bitward.campaign.workers import end, started
from bitward.cli import main
from bitward.cli._ending import Ending
from bitward.signals import whole

FLOW = (
    "network: digits_mlp\ntrain: {seeds: [0]}\nbuild: {target_fps: 20000}\nverify: {images: 20}\n"
    "measure: {images: 4, batches: 1, transfers: 2, passes: 1}\n"
    "inject: {msb: false, per_stratum: 16, agree_faults: 12, images: 4, strata_images: 4}\n"
)
KEPT = "bitward: interrupted: finished stages and trials are kept: the same command goes on from there\n"
LATEST_S = 20.0  # on a machine that does other things too; 1 to 3 s on one that does not


class Command:
    """A bitward command in a group of its own, as a shell starts it; whatever it starts carries its tag."""

    def __init__(self, *words: object) -> None:
        self._tag = f"BITWARD_TEST_TAG={uuid.uuid4()}"
        name, _, value = self._tag.partition("=")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bitward", *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, name: value},
        )

    def until(self, beginning: str) -> None:
        """It has printed a line that begins so."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(beginning):
                return
        raise AssertionError(f"{beginning} was never printed: {self.process.stderr.read()}")  # type: ignore[union-attr]

    def told(self, number: int) -> tuple[int, str]:
        """Exit code and stderr after that signal: ctrl-C goes to the whole group, others to the process alone."""
        if number == signal.SIGINT:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)
        self.printed, said = self.process.communicate(timeout=LATEST_S)
        return self.process.returncode, said

    def left(self) -> list[str]:
        """The command lines of processes that it started and that are still there a second later."""
        deadline = time.monotonic() + 5
        while (found := list(self._running())) and time.monotonic() < deadline:
            time.sleep(0.1)
        return found

    def _running(self) -> Iterator[str]:
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if self._tag.encode() in (folder / "environ").read_bytes():
                    yield (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue  # it has ended, or is another user's


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with small.yaml; its run is in `runs` beside it."""
    folder = tmp_path_factory.mktemp("interrupted")
    (folder / "small.yaml").write_text(FLOW)
    return folder


def run(runs: Path, *options: str) -> Command:
    """`bitward run` of that flow."""
    return Command("run", runs / "small.yaml", "--runs", runs / "runs", *options)


@pytest.mark.parametrize(
    ("number", "stage", "after"), [(signal.SIGINT, "train", "small: "), (signal.SIGTERM, "build", "harden ")]
)
def test_a_stage_that_is_cut_off_says_what_is_kept_and_leaves_nothing_running(runs, number, stage, after):
    model = ROOT / "onnx_models" / "digits_cnn.onnx"
    if stage != "train":  # which takes its time
        (runs / "small.yaml").write_text(f"network: own\ndataset: digits\nmodel: {model}\n")
    command = run(runs, "--to", stage)
    command.until(after)
    time.sleep(1.0)
    code, said = command.told(number)
    assert (code, said) == (128 + number, KEPT)
    assert command.left() == []


def found(runs: Path, name: str) -> dict[str, Any]:
    """The summary of a run, without what differs from time to time."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            timed = ("wall_s", "seconds", "fps", "latency_p50_s", "finished", "date", "measured")
            return {key: plain(each) for key, each in value.items() if key not in timed}
        return [plain(each) for each in value] if isinstance(value, list) else value

    return dict(plain(json.loads((runs / name / "small" / "summary.json").read_text())))


@pytest.mark.slow
@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=["ctrl-C", "SIGTERM", "kill -9"]
)
def test_a_run_that_is_cut_off_at_every_stage_finds_what_an_undisturbed_one_finds(tmp_path, number):
    (tmp_path / "small.yaml").write_text(FLOW)
    main(["run", str(tmp_path / "small.yaml"), "--runs", str(tmp_path / "undisturbed")])
    places = [("small: ", 4), ("harden", 0.5), ("harden", 4), ("build", 0.1), ("build", 1), ("verify", 1),
              ("measure", 0.3), ("measure", 3), ("measure", 6)]  # fmt: skip
    for after, delay in places:
        command = run(tmp_path)
        command.until(after)
        time.sleep(delay)
        if command.process.poll() is None:
            code, said = command.told(number)
            is_over = command.printed.endswith("report.html\n")  # it came while Python itself ended
            if number != signal.SIGKILL and not is_over:
                place = (after, delay, command.printed)
                assert (code, said) == (128 + number, KEPT), place
        assert command.left() == []
    assert main(["run", str(tmp_path / "small.yaml"), "--runs", str(tmp_path / "runs")]) == 0
    assert found(tmp_path, "runs") == found(tmp_path, "undisturbed")


BOARD = """
import faulthandler, os, random, signal, sys, threading, time
from pathlib import Path
import numpy as np
from bitward.cli._ending import Ending
from bitward.faults import single_bit_stratified
from bitward.flow.attack import Place

faulthandler.enable()
build, draw = Path(sys.argv[1]), random.Random(1)
for number in range(int(sys.argv[2])):
    faulthandler.dump_traceback_later(float(sys.argv[3]), exit=True)
    telling = threading.Timer(draw.uniform(0, 0.5), os.kill, (os.getpid(), signal.SIGTERM))
    with Ending() as ending:
        telling.start()
        try:
            with Place("board", build).target() as target:
                trials = [[fault] for fault in single_bit_stratified(target.manifest, 1, number)]
                images = np.ones((4, *target.manifest.io.input.shape), np.int64)
                while True:
                    list(target.outcomes(images, trials))
        except KeyboardInterrupt:
            ending.heard()
        assert ending.told
    telling.join()
    faulthandler.cancel_dump_traceback_later()
"""


def test_a_signal_in_the_midst_of_a_call_to_a_virtual_board_ends_it_whole(mlp_run):
    script = [sys.executable, "-c", BOARD, str(mlp_run.build("hardened")), "25", str(LATEST_S)]
    done = subprocess.run(script, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.fixture
def unhandled() -> Iterator[None]:
    """This process hears signals as a shell's command does, whoever listens to them else."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTERM, signal.SIGHUP)}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("unhandled")
def test_a_library_that_swallows_ctrl_c_does_not_make_a_bug_of_it(monkeypatch, capsys):
    @click.command()
    def command() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            raise AttributeError("half imported") from None

    monkeypatch.setattr(import_module("bitward.cli.doctor"), "command", command)
    assert main(["doctor"]) == 130
    assert capsys.readouterr().err == "bitward: interrupted\n"
    monkeypatch.setattr(import_module("bitward.cli.resources"), "command", command)
    assert main(["resources"]) == 130
    assert capsys.readouterr().err == (
        "bitward: interrupted: the nodes synthesised so far are kept: the same command goes on from there\n"
    )


@pytest.mark.usefixtures("unhandled")
def test_what_ignores_a_signal_goes_on_ignoring_it_and_handlers_are_put_back():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Ending() as ending:
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGINT) != signal.default_int_handler
        assert not ending.told
        assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
    finally:
        signal.signal(signal.SIGHUP, before)


def _idle(connection: Any) -> None:
    connection.send("on")
    connection.recv()


@pytest.mark.usefixtures("unhandled")
def test_workers_never_hear_ctrl_c_and_their_start_is_not_cut_in_two():
    blocked = 1 << (signal.SIGINT - 1)
    with Ending() as ending:
        with pytest.raises(KeyboardInterrupt), whole():
            os.kill(os.getpid(), signal.SIGTERM)
            assert not ending.told
        ending.heard()
        assert ending.exit_code == 143
        connection, process = started(_idle)
        try:
            assert connection.recv() == "on"
            status = Path(f"/proc/{process.pid}/status").read_text()
            masks = [line.split()[1] for line in status.splitlines() if line.startswith("SigBlk")]
            assert int(masks[0], 16) & blocked
        finally:
            end([process])
        assert not process.is_alive()
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & {signal.SIGINT}
