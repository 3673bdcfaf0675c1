# SPDX-License-Identifier: Apache-2.0
"""Quantized networks of scenes with unlabelled pixels: their loss, their scores, their key and their card."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from bitward.datasets import Dataset, Examples, load_dataset
from bitward.errors import ConfigError
from bitward.metrics import global_iou, weighted_iou
from bitward.networks import find_network
from bitward.train import Recipe, export_network, train_network
from bitward.train._checkpoints import fingerprint
from bitward.train._pixels import by_labels_print
from bitward.train._stage import predict
from bitward.train.training import restore

SHORT = Recipe(epochs=1, batch_size=8, learning_rate=0.01, float_epochs=1, float_optimizer="adam", class_weights=True)
SCENES = load_dataset("digit_scenes")
UNLABELLED = 10


def scenes(ignore: int | None = UNLABELLED) -> Dataset:
    """A few digit scenes; every third row of pixels has the label that, unless `ignore` is None, counts nothing."""

    def few(images, labels, count):
        some = labels[:count].copy()
        some[:, ::3] = UNLABELLED
        return lambda: Examples(images[:count], some)

    return replace(
        SCENES,
        name="few_scenes",
        train=few(SCENES.train_images, SCENES.train_labels, 24),
        test=few(SCENES.test_images, SCENES.test_labels, 12),
        ignore=ignore,
        class_names=tuple(f"c{label}" for label in range(11)),
    )


@pytest.fixture(scope="module")
def few():
    dataset = scenes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bitward.train.training.load_dataset", lambda name, data: dataset)
        patch.setattr("bitward.train.export.load_dataset", lambda name, data: dataset)
        yield dataset


@pytest.fixture(scope="module")
def trained(few, tmp_path_factory):
    """The run, and the folder that keeps it."""
    cache = tmp_path_factory.mktemp("trained")
    return train_network("unet_relu", recipe=SHORT, seeds=(0,), cache=cache), cache


def test_scores_are_those_of_labelled_pixels_and_the_cache_keeps_them(few, trained):
    run, cache = trained
    first = run.results[0]
    maps, wanted = predict(restore(first), few.test_images).argmax(axis=1), few.test_labels
    labelled = wanted != UNLABELLED
    assert first.scores["accuracy"] == first.accuracy == np.mean(maps[labelled] == wanted[labelled])
    assert first.scores["global_iou"] == global_iou(maps, wanted, 11, UNLABELLED)
    assert first.scores["weighted_iou"] == weighted_iou(maps, wanted, 11, UNLABELLED)
    assert [name for name in first.scores if name.startswith("iou")] == [f"iou c{label}" for label in range(10)]
    again = train_network("unet_relu", recipe=SHORT, seeds=(0,), cache=cache).results[0]
    assert again.cached and again.scores == pytest.approx(first.scores, nan_ok=True)


def test_the_loss_leaves_unlabelled_pixels_out_and_weighs_rare_classes(few, trained, monkeypatch):
    """Of the float stage and the quantized one; what torch's loss is told is looked at."""
    told = []
    loss = torch.nn.functional.cross_entropy

    def told_loss(outputs, labels, weights=None, ignore_index=-100):
        told.append((weights, ignore_index))
        return loss(outputs, labels, weights, ignore_index=ignore_index)

    monkeypatch.setattr("torch.nn.functional.cross_entropy", told_loss)
    alone = train_network("unet_relu", recipe=SHORT, seeds=(0,)).results[0]  # without a cache
    assert len(told) == 2 * 3  # three batches a stage
    assert {index for _, index in told} == {UNLABELLED}
    counts = np.bincount(few.train_labels.ravel(), minlength=11)[:10]
    for weights, _ in told:
        np.testing.assert_allclose(weights[:10].numpy() * counts, np.median(counts), rtol=1e-6)
        assert weights[UNLABELLED] == 0
    assert all(torch.equal(tensor, alone.state[name]) for name, tensor in trained[0].results[0].state.items())


def test_where_all_pixels_are_labelled_nothing_is_new(monkeypatch, tmp_path):
    dataset = scenes(ignore=None)
    for module in ("training", "export"):
        monkeypatch.setattr(f"bitward.train.{module}.load_dataset", lambda name, data: dataset)
    run = train_network("unet_relu", recipe=SHORT, seeds=(0,))
    result = run.results[0]
    network = find_network("unet_relu")
    assert result.scores is None and result.fingerprint == fingerprint(network, dataset, SHORT, 0)
    maps, wanted = predict(restore(result), dataset.test_images).argmax(axis=1), dataset.test_labels
    each = [((maps == label) & (wanted == label)).sum() / ((maps == label) | (wanted == label)).sum()
            for label in range(11)]  # fmt: skip
    text = export_network(run, tmp_path).with_suffix(".md").read_text()
    assert f"| Mean IoU of this file | {np.mean(each):.2%} over 11 classes, background included |" in text
    assert "| IoU of each class |" not in text


def test_the_key_tells_which_label_counts_nothing():
    assert by_labels_print("ab", scenes(None)) == "ab"
    keys = {by_labels_print(start, scenes(label)) for start in ("ab", "cd") for label in (0, 10)}
    assert len(keys) == 4 and all(len(key) == 64 for key in keys)


def test_a_card_tells_iou(few, trained, tmp_path):
    run = trained[0]
    text = export_network(run, tmp_path).with_suffix(".md").read_text()
    scores = run.exported.scores
    means = f"{scores['global_iou']:.2%} by frequency, {scores['weighted_iou']:.2%} by its inverse"
    assert f"| IoU of this file, weighted | {means}; pixels of c10 count nothing |" in text
    assert f"| IoU of each class | c0 {scores['iou c0']:.2%}, c1 " in text and "background included" not in text


def test_quantizing_without_retraining_is_scored_too(few):
    result = train_network("unet_relu", recipe=replace(SHORT, method="ptq"), seeds=(0,)).results[0]
    assert result.scores["accuracy"] == result.accuracy and result.steps


def test_maps_cannot_be_shifted(few):
    with pytest.raises(ConfigError, match=r"^Recipe\.augment must be False for few_scenes, whose pixels are labelled"):
        train_network("unet_relu", recipe=replace(SHORT, augment=True), seeds=(0,))
