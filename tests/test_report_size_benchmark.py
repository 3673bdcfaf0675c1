# SPDX-License-Identifier: Apache-2.0
"""The benchmark of large reports: real stores, verdicts said to be synthetic, figures that are measured."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmark_scripts import imported
from report_run import manifest, write_run
from test_report import Page

from bitward.campaign import TrialStore
from bitward.errors import ToolError
from bitward.report.load import load_run
from bitward.tools import find_tool


@pytest.fixture(scope="module")
def benchmark(repository: Path):
    with imported(repository, "report_size") as module:
        yield module


@pytest.mark.parametrize("times", [0, 1])
def test_a_run_of_so_many_trials_is_written_and_opened(benchmark, tmp_path: Path, monkeypatch, times: int) -> None:
    write_run(tmp_path / "source")
    if not times:
        monkeypatch.setattr(benchmark, "find_tool", lambda name: None)
    elif find_tool("chromium") is None:
        pytest.skip("Chromium is not on PATH: the page is not opened (Debian: apt-get install chromium)")
    found = benchmark.measured(tmp_path / "source", tmp_path / "made", 6000, times)
    made = load_run(tmp_path / "made")
    assert sum(len(trials.table) for trials in made.campaigns.values()) == found["trials"] == 6000
    for side in ("plain", "hardened"):
        population = manifest(side).population
        single = TrialStore.load(tmp_path / "made" / "campaigns" / f"strata-{side}")
        assert len(single.read()) == min(3000, population) and single.spec["verdicts"] == "synthetic"
        keys = [(row["memory"], row["word"], row["bit"]) for row in single.read().to_pylist()]
        assert len(set(keys)) == len(keys)
    assert found["html_bytes"] == (tmp_path / "made" / "report.html").stat().st_size > 50_000
    assert 0 < found["write_s"] < 60 and (not times or 0 < found["open_ms"] < 2000)
    text = Page((tmp_path / "made" / "report.html").read_text(encoding="utf-8")).text
    assert "6,000 trials in 4 campaigns" in text


def test_without_a_browser_nothing_is_said_of_opening(benchmark, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(benchmark, "find_tool", lambda name: None)
    with pytest.raises(ToolError, match=r"^chromium must be on PATH to open the page, got none: apt-get install"):
        benchmark.opened_ms(tmp_path / "page.html", tmp_path, 1)
