# SPDX-License-Identifier: Apache-2.0
"""CIFAR-10: 32x32 colour photographs of ten classes, as pictures in folders (`_image_folder` says how they lie)."""

from __future__ import annotations

from pathlib import Path

from bitward.datasets import Dataset
from bitward.datasets._image_folder import image_folder
from bitward.errors import ConfigError

SHAPE, CLASSES = (3, 32, 32), 10


def load(data: Path | None = None) -> Dataset:
    """The pictures in `data` (or where BITWARD_DATA says), of CIFAR-10's shape and number of classes."""
    dataset = image_folder("cifar10", "CIFAR-10 (A. Krizhevsky, 2009), pictures given by path", data)
    if dataset.image_shape != SHAPE or dataset.classes != CLASSES:
        got = f"{'x'.join(map(str, dataset.image_shape))} in {dataset.classes}"
        raise ConfigError(f"cifar10 must have 3x32x32 pictures in 10 classes, got {got}: use the dataset 'images'")
    return dataset
