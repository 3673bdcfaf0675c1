# SPDX-License-Identifier: Apache-2.0
"""A tiny Fashion-MNIST: the four files as its authors publish them, of random pictures."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from bitward.datasets import Dataset
from bitward.datasets._published import Published, hash_of


def idx(array: np.ndarray) -> bytes:
    """The array as an IDX file of unsigned bytes."""
    return bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape) + array.tobytes()


def clothes(part: str) -> tuple[np.ndarray, np.ndarray]:
    """The pictures and labels of "train" or "t10k"."""
    random = np.random.default_rng(len(part))
    count = 6 if part == "train" else 3
    return random.integers(0, 256, (count, 28, 28), dtype=np.uint8), random.integers(0, 10, count, dtype=np.uint8)


def fashion_files(folder: Path) -> tuple[Published, ...]:
    """The folder holds the four files, gzipped; how they would be published."""
    folder.mkdir()
    published = []
    for part in ("train", "t10k"):
        for name, array in zip(("images-idx3", "labels-idx1"), clothes(part), strict=True):
            path = folder / f"{part}-{name}-ubyte.gz"
            path.write_bytes(gzip.compress(idx(array)))
            published.append(Published(path.name, f"http://127.0.0.1:9/{path.name}", hash_of(path)))
    return tuple(published)


def is_fashion(dataset: Dataset) -> None:
    """It holds the pictures and labels of `clothes`."""
    for part, images, labels in (
        ("train", dataset.train_images, dataset.train_labels),
        ("t10k", dataset.test_images, dataset.test_labels),
    ):
        assert np.array_equal(images[:, 0], clothes(part)[0]) and labels.tolist() == clothes(part)[1].tolist()
    assert (dataset.image_shape, dataset.mean, dataset.labelled) == ((1, 28, 28), (0.286,), "image")
