# SPDX-License-Identifier: Apache-2.0
"""Training is deterministic, resumable and keeps weights negatable; exports answer as torch does."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from qonnx.core.modelwrapper import ModelWrapper
from rich.progress import Progress
from torch import nn

from bitward.datasets import load_dataset
from bitward.errors import ConfigError, ModelError, OutputError
from bitward.networks import find_network, network_names
from bitward.rewrites import find_layers, negative_scales, read_weights
from bitward.train import DEFAULT_SEEDS, Recipe, export_network, train_network
from bitward.train._foldable import keep_negatable, normed_layers
from bitward.train.training import accuracy, restore

SHORT = Recipe(epochs=1, batch_size=256)


@pytest.fixture(scope="module")
def short_run(tmp_path_factory):
    """Two seeds of the MLP after one epoch each, and the folder that keeps them."""
    cache = tmp_path_factory.mktemp("trained")
    return train_network("digits_mlp", seeds=(3, 4), recipe=SHORT, cache=cache), cache


def test_a_seed_decides_everything(short_run):
    again = train_network("digits_mlp", seeds=(3,), recipe=SHORT).results[0]
    first, other = short_run[0].results
    for name, tensor in first.state.items():
        assert torch.equal(tensor, again.state[name]), name
    assert not torch.equal(first.state["fc1.weight"], other.state["fc1.weight"])


def test_training_leaves_torchs_own_random_numbers_and_threads_alone():
    torch.manual_seed(1)
    expected, threads = torch.rand(3), torch.get_num_threads()
    torch.manual_seed(1)
    train_network("digits_mlp", seeds=(0,), recipe=SHORT)
    assert torch.equal(torch.rand(3), expected) and torch.get_num_threads() == threads


def test_finished_seeds_are_not_trained_again(short_run):
    run, cache = short_run
    with Progress(disable=True) as progress:
        again = train_network("digits_mlp", seeds=(4, 5, 3), recipe=SHORT, cache=cache, progress=progress)
    assert [result.cached for result in again.results] == [True, False, True]
    assert all(task.finished for task in progress.tasks)
    assert again.results[2] == replace(run.results[0], cached=True)
    digits = load_dataset("digits")
    assert accuracy(restore(again.results[0]), digits.test_images, digits.test_labels) == run.results[1].accuracy


def test_another_recipe_is_trained_anew(short_run):
    other = train_network("digits_mlp", seeds=(3,), recipe=replace(SHORT, learning_rate=0.02), cache=short_run[1])
    assert not other.results[0].cached


def test_a_damaged_checkpoint_is_trained_anew_and_mended(tmp_path):
    first = train_network("digits_mlp", seeds=(0,), recipe=SHORT, cache=tmp_path).results[0]
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:1000])
    second, third = (train_network("digits_mlp", seeds=(0,), recipe=SHORT, cache=tmp_path).results[0] for _ in range(2))
    assert (second.cached, third.cached) == (False, True)
    assert torch.equal(first.state["fc1.weight"], third.state["fc1.weight"])


def test_the_exported_seed_is_the_first_not_the_best(short_run):
    run = short_run[0]
    assert run.exported is run.results[0]
    assert run.mean_accuracy == np.mean([result.accuracy for result in run.results])


@pytest.mark.parametrize("seeds", [(), (1, 1)])
def test_seeds_must_be_some_and_different(seeds):
    message = f"seeds must be at least one and all different, got {list(seeds)}; the first one is exported"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        train_network("digits_mlp", seeds=seeds)


@pytest.mark.parametrize("name", ["epochs", "batch_size"])
@pytest.mark.parametrize("value", [0, -1, 2.5, True])
def test_counts_of_a_recipe_are_whole(name, value):
    with pytest.raises(ConfigError, match=rf"^Recipe\.{name} must be a whole number of at least 1, got {value!r};"):
        Recipe(**{name: value})


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_the_learning_rate_is_positive(value):
    with pytest.raises(ConfigError, match=r"^Recipe\.learning_rate must be above 0, got .*; leave it out"):
        Recipe(learning_rate=value)


def integers(layer):
    """What the layer's quantizer makes of its weights."""
    with torch.no_grad():
        return layer.quant_weight().int()


