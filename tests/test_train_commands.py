# SPDX-License-Identifier: Apache-2.0
"""bitward train and export, as typed."""

from __future__ import annotations

import re

import pytest

from bitward.cli import main
from bitward.train.recipe import RECIPES, Recipe


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    """One epoch for the digits, and no data sets but those given."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setitem(RECIPES, "digits", Recipe(epochs=1, batch_size=256))
    monkeypatch.delenv("BITWARD_DATA", raising=False)


def test_seeds_are_trained_once_and_the_first_is_exported(tmp_path, capsys):
    cache = ["--cache", str(tmp_path / "cache")]
    assert main(["train", "digits_mlp", "--seeds", "3,4", *cache]) == 0
    lines = capsys.readouterr().out.split("\n")
    assert [line.split(":")[0] for line in lines if line] == ["seed 3", "seed 4", "mean"]
    trained = sorted((tmp_path / "cache").iterdir())
    assert main(["export", "digits_mlp", "--seeds", "3,4", *cache, "--out", str(tmp_path)]) == 0
    assert sorted((tmp_path / "cache").iterdir()) == trained
    assert capsys.readouterr().out.strip() == str(tmp_path / "digits_mlp.onnx")
    assert "(seed 3, the first, by rule)" in (tmp_path / "digits_mlp.md").read_text()


def test_without_seeds_the_networks_own_are_trained(tmp_path, capsys):
    assert main(["train", "digits_mlp", "--cache", str(tmp_path)]) == 0
    assert re.findall(r"^seed (\d):", capsys.readouterr().out, re.MULTILINE) == ["0", "1", "2", "3", "4"]


def test_seeds_that_are_none_are_wrong_usage(capsys):
    assert main(["train", "digits_mlp", "--seeds", "1,two"]) == 2
    assert "--seeds must be whole numbers from 0 on with commas between, got '1,two'" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train", "export"])
def test_pictures_that_are_not_given_are_asked_for(tmp_path, capsys, command):
    assert main([command, "vgg_cifar", "--cache", str(tmp_path)]) == 1
    assert "bitward: the images of 'cifar10' must be given, got no path: give --data" in capsys.readouterr().err
    assert main([command, "vgg_cifar", "--data", str(tmp_path / "none"), "--cache", str(tmp_path)]) == 1
    assert "/none must be a folder or an archive" in capsys.readouterr().err
