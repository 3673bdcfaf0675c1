# SPDX-License-Identifier: Apache-2.0
"""Fashion-MNIST: 28x28 grey pictures of clothes in ten classes, as its authors' four IDX files, gzipped or not."""

from __future__ import annotations

import gzip
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bitward.datasets import Dataset, Examples, data_root
from bitward.datasets._published import Published, published_as
from bitward.errors import ConfigError

SERVER = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
DOWNLOADS = tuple(
    Published(name, f"{SERVER}{name}", md5)
    for name, md5 in (  # as in the readme of github.com/zalandoresearch/fashion-mnist
        ("train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
        ("train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe"),
        ("t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79"),
        ("t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310"),
    )
)
PLACES = ("fashion_mnist", "fashion-mnist", "FashionMNIST/raw", "FashionMNIST", "data/fashion")  # where others put them
SIDE, CLASSES = 28, 10
MEAN, DEVIATION = (0.2860,), (0.3530,)  # of all pixels of the training images
BYTES_OF_IDX = 0x08  # the type of the values: unsigned bytes


def load(data: Path | None = None) -> Dataset:
    """The four files in the folder `data` (or where BITWARD_DATA says); each is read when it is first needed.

    ConfigError: no such folder or file, a gzipped one that has not the published sum, or one that is no such IDX file.
    """
    root = _find(data)
    return Dataset(
        name="fashion_mnist",
        source="Fashion-MNIST (H. Xiao, K. Rasul, R. Vollgraf, 2017)",
        split="60000 train, 10000 test, 10 classes, as in the source",
        classes=CLASSES,
        pixel_bits=8,
        image_shape=(1, SIDE, SIDE),
        train=partial(_examples, root, "train"),
        test=partial(_examples, root, "t10k"),
        by_path=True,
        mean=MEAN,
        deviation=DEVIATION,
    )


def _find(data: Path | None) -> Path:
    """The folder with the files."""
    base = data_root("fashion_mnist", data)
    for place in (base, *(base / name for name in PLACES)):
        if _file(place, DOWNLOADS[0].name):
            return place
    raise ConfigError(
        f"{base} must be or have a folder with {DOWNLOADS[0].name} and its like, gzipped or not, got none: run bitward "
        "data fashion_mnist, or give --data"
    )


def _file(root: Path, name: str) -> Path | None:
    """The gzipped file, or else the plain one; None where neither is there."""
    for path in (root / name, root / name.removesuffix(".gz")):
        if path.is_file():
            return path
    return None


def _examples(root: Path, part: str) -> Examples:
    images, labels = (_read(root, file) for file in DOWNLOADS if file.name.startswith(part))
    if len(images) != len(labels) or not len(labels) or images.shape[1:] != (SIDE, SIDE) or labels.max() >= CLASSES:
        raise ConfigError(
            f"{root} must have {SIDE}x{SIDE} pictures with a label from 0 to {CLASSES - 1} each, got {part} images of "
            f"shape {images.shape} and labels of shape {labels.shape}: get the files again, bitward data fashion_mnist"
        )
    return Examples(images[:, np.newaxis], labels.astype(np.int64))


def _read(root: Path, file: Published) -> npt.NDArray[np.uint8]:
    path = _file(root, file.name)
    if path is None:
        raise ConfigError(f"{root} must have {file.name}, gzipped or not, got none: run bitward data fashion_mnist")
    if known := published_as(path, DOWNLOADS):
        known.check(path)
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"{path} must be a whole gzip file, got a damaged one ({error}): get it again") from error
    return idx(path, data)


def idx(path: Path | str, data: bytes) -> npt.NDArray[Any]:
    """The array in the bytes of an IDX file of unsigned bytes: 0, 0, 8, dimensions; each size, 4 bytes; the values.

    >>> idx("labels", bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9])).tolist()
    [7, 9]
    """
    if len(data) >= 4 and data[:3] == bytes([0, 0, BYTES_OF_IDX]) and len(data) >= (start := 4 + 4 * data[3]):
        shape = np.frombuffer(data[4:start], dtype=">u4").astype(np.int64)
        if len(data) == start + int(shape.prod()):
            return np.frombuffer(data, dtype=np.uint8, offset=start).reshape(shape)
    raise ConfigError(
        f"{path} must be a whole IDX file of unsigned bytes, got {len(data)} bytes that begin with "
        f"{data[:4].hex(' ') or 'nothing'}: get it again"
    )
