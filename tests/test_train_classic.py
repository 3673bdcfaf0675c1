# SPDX-License-Identifier: Apache-2.0
"""Classic float networks are trained by seed at any width, survive kills, and take weights from a file."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from cut_off import CutOff, Ticking
from rich.progress import Progress

from bitward.classic import find_classic
from bitward.cli import main
from bitward.datasets import Dataset, Examples, load_dataset, normalised
from bitward.errors import ConfigError, ModelError
from bitward.train import Recipe, train_classic
from bitward.train._checkpoints import classic_fingerprint, file_fingerprint
from bitward.train.classic import _device, _recipe
from bitward.train.recipe import RECIPES

QUICK = Recipe(
    batch_size=64, float_epochs=4, float_optimizer="adam", float_learning_rate=0.002, method="float", augment=False
)
ONE = replace(QUICK, float_epochs=1)
SMALL = 0.125
FOR_SMALL_IMAGES = ("alexnet", "googlenet", "resnet18", "vgg11_bn")


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory):
    """Two seeds of a small ResNet-18 on the digits, and the folder that keeps them."""
    cache = tmp_path_factory.mktemp("trained")
    return train_classic("resnet18", "digits", width=SMALL, seeds=(0, 5), recipe=QUICK, cache=cache), cache


def test_a_network_learns_and_its_accuracy_is_that_of_its_answers(digits_run):
    run = digits_run[0]
    digits = load_dataset("digits")
    images = torch.from_numpy(normalised(digits, digits.test_images))
    for result in run.results:
        network = run.network(result.seed)
        assert not network.training
        with torch.no_grad():
            answers = network(images).argmax(1).numpy()
        assert result.accuracy == np.mean(answers == digits.test_labels) > 0.85
    assert run.mean_accuracy == np.mean([result.accuracy for result in run.results])
    assert (run.name, run.dataset, run.width, run.recipe) == ("resnet18", "digits", SMALL, QUICK)
    with pytest.raises(ConfigError, match=r"^seed must be one of those of the run, \[0, 5\], got 1: train it too$"):
        run.network(1)


def test_a_seed_decides_everything_and_is_trained_once(digits_run, tmp_path):
    run, cache = digits_run
    with Progress(disable=True) as progress:
        again = train_classic(
            "resnet18", "digits", width=SMALL, seeds=(5, 0), recipe=QUICK, cache=cache, progress=progress
        )
    assert all(task.finished for task in progress.tasks)
    assert again.results == tuple(replace(result, cached=True) for result in reversed(run.results))
    anew = train_classic("resnet18", "digits", width=SMALL, seeds=(5,), recipe=QUICK, cache=tmp_path).results[0]
    assert not anew.cached
    for name, tensor in anew.state.items():
        assert torch.equal(tensor, run.results[1].state[name]), name
    assert not torch.equal(run.results[0].state["fc.weight"], run.results[1].state["fc.weight"])


def test_weights_from_a_file_are_tested_and_nothing_is_trained(digits_run, tmp_path, monkeypatch):
    run = digits_run[0]
    torch.save({"state_dict": run.result(5).state}, tmp_path / "five.pth")
    monkeypatch.setattr("bitward.train._loop.Loop.run", None)  # a training would end here
    given = partial(train_classic, "resnet18", "digits", width=SMALL, cache=tmp_path, weights=tmp_path / "five.pth")
    first, second = given(), given()
    assert (first.recipe, first.results[0].seed, first.results[0].accuracy) == (None, 0, run.result(5).accuracy)
    assert [first.results[0].cached, second.results[0].cached] == [False, True]
    assert torch.equal(second.network(0).fc.weight, run.network(5).fc.weight)
    torch.save(run.result(0).state, tmp_path / "five.pth")
    assert given().results[0].accuracy == run.result(0).accuracy, "another file of the same name is measured anew"
    with pytest.raises(ModelError, match=r"^tensor .* of .*five\.pth must have shape "):
        given(width=0.25)


def test_a_training_that_was_cut_off_goes_on_dropout_included(tmp_path, monkeypatch):
    """AlexNet draws dropout in every step: the weights are those of an uncut training, bit by bit."""
    monkeypatch.setattr("bitward.train._loop.SETTLED_STEPS", 0)
    monkeypatch.setattr("bitward.train._loop.SAVE_EVERY_S", 0.0)
    train = partial(train_classic, "alexnet", few(28), width=SMALL, recipe=replace(QUICK, float_epochs=3))
    whole = train(cache=tmp_path / "whole").results[0]
    with pytest.raises(CutOff):
        train(cache=tmp_path / "cut", progress=Ticking(2))
    assert len(list((tmp_path / "cut").glob("alexnet-seed0-*.unfinished"))) == 1
    pieced = train(cache=tmp_path / "cut").results[0]
    assert not list((tmp_path / "cut").glob("*.unfinished"))
    for name, tensor in whole.state.items():
        assert torch.equal(tensor, pieced.state[name]), name


def few(side, channels=1, labelled="image"):
    """A dataset of a few random pictures."""

    def examples(seed, count):
        random = np.random.default_rng(seed)
        images = random.integers(0, 256, (count, channels, side, side), dtype=np.uint8)
        return Examples(images, random.integers(0, 10, count))

    parts = partial(examples, 0, 24), partial(examples, 1, 8)
    return Dataset("few", "random", "24 train, 8 test", 10, 8, (channels, side, side), *parts, labelled=labelled)


@pytest.mark.parametrize("name", FOR_SMALL_IMAGES)
@pytest.mark.parametrize(("side", "channels"), [(32, 3), (28, 1)])
def test_every_network_takes_every_size_that_fits(name, side, channels, tmp_path):
    train = partial(train_classic, name, few(side, channels), width=0.1, recipe=ONE, cache=tmp_path)
    if side < find_classic(name).least:
        rule = r"^dataset must have images of at least 32 pixels a side for vgg11_bn, got few with 28: choose another"
        with pytest.raises(ConfigError, match=rule):
            train()
    else:
        run = train()
        assert run.network(0)(torch.zeros(1, channels, side, side)).shape == (1, 10)


def test_training_leaves_torchs_own_random_numbers_and_threads_alone(tmp_path):
    torch.manual_seed(1)
    expected, threads = torch.rand(3), torch.get_num_threads()
    torch.manual_seed(1)
    train_classic("alexnet", few(28), width=SMALL, recipe=ONE, cache=tmp_path)
    assert torch.equal(torch.rand(3), expected) and torch.get_num_threads() == threads


def test_what_a_trained_seed_rests_on(tmp_path):
    """Everything but the path of the data: another of any of these is trained anew."""
    data = few(28)
    one = classic_fingerprint("alexnet", 1.0, data, QUICK, 0, "cpu")
    others = [
        classic_fingerprint("resnet18", 1.0, data, QUICK, 0, "cpu"),
        classic_fingerprint("alexnet", 0.5, data, QUICK, 0, "cpu"),
        classic_fingerprint("alexnet", 1.0, few(29), QUICK, 0, "cpu"),
        classic_fingerprint("alexnet", 1.0, replace(data, mean=(0.4,)), QUICK, 0, "cpu"),
        classic_fingerprint("alexnet", 1.0, replace(data, deviation=(0.4,)), QUICK, 0, "cpu"),
        classic_fingerprint("alexnet", 1.0, data, ONE, 0, "cpu"),
        classic_fingerprint("alexnet", 1.0, data, QUICK, 1, "cpu"),
        classic_fingerprint("alexnet", 1.0, data, QUICK, 0, "cuda"),
    ]
    assert len({one, *others}) == 1 + len(others)
    assert one == classic_fingerprint("alexnet", 1.0, few(28), QUICK, 0, "cpu")
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"2")
    files = [
        file_fingerprint("alexnet", 1.0, data, tmp_path / "a"),
        file_fingerprint("alexnet", 1.0, data, tmp_path / "b"),
        file_fingerprint("alexnet", 0.5, data, tmp_path / "a"),
        file_fingerprint("alexnet", 1.0, replace(data, mean=(0.4,)), tmp_path / "a"),
    ]
    assert len(set(files)) == len(files)


# ---- recipes and devices --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FOR_SMALL_IMAGES)
def test_every_network_has_a_short_recipe_and_a_full_one(name):
    classic = find_classic(name)
    short, full = (_recipe(classic, None, device) for device in ("cpu", "cuda"))
    assert short == RECIPES[classic.recipe] and short.float_epochs <= 16
    assert full == RECIPES[f"{classic.recipe}-full"] and full.float_epochs >= 100


def test_the_device_is_what_torch_has(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert (_device("auto"), _device("cpu")) == ("cpu", "cpu")
    with pytest.raises(ConfigError, match=r"^device must be one that torch has, got cuda, which it has not: use cpu"):
        _device("cuda")
    with pytest.raises(ConfigError, match=r"^device must be auto, cpu or cuda, got 'tpu': leave it out for auto$"):
        _device("tpu")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert (_device("auto"), _device("cuda"), _device("cpu")) == ("cuda", "cuda", "cpu")


# ---- what cannot be -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", [Recipe(), Recipe(float_epochs=2), Recipe(method="float")])
def test_a_recipe_of_quantized_networks_is_refused(recipe, tmp_path):
    rule = r"^recipe must be of method 'float', with float_epochs, for alexnet, .* got '(qat|float)' and \d: mend"
    with pytest.raises(ConfigError, match=rule):
        train_classic("alexnet", few(28), recipe=recipe, cache=tmp_path)


def test_labels_of_pixels_are_refused(tmp_path):
    rule = r"^dataset must have one label per image for alexnet, got few with one per pixel: choose another dataset$"
    with pytest.raises(ConfigError, match=rule):
        train_classic("alexnet", few(28, labelled="pixel"), cache=tmp_path)


@pytest.mark.parametrize("width", [0, -1.0, 17, float("nan")])
def test_a_width_is_above_0(width, tmp_path):
    with pytest.raises(ConfigError, match=r"^width must be above 0 and at most 16, got .*: 1 is the network's usual"):
        train_classic("alexnet", few(28), width=width, cache=tmp_path)


@pytest.mark.parametrize("seeds", [(), (1, 1)])
def test_seeds_are_some_and_different(seeds, tmp_path):
    with pytest.raises(ConfigError, match=r"^seeds must be at least one and all different, got \["):
        train_classic("alexnet", few(28), seeds=seeds, cache=tmp_path)


# ---- as typed -------------------------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch):
    """One epoch for classic networks."""
    monkeypatch.setitem(RECIPES, "classic", ONE)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


def test_seeds_are_trained_once_and_weights_are_tested(quick, tmp_path, capsys):
    cache = ["--cache", str(tmp_path / "cache"), "--dataset", "digits", "--width", "0.125"]
    assert main(["train", "resnet18", "--seeds", "3,4", *cache]) == 0
    lines = capsys.readouterr().out.split("\n")
    assert [line.split(":")[0] for line in lines if line] == ["seed 3", "seed 4", "mean"]
    trained = sorted((tmp_path / "cache").iterdir())
    assert main(["train", "resnet18", "--seeds", "3,4", *cache]) == 0
    assert sorted((tmp_path / "cache").iterdir()) == trained and capsys.readouterr().out.split("\n") == lines
    torch.save(find_classic("resnet18").build(10, 1, SMALL).state_dict(), tmp_path / "w.pth")
    assert main(["train", "resnet18", "--weights", str(tmp_path / "w.pth"), *cache]) == 0
    assert re.fullmatch(r"\d+\.\d\d%", capsys.readouterr().out.strip())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["resnet81", "--dataset", "digits"], "network must be a known name, got 'resnet81'; did you mean 'resnet18'?"),
        (["resnet18"], "--dataset must be given for resnet18, got none: choose one, e.g. --dataset cifar10"),
        (["digits_cnn", "--width", "2"], "--width must be left out for digits_cnn, which is quantized and has its own"),
        (["digits_cnn", "--dataset", "digits"], "--dataset must be left out for digits_cnn, "),
        (["resnet18", "--dataset", "digit_scenes"], "dataset must have one label per image for resnet18, "),
    ],
)
def test_what_cannot_be_is_said(arguments, sentence, tmp_path, capsys):
    assert main(["train", *arguments, "--cache", str(tmp_path)]) == 1
    assert f"bitward: {sentence}" in capsys.readouterr().err


def test_normalised_images_are_the_datasets(tmp_path):
    images = np.array([[[[0]], [[255]], [[51]]]], dtype=np.uint8)
    data = replace(few(28, 3), mean=(0.5, 0.25, 0.2), deviation=(0.5, 0.25, 0.1))
    found = normalised(data, images)
    assert found.dtype == np.float32 and found.shape == images.shape
    assert found.ravel().tolist() == pytest.approx([-1.0, 3.0, 0.0], abs=1e-6)
    assert normalised(few(28), images[:, :1]).item() == -1.0
