# SPDX-License-Identifier: Apache-2.0
"""The benchmark of how far rewrites move a function: its figures are the library's, and nothing is done twice."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmark_scripts import imported

from bitward.datasets import normalised

CHOSEN = ["none", "fold_batch_norm", "equalize_layers, folded", "clip_activations, zero", "protect_network, PT4"]


@pytest.fixture(scope="module")
def benchmark(repository):
    with imported(repository, "rewrite_drift") as module:
        yield module


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drift")
    return [
        "--activations", "sigmoid", "--scenes", "16", "16", "24", "8", "--train-epochs", "2", "--width", "0.0625",
        "--trained", str(folder / "trained"), "--out", str(folder / "out"), "--rewrites", *CHOSEN,
    ]  # fmt: skip


def test_drift_is_measured_once_and_told(benchmark, given, capsys, monkeypatch):
    assert benchmark.main(given) == 0
    told = capsys.readouterr().out
    for name in CHOSEN:
        assert f"| {name} | sigmoid, seed 0 |" in told
    assert "| equalize_layers, folded | sigmoid, seed 0 | not for it |" in told
    options = benchmark.parse(given)
    case = benchmark.Case("sigmoid", 0, options)
    (path,) = Path(options.out).glob("*.json")
    found = json.loads(path.read_text())["rewrites"]
    network, made = case.float, benchmark.rewrites()["protect_network, PT4"](case.float, case.images(4))
    tests = torch.from_numpy(normalised(case.dataset, case.dataset.test_images))
    with torch.no_grad():
        before, after = network(tests).numpy(), made(tests).numpy()
    figures = found["protect_network, PT4"]
    assert figures["relative"] == pytest.approx(np.abs(before - after).max() / np.abs(before).max(), rel=1e-3)
    assert figures["changed"] == np.sum(before.argmax(axis=1) != after.argmax(axis=1))
    assert figures["decisions"] == 8 * 16 * 16 and figures["at_risk"] < found["none"]["at_risk"]
    inside = [np.abs(value.numpy()) for name, value in made.state_dict().items() if "num_batches" not in name]
    assert figures["one_to_two"] == sum(int(np.sum((each >= 1) & (each < 2))) for each in inside)
    assert found["none"]["relative"] == 0 and 0 < found["fold_batch_norm"]["relative"] < 1e-4
    monkeypatch.setattr(benchmark, "drift", None)
    assert benchmark.main(given) == 0
    assert capsys.readouterr().out == told
