# SPDX-License-Identifier: Apache-2.0
"""Handwritten digits: scikit-learn's 1,797 grey images of 8x8 pixels (UCI Optical Recognition)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bitward.datasets import Dataset, Examples

TEST_IMAGES = 360
SPLIT_SEED = 0


def load(data: Path | None = None) -> Dataset:
    """1,437 training and 360 test images, stratified by class; grey levels 0..16 become pixels round(level * 255 / 16).

    Comes with scikit-learn: nothing is downloaded, and `data` is not looked at.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    levels, labels = load_digits(return_X_y=True)
    images = np.round(levels * 255 / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    train_images, test_images, train_labels, test_labels = train_test_split(
        images, labels.astype(np.int64), test_size=TEST_IMAGES, random_state=SPLIT_SEED, stratify=labels
    )
    return Dataset(
        name="digits",
        source="scikit-learn load_digits (UCI Optical Recognition of Handwritten Digits, test part)",
        split=f"{len(train_images)} train, {len(test_images)} test, stratified, split seed {SPLIT_SEED}",
        classes=10,
        pixel_bits=8,
        image_shape=(1, 8, 8),
        train=lambda: Examples(train_images, train_labels),
        test=lambda: Examples(test_images, test_labels),
    )
