# SPDX-License-Identifier: Apache-2.0
"""CIFAR-10: 32x32 colour photographs of ten classes: its author's files, or pictures in folders.

`_cifar_batches` says how the author's files lie, `_image_folder` how pictures do; classes have the same numbers.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bitward.datasets import Dataset, data_root
from bitward.datasets._cifar_batches import CLASSES, PYTHON, SHAPE, batches, find_batches
from bitward.datasets._image_folder import image_folder
from bitward.errors import ConfigError

DOWNLOADS = (PYTHON,)
MEAN, DEVIATION = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)  # of all pixels of the training images


def load(data: Path | None = None) -> Dataset:
    """The batches or else the pictures in `data` (or where BITWARD_DATA says), of CIFAR-10's shape and classes."""
    found = find_batches(data_root("cifar10", data))
    return replace(batches(*found) if found else _pictures(data), mean=MEAN, deviation=DEVIATION)


def _pictures(data: Path | None) -> Dataset:
    dataset = image_folder("cifar10", "CIFAR-10 (A. Krizhevsky, 2009), pictures given by path", data)
    if dataset.image_shape != SHAPE or dataset.classes != CLASSES:
        got = f"{'x'.join(map(str, dataset.image_shape))} in {dataset.classes}"
        raise ConfigError(f"cifar10 must have 3x32x32 pictures in 10 classes, got {got}: use the dataset 'images'")
    return dataset
