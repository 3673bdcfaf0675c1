# SPDX-License-Identifier: Apache-2.0
"""The benchmark of compressed U-Nets: its forms are the library's, its tables theirs, and nothing is done twice."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from benchmark_scripts import imported

from bitward.datasets import normalised
from bitward.engine.pytorch import TorchEngine
from bitward.engine.pytorch.cost import cost
from bitward.metrics import global_iou
from bitward.train._stage import predict


@pytest.fixture(scope="module")
def benchmark(repository):
    with imported(repository, "compression") as module:
        yield module


@pytest.fixture(scope="module")
def done(benchmark, tmp_path_factory):
    """(options, the case, what was measured) of a small network that hardly knows anything."""
    folder = tmp_path_factory.mktemp("compression")
    given = [
        "--activations", "sigmoid", "--scenes", "16", "16", "24", "8", "--fresh", "4", "--train-epochs", "2",
        "--epochs", "1", "1", "--shares", "0.2", "--width", "0.0625", "--trained", str(folder / "trained"),
        "--out", str(folder / "out"),
    ]  # fmt: skip
    options = benchmark.parse(given)
    case = benchmark.Case("sigmoid", 0, options)
    return given, case, benchmark.measured(case)


def test_forms_are_measured_as_they_are(done, benchmark):
    _, case, found = done
    assert tuple(found["forms"]) == benchmark.FORMS
    for form, figures in found["forms"].items():
        network, choose = case.made(form)
        engine = TorchEngine(network, choose)
        maps = predict(network, normalised(case.dataset, case.dataset.test_images)).argmax(axis=1)
        expected = global_iou(maps, case.dataset.test_labels, case.dataset.classes, case.dataset.ignore)
        assert figures["scores"]["global_iou"] == pytest.approx(expected)
        assert figures["parameters"] == cost(network, case.dataset.image_shape).parameters
        assert figures["stored_bits"] == sum(memory.depth * memory.width for memory in engine.manifest.memories)
    weights = sum(value.numel() for name, value in case.float.named_parameters() if value.ndim == 4)
    biases = sum(module.bias.numel() for _, module in convolutions(case.float))
    assert found["forms"]["int8"]["stored_bits"] == 8 * weights + 32 * biases
    assert found["forms"]["folded"]["stored_bits"] == 32 * (weights + biases)


def convolutions(network):
    return [(name, each) for name, each in network.named_modules() if isinstance(each, torch.nn.modules.conv._ConvNd)]


def test_fresh_scenes_are_in_neither_split(done):
    case = done[1]
    fresh = case.fresh.test_images
    assert len(fresh) == 4 and len(case.fresh.train_images) == 28
    np.testing.assert_array_equal(case.fresh.train_images[:24], case.dataset.train_images)
    for images in (case.dataset.train_images, case.dataset.test_images):
        assert not any(np.array_equal(one, other) for one in fresh for other in images)


def test_nothing_is_done_twice_and_tables_are_of_the_figures(done, benchmark, monkeypatch, capsys):
    given, _, found = done
    monkeypatch.setattr(benchmark, "prune_channels", None)
    monkeypatch.setattr(benchmark, "train_classic", None)
    for arguments in (given, [*given, "--table"]):
        assert benchmark.main(arguments) == 0
        told = capsys.readouterr().out
        scores = found["forms"]["pruned int8"]["scores"]
        assert (
            f"| sigmoid, pruned int8 | 1 | {100 * scores['accuracy']:.2f} | {100 * scores['global_iou']:.2f} |" in told
        )
        (one,) = found["pruning"]["rounds"]
        assert f"| sigmoid, seed 0 | 1 | 0.2 | {one['parameters']:,} | {one['operations'] / 1e6:.2f} |" in told
        assert "| SEU paper, ReLU, float | 97.84 | 88.30 |" in told
    path = next(iter((done[1].options.out).glob("*.json")))
    kept = json.loads(path.read_text())
    assert kept["pruning"]["channels"].keys() == {name for name, _ in convolutions(done[1].float)}


def test_without_results_there_is_no_table(benchmark, tmp_path, capsys):
    assert benchmark.main(["--table", "--out", str(tmp_path)]) == 1
    assert "holds no result: run without --table first" in capsys.readouterr().err


def test_shares_of_the_papers_are_those_that_they_print(benchmark):
    """Parameters fell by 99, 95.6 and 95.3 %; operations by 75.7, 52.4 and 70.1 %."""
    paper = benchmark.paper
    assert [paper.shares(activation, "pruned")[:2] for activation in benchmark.ACTIVATIONS] == [
        ("1.0", "24.3"), ("4.4", "47.6"), ("4.7", "29.9"),
    ]  # fmt: skip
    assert paper.shares("relu", "int8") == ("100.0", "100.0", "25.0") and paper.shares("relu", "folded")[0] == "-"
