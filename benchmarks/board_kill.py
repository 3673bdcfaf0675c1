# SPDX-License-Identifier: Apache-2.0
"""A long campaign on a virtual board whose server is killed (-9) at random: is every trial there once, and right?

    python benchmarks/board_kill.py runs/digits/build/hardened --trials 10000 --kills 5 --json runs/board_kill.json

Single bits, drawn uniformly, 16 images each, over loopback; the server (`python -m bitward_virtual`) is a process of
its own, killed when as many trials as a seed says have come in, and started again up to two seconds later. At the end
all memories are read back, by the campaign and by another client, and each trial is held against the engine's
prediction.
The campaign goes on where it stopped when this is ended and started again. Nothing here is hardware.
"""

from __future__ import annotations

import argparse
import json
import random
import socket
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from bitward.campaign import Campaign, CampaignResult, TrialStore, run_campaign, verdicts_sha256
from bitward.campaign.progress import showing
from bitward.datasets import load_dataset
from bitward.engine.images import load_images
from bitward.faults import Uniform
from bitward.manifest import Manifest, apply_edge
from bitward.targets.board import BoardTarget
from bitward.targets.engine import EngineTarget
from bitward.tools import atomic_write, output_directory, popen

HOST, KILLED, SESSION = "127.0.0.1", "server killed", "session"
MOST_AWAY_S, READY_WITHIN_S = 2.0, 60.0


class KilledServer:
    """A virtual board's server, killed when `done(count)` comes to the next of `at`, and there again a little later."""

    def __init__(self, build: Path, store: TrialStore, at: list[int], chance: random.Random) -> None:
        self._build, self._store, self._at, self._chance = build, store, at, chance
        self.port = free_port()
        self._away = threading.Event()
        self._process = self._start()

    def done(self, count: int) -> None:
        """So many trials have come in."""
        if self._at and count >= self._at[0] and not self._away.is_set():
            self._away.set()
            threading.Thread(target=self._kill, args=(self._at.pop(0), count), daemon=True).start()

    def settle(self) -> None:
        """It is there, and not about to be killed."""
        while self._away.is_set():
            time.sleep(0.1)

    def close(self) -> None:
        """It runs no more."""
        self.settle()
        self._process.terminate()
        self._process.wait(READY_WITHIN_S)

    def _kill(self, planned: int, count: int) -> None:
        time.sleep(self._chance.uniform(0, 0.5))  # at any point of a trial
        self._process.kill()
        self._process.wait()
        away_s = self._chance.uniform(0, MOST_AWAY_S)
        self._store.note({"event": KILLED, "planned_at": planned, "trials": count, "away_s": round(away_s, 2)})
        time.sleep(away_s)
        self._process = self._start()
        self._away.clear()

    def _start(self) -> subprocess.Popen[bytes]:
        process = popen([sys.executable, "-m", "bitward_virtual", self._build, "--port", self.port])
        line = process.stdout.readline() if process.stdout else b""
        if b"ctrl-C" not in line:
            raise SystemExit(f"the server must say where it is, got {line!r}; see its message above")
        return process


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def campaign_of(build: Path, on: str, trials: int, images: int, dataset: str, seed: int) -> Campaign:
    """The same trials on engine or board."""
    manifest = Manifest.load(build / "manifest.json")
    if manifest.io is None:
        raise SystemExit(f"{build} must have streams, got a software-only build; build it for a board")
    streamed = apply_edge(manifest.io.pre, load_dataset(dataset).test_images[:images]).astype(np.int64)
    golden = load_images(build / "memories.npz")
    return Campaign(on, manifest, golden, Uniform(manifest, seed), streamed, trials=trials)


def run(plan: Campaign, store: TrialStore, factory: Any, done: Any, console: Console) -> CampaignResult:
    """The campaign has come to its end, with a bar on the way."""
    with showing(console, f"  {plan.target}") as bar:

        def progress(count: int, total: int, note: str = "") -> None:
            bar(count, total, note)
            done(count)

        return run_campaign(plan, factory, store, progress=progress, part_trials=200)