@pytest.mark.parametrize("name", network_names())
def test_negatable_means_negatable(name):
    """Whatever the weights: no lowest value where gamma is negative; other channels as they were."""
    torch.manual_seed(0)
    network = find_network(name)
    model = network.build()
    pairs = list(normed_layers(model))
    norms = [layer for layer in model.modules() if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d))]
    assert [norm for _, norm in pairs] == norms
    lowest = -(2 ** (network.weight_bits - 1))
    for layer, norm in pairs:
        with torch.no_grad():
            layer.weight.normal_()
            layer.weight[0].view(-1)[0] = -4.0  # a positive gamma's: it stays, and sets the scale
            layer.weight[1].view(-1)[0] = -5.0
            layer.weight[1].view(-1)[1] = -3.5
        before = layer.weight.clone()
        keep_negatable(pairs, network.weight_bits)
        after = integers(layer)
        negative = norm.weight < 0
        assert after[~negative].min() == lowest and after[negative].min() == lowest + 1
        assert torch.equal(layer.weight[~negative], before[~negative])
        assert torch.equal(layer.weight[before > 0], before[before > 0])
        settled = layer.weight.clone()
        keep_negatable(pairs, network.weight_bits)
        assert torch.equal(layer.weight, settled)


def test_an_export_answers_as_torch_and_says_where_it_comes_from(short_run, tmp_path):
    run = short_run[0]
    path = export_network(run, tmp_path / "models")  # itself refuses outputs that differ by more than rounding
    model = ModelWrapper(str(path))
    assert model.get_tensor_datatype(model.graph.input[0].name).name == "UINT8"
    trained = restore(run.exported)
    layers = find_layers(model)
    assert list(layers) == ["fc1", "fc2", "fc3"]
    for name, layer in layers.items():
        assert layer.node.name == name and layer.quantizer.input[0] == f"{name}.weight"
        assert np.array_equal(read_weights(model, layer).integers, integers(getattr(trained, name)).numpy().T)
    gammas = (trained.bn1.weight < 0).sum() + (trained.bn2.weight < 0).sum()
    assert sum(negative_scales(model).values()) == gammas > 0
    card = path.with_suffix(".md").read_text()
    assert hashlib.sha256(path.read_bytes()).hexdigest() in card
    assert f"3: {run.results[0].accuracy:.2%}, 4: {run.results[1].accuracy:.2%}" in card


def test_equal_runs_export_equal_bytes(short_run, tmp_path):
    first, second = (export_network(short_run[0], tmp_path / name).read_bytes() for name in ("a", "b"))
    assert first == second and str(tmp_path).encode() not in first


def test_an_export_that_answers_otherwise_is_refused(short_run, tmp_path, monkeypatch):
    monkeypatch.setattr("bitward.train.export.execute", lambda model, images: np.eye(360, 10, dtype=np.float32) * 9)
    with pytest.raises(ModelError, match=r"^the exported digits_mlp must answer as torch does .* this is a fault"):
        export_network(short_run[0], tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_said(short_run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"^.*file/models must be "):
        export_network(short_run[0], tmp_path / "file" / "models")


@pytest.mark.slow
def test_five_seeds_of_both_networks_reach_their_accuracy_in_three_minutes():
    cnn, mlp = (train_network(name, seeds=DEFAULT_SEEDS) for name in ("digits_cnn", "digits_mlp"))
    assert len(cnn.results) == len(mlp.results) == 5
    assert cnn.mean_accuracy >= 0.97 and mlp.mean_accuracy >= 0.95
    assert cnn.train_s + mlp.train_s < 180
    for result in cnn.results + mlp.results:
        for layer, norm in normed_layers(restore(result)):
            negative = norm.weight < 0
            assert negative.any() and (~negative).any()
            assert integers(layer)[~negative].min() == -8 and integers(layer)[negative].min() > -8
