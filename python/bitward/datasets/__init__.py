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
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from bitward.datasets._segmentation import class_weights
from bitward.errors import ConfigError
from bitward.registry import Registry
from bitward.tools import cache_folder, data_directory

if TYPE_CHECKING:
    from bitward.datasets._published import Published

__all__ = [
    "PICTURES_LIE", "Dataset", "Examples", "check_dataset", "class_weights", "data_root", "dataset_names",
    "download_folder", "load_dataset", "normalised", "published_files",
]  # fmt: skip

_REGISTRY = Registry(__name__, "dataset")
PICTURES_LIE = "a folder or .tar.gz with train/CLASS/*.jpg and test/CLASS/*.jpg"


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
    mean: tuple[float, ...] = (0.5,)  # of pixels as 0 to 1, per channel or for all: what `normalised` subtracts
    deviation: tuple[float, ...] = (0.5,)  # and what it divides by
    ignore: int | None = None  # the label of pixels that nobody labelled: they count nothing
    class_names: tuple[str, ...] = ()  # by label, where they are known

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


def normalised(dataset: Dataset, images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Images as the classic float networks take them: (pixel / (2^pixel_bits - 1) - mean) / deviation, float32 NCHW.

    `images` are NCHW pixels of that dataset, of any type; mean and deviation are the dataset's, by channel.
    """
    mean, deviation = (np.array(values).reshape(1, -1, 1, 1) for values in (dataset.mean, dataset.deviation))
    factor = 1 / ((2**dataset.pixel_bits - 1) * deviation)
    scaled = images.astype(np.float32) * factor.astype(np.float32)
    scaled -= (mean / deviation).astype(np.float32)
    return scaled


def dataset_names() -> tuple[str, ...]:
    """The names that `load_dataset` knows."""
    return _REGISTRY.names()


def published_files(name: str) -> tuple[Published, ...]:
    """The files of that dataset as its authors published them; ConfigError where it has none, or there is no such."""
    files: tuple[Published, ...] = getattr(_REGISTRY.module(name), "DOWNLOADS", ())
    if not files:
        raise ConfigError(f"dataset must be one that is published as files, got {name!r}, which has none: use it as is")
    return files


def download_folder(name: str) -> Path:
    """Where the files of a dataset are put unless told otherwise: NAME below BITWARD_DATA, or below bitward's cache."""
    return (data_directory() or cache_folder("data")) / name


def data_root(name: str, data: Path | None) -> Path:
    """Where to look for the files of a dataset: `data`, or BITWARD_DATA, or what was downloaded.

    ConfigError where none of these is given.
    """
    if base := data or data_directory():
        return base.expanduser()
    if (base := download_folder(name)).is_dir():
        return base
    raise ConfigError(f"the images of {name!r} must be given, got no path: {_advice(name)}")


def _advice(name: str) -> str:
    if getattr(_REGISTRY.module(name), "DOWNLOADS", ()):
        return f"give --data, or set BITWARD_DATA to, the folder of its files, or run bitward data {name}"
    return f"give --data, or set BITWARD_DATA to, {getattr(_REGISTRY.module(name), 'LIE', PICTURES_LIE)}"


def check_dataset(name: str) -> None:
    """There is a dataset of that name; ConfigError names the nearest one otherwise."""
    _REGISTRY.module(name)


def load_dataset(name: str, data: Path | None = None) -> Dataset:
    """The dataset of that name, from `data` where its images are not made here.

    ConfigError names the nearest one when there is none, or says where images were looked for and what was missing.
    """
    dataset: Dataset = _REGISTRY.module(name).load(data)
    return dataset