def attacked(arguments: argparse.Namespace, console: Console) -> tuple[dict[str, Any], str]:
    """The campaign on the board: what it found, and the digest of its verdicts."""
    build: Path = arguments.build
    plan = campaign_of(build, "board", arguments.trials, arguments.images, arguments.dataset, arguments.seed)
    chance = random.Random(arguments.seed)
    with TrialStore.open(arguments.folder / "board", plan.spec()) as store:
        before = len(store.finished())
        at = sorted(chance.sample(range(plan.planned * 9 // 10), arguments.kills))  # so that none comes after the last
        made = [entry["planned_at"] for entry in store.log() if entry["event"] == KILLED]
        server = KilledServer(build, store, [each for each in at if each not in made], chance)
        factory = partial(BoardTarget, build, HOST, server.port)
        started = time.monotonic()
        try:
            result = run(plan, store, factory, server.done, console)
            seconds = time.monotonic() - started
            server.settle()
            with factory() as target:
                differing = list(target.differing(plan.golden))
        finally:
            server.close()
        if (fresh := len(store.finished()) - before) > 0:
            store.note({"event": SESSION, "trials": fresh, "seconds": round(seconds, 1)})
        sessions = [entry for entry in store.log() if entry["event"] == SESSION]
        numbers = [trial.trial for trial in store.trials()]
        found = {
            "trials": len(numbers),
            "planned": plan.planned,
            "each_trial_once": numbers == list(range(plan.planned)),
            "images": arguments.images,
            "kills": [entry for entry in store.log() if entry["event"] == KILLED],
            "run_once_more": result.retried,
            "failed": result.failed,
            "golden_at_the_end": result.restored_golden,
            "rows_that_differ_for_another_client": len(differing),
            "seconds": sum(entry["seconds"] for entry in sessions),
            "per_second": round(sum(e["trials"] for e in sessions) / sum(e["seconds"] for e in sessions), 2),
        }
        return found, verdicts_sha256(store.read())


def predicted(arguments: argparse.Namespace, console: Console) -> str:
    """The digest of the verdicts that the engine gives for the same trials."""
    build: Path = arguments.build
    plan = campaign_of(build, "engine", arguments.trials, arguments.images, arguments.dataset, arguments.seed)
    with TrialStore.open(arguments.folder / "engine", plan.spec()) as store:
        run(plan, store, partial(EngineTarget, build), lambda count: None, console)
        return verdicts_sha256(store.read())


def main() -> int:
    """Run, write JSON, print a line; 1 where a trial is missing, doubled or wrong, or a memory is not golden."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=Path, help="a folder that bitward build --board virtual left")
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("runs/board_kill"), help="where trials are kept")
    parser.add_argument("--json", type=Path, default=Path("runs/board_kill.json"))
    arguments = parser.parse_args()
    console = Console(stderr=True)
    output_directory(arguments.folder)
    found, verdicts = attacked(arguments, console)
    found["verdicts_are_the_engines"] = verdicts == predicted(arguments, console)
    output_directory(arguments.json.parent)
    atomic_write(arguments.json, json.dumps(found, indent=1) + "\n")
    print(
        f"{found['trials']:,} of {found['planned']:,} trials, each once: {found['each_trial_once']}; server killed "
        f"{len(found['kills'])} times; run once more: {found['run_once_more']}, failed: {found['failed']}; golden at "
        f"the end: {found['golden_at_the_end']}, rows that differ for another client: "
        f"{found['rows_that_differ_for_another_client']}; verdicts are the engine's: "
        f"{found['verdicts_are_the_engines']}; {found['per_second']:g} trials a second"
    )
    whole = found["each_trial_once"] and found["golden_at_the_end"] and found["verdicts_are_the_engines"]
    return 0 if whole and not found["rows_that_differ_for_another_client"] else 1


if __name__ == "__main__":
    sys.exit(main())
