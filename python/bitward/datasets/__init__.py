# SPDX-License-Identifier: Apache-2.0
"""Datasets: labelled integer images with a fixed split. One file each: `NAME.py` defines `load(data) -> Dataset`.

The split is part of a dataset, never of an experiment: every figure that bitward reports is over the same test images.
`data` is where a dataset's images lie, for those that are not made here: what --data or BITWARD_DATA names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bitward.registry import Registry

_REGISTRY = Registry(__name__, "dataset")


@dataclass(frozen=True, eq=False)
class Examples:
    """Images (NCHW, uint8 or float32, whole numbers) and labels (int64): one per image, or one per pixel, NHW."""

    images: npt.NDArray[Any]
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images as the hardware takes them, integers 0 to 2^`pixel_bits` - 1, and the class of each, or of each pixel.

    `train` and `test` read their part; each is read when it is first asked for, and once.
    """

    name: str
    source: str
    split: str
    classes: int
    pixel_bits: int
    image_shape: tuple[int, ...]  # (channels, height, width)
    train: Callable[[], Examples] = field(repr=False)
    test: Callable[[], Examples] = field(repr=False)
    labelled: Literal["image", "pixel"] = "image"
    by_path: bool = False  # the images are not made here: whoever uses them says where they lie

    @cached_property
    def _train(self) -> Examples:
        return self.train()

    @cached_property
    def _test(self) -> Examples:
        return self.test()

    @property
    def train_images(self) -> npt.NDArray[Any]:
        """The training images, uint8 or float32."""
        return self._train.images

    @property
    def train_labels(self) -> npt.NDArray[np.int64]:
        """Their labels."""
        return self._train.labels

    @cached_property
    def test_images(self) -> npt.NDArray[np.float32]:
        """The test images, float32."""
        return self._test.images.astype(np.float32, copy=False)

    @property
    def test_labels(self) -> npt.NDArray[np.int64]:
        """Their labels."""
        return self._test.labels

    @cached_property
    def digest(self) -> str:
        """sha256 over every image and label of both splits, in order: equal digests mean equal data."""
        whole = hashlib.sha256()
        for part in (self._train, self._test):
            for array in (part.images, part.labels):
                whole.update(np.ascontiguousarray(array).data)
        return whole.hexdigest()


def dataset_names() -> tuple[str, ...]:
    """The names that `load_dataset` knows."""
    return _REGISTRY.names()


def load_dataset(name: str, data: Path | None = None) -> Dataset:
    """The dataset of that name, from `data` where its images are not made here.

    ConfigError names the nearest one when there is none, or says where images were looked for and what was missing.
    """
    dataset: Dataset = _REGISTRY.module(name).load(data)
    return dataset
