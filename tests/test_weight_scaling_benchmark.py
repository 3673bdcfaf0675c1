# SPDX-License-Identifier: Apache-2.0
"""The benchmark of weight scaling: its points are what the library says, kept, and not computed again."""

from __future__ import annotations

import importlib.util
import json
import sys

import numpy as np
import pytest
import tiny_classic

from bitward.metrics import flip_error
from bitward.rewrites import Q2_5


@pytest.fixture(scope="module")
def benchmark(repository):
    spec = importlib.util.spec_from_file_location("weight_scaling", repository / "benchmarks" / "weight_scaling.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["weight_scaling"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Options of a small AlexNet on the digits."""
    folder = tmp_path_factory.mktemp("weights")
    weights = tiny_classic.weights(folder / "alexnet.pth")
    return ["--network", "alexnet", "--dataset", "digits", "--width", str(tiny_classic.WIDTH), "--images", "200",
            "--weights", str(weights), "--cache", str(folder / "cache")]  # fmt: skip


def points(path):
    return json.loads(path.read_text())["points"]


def test_values_are_kept_and_not_computed_again(benchmark, tmp_path, capsys, monkeypatch):
    target = tmp_path / "values.json"
    assert benchmark.main(["values", "--rounds", "2000", "--json", str(target)]) == 0
    found = points(target)
    assert len(found) == 15
    expected = flip_error(np.arange(-50, 51) / 100, Q2_5, 0.1, 2000, 3.9, (), 1)
    assert found["Q2.5 c=3.9"]["errors"] == expected.tolist()
    assert found["Q2.5 c=3.9"]["mean"] < found["Q2.5 c=1"]["mean"]
    assert "| Q2.5 c=3.9 |" in capsys.readouterr().out
    monkeypatch.setattr(benchmark, "flip_error", None)
    assert benchmark.main(["values", "--rounds", "2000", "--json", str(target)]) == 0
    with pytest.raises(SystemExit, match=r"must be of the same settings, got others"):
        benchmark.main(["values", "--rounds", "3000", "--json", str(target)])


def test_scaled_weights_stand_upsets_that_plain_ones_do_not(benchmark, small, tmp_path, capsys):
    target = tmp_path / "memory.json"
    assert benchmark.main(["memory", *small, "--rates", "0.01", "--rounds", "4", "--json", str(target)]) == 0
    found = points(target)
    assert {point["stored_bits"] for point in found.values()} == {found["0.01 Q2.5"]["stored_bits"]}
    plain, scaled = (np.mean(found[f"0.01 {way}"]["top1"]) for way in ("Q2.5", "Q2.5, scaled by channel"))
    assert scaled > plain + 0.1
    capsys.readouterr()
    assert benchmark.main(["table", str(target)]) == 0
    assert "| 0.01 6 bits, scaled, MSB voted |" in capsys.readouterr().out


def test_one_division_at_the_logits_costs_no_accuracy(benchmark, small, tmp_path):
    target = tmp_path / "logits.json"
    assert benchmark.main(["logits", *small, "--json", str(target)]) == 0
    for point in points(target).values():
        assert point["divided"] == pytest.approx(point["golden"], abs=0.006)
    assert points(target)["powers of two"]["divided"] == points(target)["powers of two"]["golden"]


def test_accuracy_has_every_t(benchmark, small, tmp_path):
    target = tmp_path / "accuracy.json"
    assert benchmark.main(["accuracy", *small, "--rates", "1e-3", "--rounds", "2", "--json", str(target)]) == 0
    found = points(target)
    assert len(found) == 27
    assert all(len(point["top1"]) == 2 and point["flips"] > 0 for point in found.values())
    assert np.mean(found["FP32 0.001 t=1.9999"]["top1"]) >= np.mean(found["FP32 0.001 t=4"]["top1"])
