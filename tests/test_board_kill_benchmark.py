# SPDX-License-Identifier: Apache-2.0
"""The benchmark that kills the server: its campaign is whole, and goes on where it stopped."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from bitward.tools import REPOSITORY


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    import board_kill

    return board_kill


def run(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, build: Path, folder: Path, seed: int) -> int:
    given = ["--trials", "80", "--kills", "1", "--images", "2", "--seed", str(seed), "--folder", str(folder)]
    monkeypatch.setattr(sys, "argv", ["board_kill.py", str(build), *given, "--json", str(folder / "found.json")])
    return int(benchmark.main())


def test_a_killed_server_costs_no_trial_and_what_is_done_is_not_done_again(
    benchmark: ModuleType, mlp_run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert run(benchmark, monkeypatch, mlp_run.build("hardened"), tmp_path, 1) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["trials"] == 80 and found["each_trial_once"] and found["verdicts_are_the_engines"]
    assert len(found["kills"]) == 1 and found["golden_at_the_end"] and found["failed"] == 0
    assert found["rows_that_differ_for_another_client"] == 0 and found["per_second"] > 0
    assert "80 of 80 trials, each once: True; server killed 1 times;" in capsys.readouterr().out
    assert run(benchmark, monkeypatch, mlp_run.build("hardened"), tmp_path, 1) == 0
    again = json.loads((tmp_path / "found.json").read_text())
    assert (again["seconds"], again["kills"]) == (found["seconds"], found["kills"])
