# SPDX-License-Identifier: Apache-2.0
"""Training is deterministic, resumable and keeps weights negatable; exports answer as torch does."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from cut_off import CutOff, Ticking
from qonnx.core.modelwrapper import ModelWrapper
from rich.progress import Progress
from torch import nn

from bitward.datasets import Dataset, Examples, load_dataset
from bitward.errors import ConfigError, ModelError, OutputError
from bitward.networks import find_network, network_names
from bitward.rewrites import find_layers, negative_scales, read_weights
from bitward.train import DEFAULT_SEEDS, Recipe, export_network, train_network
from bitward.train._checkpoints import _code, fingerprint, float_fingerprint
from bitward.train._foldable import LEAST_GAMMA, keep_negatable, keep_positive, normed_layers
from bitward.train._loop import Loop, shifted_and_flipped
from bitward.train._stage import accuracy
from bitward.train.training import restore

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
    assert again.train_s > run.train_s > 0, "what is found counts with what it once took"
    digits = load_dataset("digits")
    assert accuracy(restore(again.results[0]), digits.test_images, digits.test_labels) == run.results[1].accuracy


def test_seeds_that_were_kept_before_steps_were_told_are_found(short_run, tmp_path):
    for path in short_run[1].glob("digits_mlp-seed3-*"):
        saved = torch.load(path, weights_only=True)
        del saved["steps"]
        torch.save(saved, tmp_path / path.name)
    again = train_network("digits_mlp", seeds=(3,), recipe=SHORT, cache=tmp_path).results[0]
    assert again == replace(short_run[0].results[0], cached=True) and again.steps == ()


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


@pytest.mark.parametrize("name", ["learning_rate", "float_learning_rate"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_the_learning_rate_is_positive(name, value):
    with pytest.raises(ConfigError, match=rf"^Recipe\.{name} must be above 0, got .*; leave it out"):
        Recipe(**{name: value})


def test_float_epochs_are_whole():
    with pytest.raises(ConfigError, match=r"^Recipe\.float_epochs must be a whole number of at least 0, got -1;"):
        Recipe(float_epochs=-1)


def integers(layer):
    """What the layer's quantizer makes of its weights."""
    with torch.no_grad():
        return layer.quant_weight().int()


@pytest.mark.parametrize("name", network_names())
def test_every_batch_norm_is_with_the_layer_before_it(name):
    model = find_network(name).build()
    pairs = list(normed_layers(model))
    norms = [layer for layer in model.modules() if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d))]
    assert [norm for _, norm in pairs] == norms
    for layer, norm in pairs:
        assert layer.out_channels == norm.num_features if hasattr(layer, "out_channels") else layer.out_features


@pytest.mark.parametrize("name", [name for name in network_names() if find_network(name).gammas == "positive"])
def test_positive_means_positive(name):
    """A gamma that fell to 0 or below is raised just above it; the others and all weights stay."""
    torch.manual_seed(0)
    pairs = list(normed_layers(find_network(name).build()))
    for layer, norm in pairs:
        with torch.no_grad():
            norm.weight.normal_()
            norm.weight[0] = 0
        gammas, weights = norm.weight.clone(), layer.weight.clone()
        keep_positive(pairs)
        assert torch.equal(norm.weight, gammas.clamp(min=LEAST_GAMMA)) and norm.weight.min() == LEAST_GAMMA
        assert torch.equal(layer.weight, weights)


@pytest.mark.parametrize("name", [name for name in network_names() if find_network(name).gammas == "both"])
def test_negatable_means_negatable(name):
    """Whatever the weights: no lowest value where gamma is negative; other channels as they were."""
    torch.manual_seed(0)
    network = find_network(name)
    pairs = list(normed_layers(network.build()))
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
    monkeypatch.setattr(
        "bitward.train.export.execute_images", lambda model, images: np.eye(360, 10, dtype=np.float32) * 9
    )
    with pytest.raises(ModelError, match=r"^the exported digits_mlp must answer as torch does .* this is a fault"):
        export_network(short_run[0], tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_said(short_run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"^.*file/models must be "):
        export_network(short_run[0], tmp_path / "file" / "models")


# ---- from a float network -------------------------------------------------------------------------------------------

TWO_STAGES = Recipe(epochs=2, batch_size=16, float_epochs=2, float_learning_rate=0.01, augment=True)


def few_pictures():
    """A dataset of CIFAR-10's shape, random, and small."""

    def examples(seed, count):
        random = np.random.default_rng(seed)
        return Examples(random.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8), random.integers(0, 10, count))

    parts = [partial(examples, 0, 48), partial(examples, 1, 8)]
    return Dataset("cifar10", "random", "48 train, 8 test", 10, 8, (3, 32, 32), *parts, by_path=True)


@pytest.fixture
def pictures(monkeypatch):
    """What networks for CIFAR-10 are trained on here."""
    dataset = few_pictures()
    monkeypatch.setattr("bitward.train.training.load_dataset", lambda name, data: dataset)
    monkeypatch.setattr("bitward.train.export.load_dataset", lambda name, data: dataset)
    return dataset


def trained(cache=None, progress=None, name="vgg_cifar", recipe=TWO_STAGES):
    """Its one seed."""
    return train_network(name, recipe=recipe, cache=cache, progress=progress).results[0]


