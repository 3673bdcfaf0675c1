# SPDX-License-Identifier: Apache-2.0
"""95 % means 95 %: simulated campaigns, by the benchmark's own code; what must not cover does not."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace

import pytest

CAMPAIGNS = 300


@pytest.fixture(scope="module")
def benchmark(repository):
    path = repository / "benchmarks" / "coverage_of_intervals.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_every_guaranteed_method_covers_and_the_controls_do_not(benchmark):
    quick = [case for case in benchmark.CASES if not case.slow]
    rows = list(benchmark.run(quick, [0.0001, 0.01, 0.5], CAMPAIGNS))
    assert {row.method for row in rows if row.guaranteed} >= {
        "exact, fixed n",
        "finite population, fixed n",
        "stratified, union",
        "screened, audited",
        "beta-binomial",
        "beta-binomial, without replacement",
        "stratified, sequences added",
    }
    assert benchmark.complaints(rows, CAMPAIGNS) == []
    by_name = {(row.method, row.rate): row for row in rows}
    assert by_name["Wald stop", 0.0001].coverage < 0.1
    assert by_name["exact, looked at repeatedly", 0.5].coverage < 0.7


def test_bets_cover_through_the_classes_themselves(benchmark):
    slow = [case for case in benchmark.CASES if case.slow]
    rows = list(benchmark.run(slow, [0.1], 60))
    assert len(rows) == 6
    assert benchmark.complaints(rows, 60) == []
    assert all(row.half_width <= 0.025 for row in rows if row.margin is not None)


def test_complaints_name_what_covers_too_little_and_what_covers_too_well(benchmark):
    row = benchmark.Row("exact, fixed n", 0.1, None, None, 1537, 0.02, 0.95, True)
    assert benchmark.complaints([row], 2000) == []
    assert benchmark.complaints([replace(row, coverage=0.9)], 2000) == ["exact, fixed n at 0.1 covers 90.00%"]
    wald = replace(row, method="Wald stop", guaranteed=False)
    assert benchmark.complaints([wald], 2000) == ["Wald stop covers 95.00% at least, and must not"]


def test_the_command_prints_a_table_and_writes_json(benchmark, tmp_path, capsys, monkeypatch):
    path = tmp_path / "coverage.json"
    command = ["coverage", "--campaigns", "50", "--rates", "0.01", "--only", "exact, fixed", "--json", str(path)]
    monkeypatch.setattr(sys, "argv", command)
    assert benchmark.main() == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[0].startswith("| method | rate | margin | fixed n for it | trials (median) |")
    assert "exact, fixed n at 0.01" in printed.err
    result = json.loads(path.read_text())
    assert (result["campaigns"], len(result["rows"]), result["complaints"]) == (50, 1, [])
