# SPDX-License-Identifier: Apache-2.0
"""The scrubbing experiment on small builds: what it writes hangs together, and its replay can fail."""

from __future__ import annotations

import csv
import importlib.util
import json
import sys
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest

from bitward.errors import ConfigError
from bitward.targets.rtl import RtlTarget

pytest.importorskip("matplotlib", reason="the experiment draws: make setup installs matplotlib")


@pytest.fixture(scope="module")
def experiment(repository) -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("scrubbing", repository / "benchmarks" / "scrubbing.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["scrubbing"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["scrubbing"]


SHORT = ["--steps", "4", "--seeds", "2", "--images", "20", "--rate", "5e-3"]


def test_csv_table_and_plot_are_of_the_same_lives(experiment, mlp_run, tmp_path, capsys):
    builds = [str(mlp_run.build(side)) for side in ("plain", "hardened")]
    given = [*builds, *SHORT, "--out", str(tmp_path), "--replay", "rtl", "--replay-steps", "2", "--replay-images", "2"]
    assert experiment.main(given) == 0
    out = capsys.readouterr().out
    assert "plain: engine and rtl alike in 2 steps" in out and "hardened: engine and rtl alike in 2 steps" in out
    with open(tmp_path / "scrubbing.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    lives = {(row["build"], row["scrubbed"], row["seed"]) for row in rows}
    assert len(lives) == 2 + 2 * 2 and len(rows) == 4 * len(lives)  # plain: without scrubbing alone
    upsets = {}
    for row in rows:
        upsets.setdefault((row["build"], row["seed"], row["hour"]), set()).add(row["upsets"])
    assert all(len(found) == 1 for found in upsets.values())  # the same with and without scrubbing
    for build, scrubbed, seed in lives:
        left = [
            int(row["left"]) for row in rows if (row["build"], row["scrubbed"], row["seed"]) == (build, scrubbed, seed)
        ]
        other = [row for row in rows if (row["build"], row["scrubbed"], row["seed"]) == (build, "False", seed)]
        assert scrubbed == "False" or left[-1] < int(other[-1]["left"])
    record = json.loads((tmp_path / "scrubbing.json").read_text())
    assert record["replayed_steps"] == {"plain": 2, "hardened": 2} and len(record["table"]) == 3
    scrubbed = next(line for line in record["table"] if line["scrubbed"])
    ends = [float(row["accuracy"]) for row in rows if row["scrubbed"] == "True" and row["hour"] == "4.0"]
    assert scrubbed["accuracy"] == pytest.approx(np.mean(ends)) and scrubbed["corrected"] > 0
    assert (tmp_path / "scrubbing.png").read_bytes().startswith(b"\x89PNG")


def test_a_replay_that_differs_is_refused(experiment, mlp_run, monkeypatch):
    """Negative control: an RTL that loses every second write."""
    write, count = RtlTarget.write_rows, iter(range(10**6))
    monkeypatch.setattr(RtlTarget, "write_rows", lambda *given: None if next(count) % 2 else write(*given))
    with pytest.raises(ConfigError, match=r"hardened must live alike on engine and rtl, got other .*left.* at 1 h: "):
        experiment.replay(
            mlp_run.build("hardened"), "rtl", experiment.Exposure(rate=5e-3, steps=2), np.zeros((2, 1, 8, 8))
        )


def test_the_interval_is_students(experiment):
    """By hand: two values, 95 %, t = 12.706."""
    mean, half = experiment.mean_and_half([0.4, 0.6])
    assert (mean, half) == (pytest.approx(0.5), pytest.approx(12.706 * 0.1, rel=1e-4))
    assert experiment.mean_and_half([0.4]) == (0.4, np.inf)