def test_members_of_a_family_start_from_one_float_network(pictures, tmp_path):
    first = trained(tmp_path)
    assert first.float_accuracy is not None
    saved = {path.name.split("-seed")[0]: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert set(saved) == {"vgg-float", "vgg_cifar"}
    second = trained(tmp_path, name="vgg_cifar_w2")
    assert second.float_accuracy == first.float_accuracy
    again = {path.name.split("-seed")[0]: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert set(again) == {*saved, "vgg_cifar_w2"} and saved.items() <= again.items()
    other = trained(tmp_path, recipe=replace(TWO_STAGES, float_epochs=1))
    assert other.fingerprint != first.fingerprint and len(list(tmp_path.glob("vgg-float*"))) == 2


def test_a_training_that_was_cut_off_goes_on_where_it_was(pictures, tmp_path, monkeypatch):
    """In either stage, with the weights that an uncut one has, bit by bit."""
    monkeypatch.setattr("bitward.train._loop.SETTLED_STEPS", 0)
    monkeypatch.setattr("bitward.train._loop.SAVE_EVERY_S", 0.0)
    monkeypatch.setattr("bitward.networks._quantizers.STATISTICS_STEPS", 2)  # an epoch has 3 steps
    recipe = replace(TWO_STAGES, float_epochs=3, epochs=3)
    whole = trained(tmp_path / "whole", recipe=recipe)
    for epochs in (2, 5):
        with pytest.raises(CutOff):
            trained(tmp_path / "cut", Ticking(epochs), recipe=recipe)
        assert len(list((tmp_path / "cut").glob("*.unfinished"))) == 1
    steps = []
    monkeypatch.setattr("bitward.train._loop.Loop._step", counted(steps))
    pieced = trained(tmp_path / "cut", recipe=recipe)
    assert len(steps) == 2 * 3  # the epochs that were not saved, of 3 batches
    assert not list((tmp_path / "cut").glob("*.unfinished"))
    for name, tensor in whole.state.items():
        assert torch.equal(tensor, pieced.state[name]), name


def counted(steps):
    """The step of a training loop, which leaves a mark in `steps`."""
    step = Loop._step

    def marked(self, *batch):
        steps.append(len(batch))
        step(self, *batch)

    return marked


def test_a_network_without_floats_refuses_a_float_recipe():
    message = r"^Recipe\.float_epochs must be 0 for digits_mlp, which has no float network, got 1; leave it out$"
    with pytest.raises(ConfigError, match=message):
        train_network("digits_mlp", recipe=Recipe(epochs=1, float_epochs=1))


def test_images_are_shifted_and_flipped_and_nothing_else():
    images = torch.arange(1, 2 * 3 * 6 * 6 + 1).view(2, 3, 6, 6)
    random = torch.Generator().manual_seed(3)
    seen = set()
    for _ in range(200):
        for image, moved in zip(images, shifted_and_flipped(images, random), strict=True):
            candidates = {
                (down, right, flip): np.roll(padded(image, flip), (down, right), (1, 2))[:, 4:10, 4:10]
                for down in range(-4, 5) for right in range(-4, 5) for flip in (False, True)
            }  # fmt: skip
            (how,) = [key for key, value in candidates.items() if np.array_equal(value, moved.numpy())]
            seen.add(how)
    assert len(seen) > 100 and {flip for *_, flip in seen} == {False, True}


def padded(image, flip):
    """The image, flipped or not, on black."""
    whole = np.zeros((3, 14, 14), dtype=np.int64)
    whole[:, 4:10, 4:10] = image.numpy()[:, :, :: -1 if flip else 1]
    return whole


def test_a_card_says_how_a_network_with_a_float_start_was_made(pictures, tmp_path):
    run = train_network("vgg_cifar", recipe=TWO_STAGES)
    text = export_network(run, tmp_path).with_suffix(".md").read_text()
    for row in (
        "| Input quantization | UINT8, 1x3x32x32 raw pixels; then times 2^-8 straight into the first layer |",
        "| Activation quantization | UINT4 (6); one learned scale per tensor |",
        f"| Top-1 of the float network | {run.exported.float_accuracy:.2%}, from whose weights it started |",
        "| Top-1, other seeds | not measured: one seed was trained |",
        "| File equals torch | top-1 on 8 of 8 test images; equal outputs, bit by bit |",
        "| Made by | `bitward train vgg_cifar --data PATH`, then `bitward export vgg_cifar --data PATH` |",
        "| Negative batch-norm gammas | none |",
    ):
        assert row in text
    assert "float network first (SGD, Nesterov, one-cycle learning rate up to 0.01, 2 epochs), then quant" in text


@pytest.mark.parametrize(
    ("recipe", "same"),
    [
        (replace(TWO_STAGES, learning_rate=0.5), True),
        (replace(TWO_STAGES, float_optimizer="adam"), False),
        (replace(TWO_STAGES, augment=False), False),
    ],
)
def test_what_a_float_network_rests_on(pictures, recipe, same):
    network = find_network("vgg_cifar")
    one, other = (float_fingerprint(network, pictures, told, 0) for told in (TWO_STAGES, recipe))
    assert (one == other) == same
    assert fingerprint(network, pictures, TWO_STAGES, 0) != fingerprint(network, pictures, recipe, 0)


def test_comments_and_docstrings_change_no_fingerprint(tmp_path):
    first, second, third = (tmp_path / name for name in ("a.py", "b.py", "c.py"))
    first.write_text('"""Said."""\ndef f():\n    """More."""\n    return 1  # one\n')
    second.write_text('"""Otherwise."""\n\n\ndef f():\n    return 1\n')
    third.write_text('"""Said."""\ndef f():\n    """More."""\n    return 2  # one\n')
    assert _code(first) == _code(second) != _code(third)


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
