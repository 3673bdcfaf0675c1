# SPDX-License-Identifier: Apache-2.0
"""The command that compares fixed and scaled weights in hardware: what it makes, and, slow, all that it measures."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bitward.rewrites import find_layers, load_model, read_weights
from bitward.tools import REPOSITORY

MODEL = REPOSITORY / "onnx_models" / "digits_cnn.onnx"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    import weight_scaling_hardware

    return weight_scaling_hardware


def test_the_two_networks_differ_in_scales_alone(benchmark, tmp_path):
    models = {name: load_model(path) for name, path in benchmark.variants(MODEL, tmp_path).items()}
    for name, layer in find_layers(models["fixed"]).items():
        fixed = read_weights(models["fixed"], layer)
        scaled = read_weights(models["scaled"], find_layers(models["scaled"])[name])
        assert float(fixed.scale) == 2.0**-6 != float(scaled.scale)
        assert fixed.bits == scaled.bits
        floats = [models[variant].get_initializer(fixed.tensor) for variant in benchmark.VARIANTS]
        assert np.array_equal(*floats)


def test_the_table_says_what_the_file_has(benchmark, tmp_path, capsys):
    lost = {"mean": 0.5, "low": 0.4, "high": 0.6, "deviation": 0.1, "flips": 66.0, "trials": 50}
    one = {"cycles": 37762, "equal": [9, 9, 10], "golden": 0.75, "lost": {"0.001": lost}, "agree": [3, 3]}
    path = tmp_path / "result.json"
    path.write_text(json.dumps({"variants": {"fixed": one, "scaled": one}}))
    assert benchmark.main(["--table", str(path)]) == 0
    said = capsys.readouterr().out
    assert "| fixed, 2^-6 (Q2.5) | 37,762 | 9, 9 of 10 | 75.00 | 50.00 ± 10.00 (66 flips) | 3 of 3 |" in said
    assert benchmark.main([]) == 2


@pytest.mark.slow
def test_scaling_costs_no_cycle_and_engine_rtl_and_board_agree(benchmark, tmp_path, capsys):
    given = ["--dataset", "digits", "--out", str(tmp_path), "--trials", "10", "--agree", "3", "--images", "10",
             "--target-fps", "100000", "--ber", "1e-2"]  # fmt: skip
    assert benchmark.main([str(MODEL), *given]) == 0
    found = json.loads((tmp_path / "result.json").read_text())["variants"]
    assert found["fixed"]["cycles"] == found["scaled"]["cycles"]
    assert found["scaled"]["golden"] > found["fixed"]["golden"]
