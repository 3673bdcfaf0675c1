# SPDX-License-Identifier: Apache-2.0
"""Metrics: accuracy, changed outputs, intervals and sample sizes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from bitward.errors import FormatError


@dataclass(frozen=True)
class Share:
    """`count` of `total`, and the interval from `low` to `high` that covers the true share at the stated confidence."""

    count: int
    total: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The share observed; it may lie anywhere in the interval, not in its middle."""
        return self.count / self.total


def top1(outputs: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """The class of the largest of each row of outputs, shape (images, classes); the first where several are equal."""
    scores = np.asarray(outputs)
    if scores.ndim != 2 or scores.shape[1] == 0:
        raise FormatError(f"outputs must be of shape (images, classes), got {scores.shape}; flatten images' scores")
    return np.asarray(scores.argmax(axis=1))


def top1_accuracy(outputs: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """The share of images whose largest output is at the label."""
    found, wanted = top1(outputs), np.asarray(labels)
    if found.shape != wanted.shape or not len(found):
        raise FormatError(f"labels must be of shape {found.shape} and at least one, got {wanted.shape}; one per image")
    return float(np.mean(found == wanted))


def mean_iou(found: npt.ArrayLike, wanted: npt.ArrayLike, classes: int) -> float:
    """Intersection over union of pixels, averaged over the classes that occur in `found` or `wanted`, 0 to 1.

    Both hold the class of each pixel, in equal shapes. Counts are over all images together, not image by image.

    >>> mean_iou([0, 0, 1, 1], [0, 1, 1, 1], 2)
    0.5833333333333333
    """
    labels, predicted = _pair(wanted, found)
    pairs = np.bincount(labels.reshape(-1) * classes + predicted.reshape(-1), minlength=classes**2)
    matrix = pairs.reshape(classes, classes)
    both, either = np.diag(matrix), matrix.sum(axis=0) + matrix.sum(axis=1) - np.diag(matrix)
    seen = either > 0
    return float(np.mean(both[seen] / either[seen]))


def changed_outputs(golden: npt.ArrayLike, outputs: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Which images (axis 0) have any output other than the golden one. NaN equals NaN: it is the same output."""
    before, after = _pair(golden, outputs)
    differs = (before != after) & ~((before != before) & (after != after))
    return np.asarray(differs.reshape(len(differs), -1).any(axis=1))


def changed_top1(golden: npt.ArrayLike, outputs: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Which images have another top-1 class than the golden outputs."""
    before, after = _pair(golden, outputs)
    return np.asarray(top1(before) != top1(after))


def wilson(count: int, total: int, confidence: float = 0.95) -> Share:
    """The share count/total with Wilson's score interval (two-sided, no continuity correction).

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927). Unlike
    Wald's, it is right near 0 and 1, where fault campaigns live.
    """
    if not 0 <= count <= total or total < 1:
        raise FormatError(f"count must be 0 to total and total at least 1, got {count} of {total}; run trials first")
    z = _quantile(confidence)
    share = count / total
    centre = share + z * z / (2 * total)
    spread = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    low = 0.0 if count == 0 else (centre - spread) / scale  # exactly 0 and 1, not a rounding error beside them
    high = 1.0 if count == total else (centre + spread) / scale
    return Share(count, total, low, high)


def sample_size(population: float, margin: float = 0.025, confidence: float = 0.95, expected: float = 0.5) -> int:
    """How many faults, drawn without replacement, give a share within `margin` of the truth at `confidence`.

    n = N / (1 + e^2 (N-1) / (t^2 p (1-p))), rounded up: R. Leveugle, A. Calvez, P. Maistri, P. Vanhauwaert,
    "Statistical fault injection: quantified error and confidence", DATE 2009. `population` may be `math.inf`;
    `expected` is p, 0.5 being the worst.

    >>> sample_size(math.inf), sample_size(1000)
    (1537, 607)
    """
    if not population >= 1:
        raise FormatError(f"population must be at least 1, got {population}; it counts live bits")
    if not 0 < margin < 1 or not 0 < expected < 1:
        raise FormatError(f"margin and expected must be between 0 and 1, got {margin} and {expected}; 0.025 is 2.5%")
    unlimited = _quantile(confidence) ** 2 * expected * (1 - expected) / margin**2
    if math.isinf(population):
        return math.ceil(unlimited)
    return min(int(population), math.ceil(population / (1 + (population - 1) / unlimited)))


def _quantile(confidence: float) -> float:
    """The two-sided normal quantile: 1.96 for 0.95."""
    if not 0 < confidence < 1:
        raise FormatError(f"confidence must be above 0 and below 1, got {confidence}; 0.95 is 95 %")
    return NormalDist().inv_cdf((1 + confidence) / 2)


def _pair(golden: npt.ArrayLike, outputs: npt.ArrayLike) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    before, after = np.asarray(golden), np.asarray(outputs)
    if before.shape != after.shape or before.ndim == 0:
        raise FormatError(f"outputs must be of the golden shape {before.shape}, got {after.shape}; compare equal sets")
    return before, after
