# SPDX-License-Identifier: Apache-2.0
"""The benchmark of the server runs, and its table says which figures were not measured."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
from bitward_virtual.emulate import virtual_board
from small_design import Broken, SmallDesign, make_small_build

from bitward.tools import REPOSITORY


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    import board_server

    return board_server


def test_flips_before_a_plain_memory(benchmark: ModuleType, tmp_path: Path, board_python: Path):
    found = benchmark.plain(make_small_build(tmp_path / "small"), 0.0, 20)
    assert set(found["batch"]) == {"1", "1000", "65536"}
    assert found["stock"]["calls"] == 40
    assert found["batch"]["65536"]["per_second"] > 10 * found["stock"]["per_second"] > 0


def test_passes_each_way(benchmark: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    small = make_small_build(tmp_path / "small")
    board = virtual_board(small, lambda _: SmallDesign(small, Broken()))
    monkeypatch.setattr("bitward.targets.board.virtual_board", lambda build: board)
    found = benchmark.passes(small, 2, upsets=3)
    assert (found["rows"], found["passes"]) == (6, 2) and found["there_s"] > 0 and found["from_here_s"] > 0


def test_the_table(benchmark: ModuleType, capsys: pytest.CaptureFixture[str]):
    batch = {"1": {"per_second": 1000.4}, "1000": {"per_second": 650000.0}}
    benchmark.table({
        "plain": {"batch": batch, "stock": None}, "rtl": {"batch": {"fc, 8 bits": batch}, "stock": {"per_second": 550}},
        "scrub": {"rows": 6, "passes": 5, "there_s": 0.25, "from_here_s": 0.5},
        "trials": {"trials": 10, "images": 16, "per_second": 25.0},
    })  # fmt: skip
    said = capsys.readouterr().out
    assert (
        "| plain memory | not measured | 1,000 | 650,000 |  |\n| RTL, fc, 8 bits | 550 | 1,000 | 650,000 |  |" in said
    )
    assert "before the RTL: 0.25 s on the server's side, 0.5 s from here (medians of 5)." in said
    assert said.endswith("\n25 trials a second, of one fault and 16 images (10 trials).\n")


def test_it_is_a_command(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(sys, "argv", ["board_server.py", "--help"])
    with pytest.raises(SystemExit, match=r"^0$"):
        benchmark.main()
    assert "--stock-flips" in capsys.readouterr().out
