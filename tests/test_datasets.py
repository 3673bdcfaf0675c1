# SPDX-License-Identifier: Apache-2.0
"""The digits are what they are said to be, and the split never moves."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from bitward.datasets import dataset_names, load_dataset
from bitward.errors import ConfigError

DIGITS_SHA256 = "648517d1a79d8883664ac03ca6d04e5966aa0985bf07edba45425efa662f6405"  # every figure rests on this split


def test_the_split_is_the_one_that_every_figure_rests_on():
    assert load_dataset("digits").digest == DIGITS_SHA256


def test_digits_are_stratified_pixels():
    digits = load_dataset("digits")
    assert digits.train_images.shape == (1437, 1, 8, 8) and digits.test_images.shape == (360, 1, 8, 8)
    assert digits.image_shape == (1, 8, 8)
    for images in (digits.train_images, digits.test_images):
        assert images.dtype == np.float32 and images.min() == 0 and images.max() == 255
        assert np.array_equal(images, np.round(images))
    share = np.bincount(digits.test_labels, minlength=10) / np.bincount(digits.train_labels, minlength=10)
    assert np.all(np.abs(share - 360 / 1437) < 0.02)


def test_training_and_test_images_together_are_the_source():
    digits = load_dataset("digits")
    levels = np.round(np.concatenate([digits.train_images, digits.test_images]) * 16 / 255).reshape(-1, 64)
    source = load_digits().data
    assert sorted(map(bytes, levels.astype(np.uint8))) == sorted(map(bytes, source.astype(np.uint8)))


def test_an_unknown_dataset_is_named():
    assert "digits" in dataset_names()
    with pytest.raises(ConfigError, match=r"^dataset must be a known name, got 'digit'; did you mean 'digits'\?$"):
        load_dataset("digit")


SCENES_SHA256 = "f55103fb757a6d6bb19f4a7c521283ec349b0ea1deabf82efb074ae752992b7f"


@pytest.fixture(scope="module")
def scenes():
    return load_dataset("digit_scenes")


def test_scenes_are_the_ones_that_every_figure_rests_on(scenes):
    assert scenes.digest == SCENES_SHA256


def test_scenes_hold_whole_digits_on_a_dark_background(scenes):
    assert scenes.labelled == "pixel" and scenes.classes == 11 and scenes.image_shape == (1, 32, 32)
    assert scenes.train_images.shape == (4000, 1, 32, 32) and scenes.test_images.shape == (500, 1, 32, 32)
    for images, labels in ((scenes.train_images, scenes.train_labels), (scenes.test_images, scenes.test_labels)):
        assert labels.shape == (len(images), 32, 32) and labels.min() == 0 and labels.max() == 10
        ink = labels < 10
        assert images[:, 0][ink].min() >= 64 and images[:, 0][~ink].max() < 64
        per_scene = [len(np.unique(label[label < 10])) for label in labels]
        assert max(per_scene) <= 6 and min(per_scene) >= 1


def test_every_digit_of_a_test_scene_is_one_of_the_test_digits(scenes):
    """And none of the training digits: their ink, wherever it lies, is that of an image of the right split."""
    digits = load_dataset("digits")
    sources = {name: {} for name in ("train", "test")}
    for name, known in sources.items():
        images, labels = getattr(digits, f"{name}_images"), getattr(digits, f"{name}_labels")
        for image, label in zip(images[:, 0], labels, strict=True):
            known.setdefault(int(label), []).append(np.where(image >= 64, image, 0))
    found = 0
    for scene, label in zip(scenes.test_images[:5, 0], scenes.test_labels[:5], strict=True):
        ink = np.where(label < 10, scene, 0)
        for number in np.unique(label[label < 10]):
            rows, columns = np.nonzero(label == number)
            window = ink[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
            if window.shape[0] > 8 or window.shape[1] > 8:
                continue  # the digit occurs twice
            assert holds(sources["test"][int(number)], window) and not holds(sources["train"][int(number)], window)
            found += 1
    assert found > 10


def holds(images, window):
    """Is the window, trimmed to its ink, that of one of the images?"""
    for image in images:
        rows, columns = np.nonzero(image)
        trimmed = image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        if trimmed.shape == window.shape and np.array_equal(trimmed, window):
            return True
    return False
