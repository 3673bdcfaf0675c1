# SPDX-License-Identifier: Apache-2.0
"""Datasets: labelled integer images with a fixed split. One file each: `NAME.py` here defines `load() -> Dataset`.

The split is part of a dataset, never of an experiment: every figure that bitward reports is over the same test images.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from bitward.registry import Registry

_REGISTRY = Registry(__name__, "dataset")


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images as the hardware takes them: NCHW, float32 holding integers 0 to 2^`pixel_bits` - 1, and their classes."""

    name: str
    source: str
    split: str
    classes: int
    pixel_bits: int
    train_images: npt.NDArray[np.float32]
    train_labels: npt.NDArray[np.int64]
    test_images: npt.NDArray[np.float32]
    test_labels: npt.NDArray[np.int64]

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(channels, height, width)."""
        return self.train_images.shape[1:]

    @cached_property
    def digest(self) -> str:
        """sha256 over every image and label of both splits, in order: equal digests mean equal data."""
        arrays = (self.train_images, self.train_labels, self.test_images, self.test_labels)
        return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()


def dataset_names() -> tuple[str, ...]:
    """The names that `load_dataset` knows."""
    return _REGISTRY.names()


def load_dataset(name: str) -> Dataset:
    """The dataset of that name, in memory; ConfigError names the nearest one when there is none."""
    dataset: Dataset = _REGISTRY.module(name).load()
    return dataset
