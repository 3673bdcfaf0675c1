# SPDX-License-Identifier: Apache-2.0
"""What a fault did to decisions: top-1 classes, accuracy, and the split into masked, tolerable and critical faults."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bitward.errors import FormatError
from bitward.metrics._pairs import differs, filled_pair, pair


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


def changed_outputs(golden: npt.ArrayLike, outputs: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Which images (axis 0) have any output other than the golden one. NaN equals NaN: it is the same output."""
    before, after = pair(golden, outputs)
    return np.asarray(differs(before, after).reshape(len(after), -1).any(axis=1))


def changed_top1(golden: npt.ArrayLike, outputs: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Which images have another top-1 class than the golden outputs."""
    before, after = pair(golden, outputs)
    return np.asarray(top1(before) != top1(after))


def top1_change_rate(golden: npt.ArrayLike, outputs: npt.ArrayLike) -> float:
    """The share of images whose top-1 class changed: the rate of silent data corruptions (SDC) of one fault.

    Labels play no part: a wrong class that becomes another wrong one, or the right one, changed too.

    >>> top1_change_rate([[1, 2], [3, 4]], [[1, 2], [4, 3]])
    0.5
    """
    before, after = filled_pair(golden, outputs)
    return float(np.mean(changed_top1(before, after)))


def accuracy_drop(golden: npt.ArrayLike, outputs: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Top-1 accuracy of the golden outputs less that of `outputs`, as a fraction, -1 to 1; below 0 it grew.

    Called vulnerability in FORTUNE's Table II, in percent there.

    >>> accuracy_drop([[1, 2], [3, 4]], [[1, 2], [4, 3]], labels=[1, 1])
    0.5
    """
    before, after = filled_pair(golden, outputs)
    return top1_accuracy(before, labels) - top1_accuracy(after, labels)


@dataclass(frozen=True)
class Severity:
    """How many trials did nothing, harm within the tolerance, or more."""

    masked: int
    tolerable: int
    critical: int


def is_critical(values: npt.ArrayLike, tolerance: float) -> npt.NDArray[np.bool_]:
    """Which trials' accuracy drops, or shares of changed images or pixels, lie above `tolerance` (all are fractions).

    >>> is_critical([0.0, 0.01, 0.02], tolerance=0.01).tolist()
    [False, False, True]
    """
    if not 0 <= tolerance < 1:
        raise FormatError(f"tolerance must be 0 or more and below 1, got {tolerance}; 0.01 is one point of accuracy")
    found = np.asarray(values, dtype=np.float64)
    if np.isnan(found).any():
        raise FormatError("values must be numbers, got NaN; a trial that failed counts as 1")
    return np.asarray(found > tolerance)


def severity(values: npt.ArrayLike, tolerance: float) -> Severity:
    """The trials by what they did: value 0 is masked, above `tolerance` critical, all others tolerable.

    An accuracy that grew (a drop below 0) is tolerable: the fault was not masked.

    >>> severity([0, 0.005, -0.005, 0.3], tolerance=0.01)
    Severity(masked=1, tolerable=2, critical=1)
    """
    critical = int(is_critical(values, tolerance).sum())
    masked = int((np.asarray(values) == 0).sum())
    return Severity(masked, np.asarray(values).size - masked - critical, critical)
