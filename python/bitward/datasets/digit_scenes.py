# SPDX-License-Identifier: Apache-2.0
"""Digit scenes: synthetic images for segmentation, made of scikit-learn's handwritten digits on a noisy canvas."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bitward.datasets import Dataset, Examples, load_dataset

SIDE = 32
DIGIT = 8
DIGITS = (3, 6)  # least and most digits of a scene
NOISE = 48  # background pixels are 0..47
INK = 64  # pixels of a digit from this level on are the digit's class, the others background
TRAIN_SCENES, TEST_SCENES = 4000, 500
SEEDS = {"train": 0, "test": 1}
BACKGROUND = 10


def load(data: Path | None = None) -> Dataset:
    """4,000 training and 500 test scenes, 1x32x32, with a class per pixel: 0..9 and background, 10.

    Digits of training scenes come from the training part of `digits`, those of test scenes from its test part: no digit
    is in both. Synthetic: figures on it tell about circuits and their faults, not about images of the world. `data` is
    not looked at.
    """
    return Dataset(
        name="digit_scenes",
        source="synthetic: scikit-learn's handwritten digits at random places of a noisy canvas",
        split=f"{TRAIN_SCENES} train, {TEST_SCENES} test, of different digits, seeds {SEEDS['train']}, {SEEDS['test']}",
        classes=BACKGROUND + 1,
        pixel_bits=8,
        image_shape=(1, SIDE, SIDE),
        train=partial(_scenes, "train", TRAIN_SCENES),
        test=partial(_scenes, "test", TEST_SCENES),
        labelled="pixel",
    )


def _scenes(part: str, count: int) -> Examples:
    digits = load_dataset("digits")
    images, classes = getattr(digits, f"{part}_images"), getattr(digits, f"{part}_labels")
    random = np.random.default_rng(SEEDS[part])
    scenes = random.integers(0, NOISE, (count, 1, SIDE, SIDE), dtype=np.uint8)
    labels = np.full((count, SIDE, SIDE), BACKGROUND, dtype=np.int64)
    for scene, label in zip(scenes[:, 0], labels, strict=True):
        for row, column in _places(random):
            chosen = random.integers(len(images))
            _paste(scene, label, row, column, images[chosen, 0], int(classes[chosen]))
    return Examples(scenes, labels)


def _places(random: np.random.Generator) -> list[tuple[int, int]]:
    """Corners of a random number of digits that do not overlap: one in each of as many cells of a 3x3 grid."""
    step = SIDE // 3
    cells = random.permutation(9)[: random.integers(DIGITS[0], DIGITS[1] + 1)]
    shifts = random.integers(0, step - DIGIT + 1, (len(cells), 2))
    corners = np.stack(np.divmod(cells, 3), axis=1) * step + shifts
    return [(int(row), int(column)) for row, column in corners]


def _paste(
    scene: npt.NDArray[np.uint8], label: npt.NDArray[np.int64], row: int, column: int,
    digit: npt.NDArray[np.float32], number: int,
) -> None:  # fmt: skip
    """The digit is in the scene, brighter of the two where it meets the noise, and its ink in the labels."""
    window = (slice(row, row + DIGIT), slice(column, column + DIGIT))
    scene[window] = np.maximum(scene[window], digit.astype(np.uint8))
    label[window][digit >= INK] = number
