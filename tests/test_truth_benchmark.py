# SPDX-License-Identifier: Apache-2.0
"""Every fault of a small network as the truth: estimators find it from samples, a Wald stop does not."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from benchmark_scripts import imported

CAMPAIGNS = 120


@pytest.fixture(scope="module")
def benchmark(repository):
    with imported(repository, "truth") as module:
        yield module


@pytest.fixture(scope="module")
def truth(benchmark, tmp_path_factory):
    """Every fault of the network, on a few images; on one thread, as several for so little wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield benchmark.exhaustive(tmp_path_factory.mktemp("truth"), images=64, verify=40)
    torch.set_num_threads(threads)


def test_the_truth_is_every_stored_bit_of_every_weight(benchmark, truth):
    assert truth.size == 8 * (72 + 1280) and truth.sizes.tolist().count(72) == truth.sizes.tolist().count(1280) == 8
    changed = truth.values["share of decisions"]
    np.testing.assert_array_equal(truth.values["any decision"], changed > 0)
    assert 0.002 < truth.mean("several decisions") < truth.mean("any decision") < 0.2
    assert 0.3 < truth.screened.mean() < 1


def test_estimators_find_the_truth_and_a_wald_stop_does_not(benchmark, truth):
    quick = [case for case in benchmark.CASES if not case.slow]
    rows = list(benchmark.run(truth, quick, CAMPAIGNS))
    assert benchmark.complaints(rows, CAMPAIGNS) == []
    assert len({row.method for row in rows if row.guaranteed}) == 6
    by_name = {(row.method, row.metric): row for row in rows}
    assert by_name["Wald stop", "several decisions"].coverage < 0.5
    assert all(row.trials <= truth.size for row in rows)


def test_sequences_and_strata_find_it_through_the_rules_themselves(benchmark, truth):
    slow = [case for case in benchmark.CASES if case.slow]
    rows = list(benchmark.run(truth, slow, 30))
    assert benchmark.complaints(rows, 30) == []
    enough = {row.method: row.half_width <= row.margin + 1e-9 for row in rows}
    assert all(is_enough for name, is_enough in enough.items() if "Neyman" not in name and "screened" not in name)
    assert len(enough) == 7


def test_another_value_than_the_truth_is_not_covered(benchmark, truth):
    """Negative control: the same campaigns, asked for a value that is not the truth's."""
    shifted = replace(truth, values={name: values.copy() for name, values in truth.values.items()})
    moved = benchmark.Draw(shifted, "any decision", 0.025, 50, np.random.default_rng(1))
    found = benchmark.finite(moved)
    value = truth.mean("any decision") + 0.05
    assert np.mean((found.low <= value) & (value <= found.high)) < 0.1


def test_complaints_name_what_covers_too_little_and_what_covers_too_well(benchmark):
    row = benchmark.Row("exact, fixed n", "any decision", 0.1, 0.025, 1346, 0.01, 0.95, True)
    assert benchmark.complaints([row], 1000) == []
    assert benchmark.complaints([replace(row, coverage=0.9)], 1000) == ["exact, fixed n, any decision: covers 90.00%"]
    wald = replace(row, method="Wald stop", guaranteed=False)
    assert benchmark.complaints([wald], 1000) == ["Wald stop covers 95.00% at least, and must not"]


def test_a_verdict_that_the_loop_does_not_find_is_an_error(benchmark, tmp_path, monkeypatch):
    real = benchmark.check
    monkeypatch.setattr(benchmark, "check", lambda engine, images, trials, found, count: real(
        engine, images, trials, [changed + 1 for changed in found], count))  # fmt: skip
    with pytest.raises(ValueError, match=r"^trial \d+ must change \d+ decisions, as the loop says, got \d+$"):
        benchmark.exhaustive(tmp_path, images=2, faults=20, verify=3, steps=2)


def test_the_command_prints_a_table_and_writes_json(benchmark, tmp_path, capsys, monkeypatch):
    arguments = ["--store", str(tmp_path / "store"), "--images", "4", "--faults", "300", "--verify", "5", "--campaigns",
                 "40", "--only", "finite", "--json", str(tmp_path / "truth.json")]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["truth.py", *arguments])
    assert benchmark.main() == 0
    found = json.loads((tmp_path / "truth.json").read_text())
    assert (found["faults"], found["campaigns"], found["complaints"]) == (300, 40, [])
    assert "300 faults, every one of the network" in (out := capsys.readouterr().out)
    assert "| finite population, fixed n | any decision |" in out
    monkeypatch.setattr(benchmark, "complaints", lambda rows, campaigns: ["something is wrong"])
    assert benchmark.main() == 1 and capsys.readouterr().err.splitlines()[-1] == "something is wrong"
