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
