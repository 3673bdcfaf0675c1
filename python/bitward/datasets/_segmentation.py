# SPDX-License-Identifier: Apache-2.0
"""What data sets with a class per pixel have in common: weights of classes, and patches of frames."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from bitward.errors import ConfigError

Map = npt.NDArray[np.int64]


def class_weights(labels: npt.ArrayLike, classes: int, ignore: int | None = None) -> npt.NDArray[np.float32]:
    """A weight per class, shape (classes,): the median frequency over the class's own, so that rare ones count as much.

    Frequencies are over labelled pixels; classes without any, and `ignore`, weigh 0. (Median frequency balancing:
    D. Eigen, R. Fergus, ICCV 2015, section 6.3.2.) ConfigError where no pixel is labelled.

    >>> class_weights([0, 1, 1, 2, 2, 2, 2], 3).tolist()
    [2.0, 1.0, 0.5]
    """
    counts = np.bincount(np.asarray(labels).reshape(-1), minlength=classes)[:classes].astype(np.float64)
    if ignore is not None and 0 <= ignore < classes:
        counts[ignore] = 0
    if not counts.any():
        raise ConfigError(f"labels must hold a class of 0 to {classes - 1} that counts, got none: give other images")
    weights = np.divide(np.median(counts[counts > 0]), counts, out=np.zeros(classes), where=counts > 0)
    return weights.astype(np.float32)


def corners(size: int, patch: int, step: int) -> list[int]:
    """Where patches of `patch` pixels begin along a side of `size`: every `step` pixels, and one that ends with it.

    >>> corners(10, 4, 3), corners(9, 4, 3), corners(4, 4, 3)
    ([0, 3, 6], [0, 3, 5], [0])

    ConfigError where the patch is larger than the side, or the step none.
    """
    if not 1 <= patch <= size or step < 1:
        raise ConfigError(
            f"patches must be of 1 to {size} pixels, at steps of at least 1, got {patch} at steps of {step}: take "
            "smaller ones"
        )
    found = list(range(0, size - patch + 1, step))
    return found if found[-1] == size - patch else [*found, size - patch]


def patches(
    image: npt.NDArray[np.float32], labels: Map, size: tuple[int, int], step: tuple[int, int], ignore: int | None
) -> Iterator[tuple[npt.NDArray[np.float32], Map]]:
    """Windows of (channels, height, width) and of its labels, row by row; those without a labelled pixel are left out.

    They overlap where `step` is smaller than `size`, and at the ends so that the whole image is covered.
    """
    for top in corners(labels.shape[0], size[0], step[0]):
        for left in corners(labels.shape[1], size[1], step[1]):
            rows, columns = slice(top, top + size[0]), slice(left, left + size[1])
            part = labels[rows, columns]
            if ignore is None or bool(np.any(part != ignore)):
                yield image[:, rows, columns], part
