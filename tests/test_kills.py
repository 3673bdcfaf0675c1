# SPDX-License-Identifier: Apache-2.0
"""One campaign, killed again and again, on disks that tear files and run full: its table is the undisturbed one."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from toy_target import ToyTarget, long_campaign

from bitward.campaign import TrialStore, run_campaign, verdicts_sha256
from bitward.errors import OutputError, StoreError

TOY = Path(__file__).with_name("toy_target.py")


def undisturbed(folder: Path, trials: int) -> str:
    """The hash of the campaign's verdicts when nobody disturbs it."""
    toy = long_campaign(trials)
    with TrialStore.open(folder, toy.spec()) as store:
        run_campaign(toy, ToyTarget, store)
        return verdicts_sha256(store.read())


class Server:
    """Starts a campaign of `trials` trials in a process of its own, as often as asked."""

    def __init__(self, store: Path, trials: int, delay_s: float) -> None:
        command = [sys.executable, str(TOY), "serve", str(store), str(trials), str(delay_s)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         stderr=subprocess.DEVNULL, text=True)  # fmt: skip

    def start(self) -> int:
        """A campaign runs; its process."""
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def status(self) -> int:
        """How the process ended: 9 if it was killed, 0 if it came to its end, else more."""
        return int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def parts(store: Path) -> int:
    return len(list(store.glob("part-*.parquet")))


def tear(store: Path, number: int) -> Path:
    """One part is cut short, as a disk that lost power may leave it."""
    parts = sorted(store.glob("part-*.parquet"))
    torn = parts[number % len(parts)]
    torn.write_bytes(torn.read_bytes()[: torn.stat().st_size // 2])
    return torn


@pytest.mark.parametrize(
    ("kills", "trials"), [(10, 500), pytest.param(200, 8000, marks=pytest.mark.slow)], ids=["10", "200"]
)
def test_a_campaign_killed_at_random_has_the_undisturbed_table(tmp_path, kills, trials):
    expected = undisturbed(tmp_path / "undisturbed", trials)
    store, dice = tmp_path / "killed", random.Random(3)
    server = Server(store, trials, 0.002)
    killed, grown = 0, set()
    try:
        while killed < kills:
            process, before = server.start(), parts(store)
            while killed % 2 and parts(store) == before:  # every other time it comes as far as a part
                time.sleep(0.001)
            time.sleep(dice.uniform(0.0, 0.06))
            if killed % 5 == 2 and (store / "spec.json").exists():
                with pytest.raises(StoreError, match=r"^the store .* must be appended to by one process at a time"):
                    wait_until_refused(store, trials)
            os.kill(process, signal.SIGKILL)
            assert server.status() == signal.SIGKILL, "the campaign ended before it was killed often enough"
            killed += 1
            grown.add(parts(store))
            if killed % 7 == 3 and parts(store):
                torn = tear(store, killed)
                with pytest.raises(StoreError, match=rf"^{torn} must be a whole part of a trial store, .*: delete it"):
                    TrialStore.load(store).read()
                torn.unlink()
        stored = TrialStore.load(store).finished()
        assert 0 < len(stored) < trials and len(grown) > kills // 3
        server.start()
        assert server.status() == 0
    finally:
        server.close()
    table = TrialStore.load(store).read()
    assert table["trial"].to_pylist() == list(range(trials))
    assert verdicts_sha256(table) == expected
    assert TrialStore.load(store).result()["restored_golden"] is True
    assert not list(store.glob(".*.partial"))


def wait_until_refused(store: Path, trials: int) -> None:
    """A second coordinator tries to open the store until the first one holds it."""
    for _ in range(2000):
        TrialStore.open(store, long_campaign(trials).spec()).close()
        time.sleep(0.001)


def test_a_disk_that_runs_full_again_and_again_loses_nothing(tmp_path, monkeypatch):
    expected = undisturbed(tmp_path / "undisturbed", 200)
    toy, dice, real = long_campaign(200), random.Random(4), os.fsync
    failures = 0

    def sometimes(descriptor: int) -> None:
        if dice.random() < 0.15:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr("bitward.campaign.session.SEND_TRIALS", 10)
    monkeypatch.setattr(os, "fsync", sometimes)
    while True:
        try:
            with TrialStore.open(tmp_path / "full", toy.spec()) as store:
                run_campaign(toy, ToyTarget, store, part_trials=10)
                break
        except OutputError as error:
            assert "must be on a disk with space left, got No space left on device" in str(error)
            failures += 1
    assert failures > 3
    assert verdicts_sha256(TrialStore.load(tmp_path / "full").read()) == expected


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB of its own; needs root, to be mounted."""
    at = tmp_path / "disk"
    at.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", at], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"needs root, to mount a small disk: {done.stderr.strip()}")
    yield at
    subprocess.run(["umount", "-l", at], check=True)


@pytest.mark.parametrize("rest", [0, 4096, 20_000], ids="{} bytes left".format)
def test_a_disk_that_is_full_in_mid_campaign_ends_it_with_a_sentence_and_it_goes_on_when_there_is_space(
    small_disk, tmp_path, monkeypatch, rest
):
    expected = undisturbed(tmp_path / "undisturbed", 200)
    toy, ballast, directory = long_campaign(200), small_disk / "ballast", small_disk / "store"
    before: set[int] = set()

    def fill(done: int, planned: int, note: str) -> None:
        """In mid-campaign somebody else takes the space; what is finished then is remembered."""
        if done >= 100 and not ballast.exists():
            before.update(TrialStore.load(directory).finished())
            disk = os.statvfs(small_disk)
            ballast.write_bytes(bytes(max(0, disk.f_bavail * disk.f_frsize - rest)))

    monkeypatch.setattr("bitward.campaign.session.SEND_TRIALS", 10)
    for _ in range(2):  # it is started again while the disk is still full
        with pytest.raises(
            OutputError, match=r"^[^\n]* must be on a disk with space left, got No space left on device: [^\n]+$"
        ):
            with TrialStore.open(directory, toy.spec()) as store:
                run_campaign(toy, ToyTarget, store, part_trials=10, progress=fill)
    assert len(before) >= 90
    assert before <= TrialStore.load(directory).finished() < set(range(200))
    assert TrialStore.load(directory).result() is None
    ballast.unlink()
    with TrialStore.open(directory, toy.spec()) as store:
        run_campaign(toy, ToyTarget, store, part_trials=10)
    assert verdicts_sha256(TrialStore.load(directory).read()) == expected
    assert not list(directory.glob(".*.partial"))


def test_the_hash_tells_two_campaigns_apart(tmp_path):
    """Negative control: one trial more, or one verdict else, is another hash."""
    assert undisturbed(tmp_path / "a", 60) != undisturbed(tmp_path / "b", 61)
    table = TrialStore.load(tmp_path / "a").read()
    at = table.column_names.index("top1_changed")
    changed = table.set_column(at, table.field(at), [[count + (n == 7) for n, count in
                                                      enumerate(table["top1_changed"].to_pylist())]])  # fmt: skip
    assert verdicts_sha256(changed) != verdicts_sha256(table) == verdicts_sha256(table.sort_by("word"))
