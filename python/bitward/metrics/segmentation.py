# SPDX-License-Identifier: Apache-2.0
"""Maps of classes: the share of pixels whose class changed, and intersection over union (IoU).

`found` and `wanted` hold the class of each pixel, 0 to classes - 1, in equal shapes; pixels whose wanted class is
`ignore` (unlabelled ones) count nothing. Counts are over all images together, not image by image.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bitward.errors import FormatError
from bitward.metrics._pairs import filled_pair, pair

Floats = npt.NDArray[np.float64]


def pixel_change_rate(golden: npt.ArrayLike, found: npt.ArrayLike) -> float:
    """The share of pixels, over all images, whose class is not the golden network's: no label is needed.

    The error rate of the SEU paper (its section 4) is of this kind: it counts changed classes of pixels.

    >>> pixel_change_rate([[[0, 1], [2, 2]]], [[[0, 1], [2, 0]]])
    0.25
    """
    before, after = filled_pair(golden, found)
    return float(np.mean(before != after))


def iou_per_class(found: npt.ArrayLike, wanted: npt.ArrayLike, classes: int, ignore: int | None = None) -> Floats:
    """|found and wanted| / |found or wanted| of each class, shape (classes,); NaN where a class occurs in neither.

    >>> iou_per_class([0, 0, 1, 1], [0, 1, 1, 1], 3).round(3).tolist()
    [0.5, 0.667, nan]
    """
    matrix = _confusion(found, wanted, classes, ignore)
    both = np.diag(matrix).astype(np.float64)
    either = matrix.sum(axis=0) + matrix.sum(axis=1) - both
    return np.divide(both, either, out=np.full(classes, np.nan), where=either > 0)


def class_frequencies(wanted: npt.ArrayLike, classes: int, ignore: int | None = None) -> Floats:
    """The share of labelled pixels that is of each class, shape (classes,).

    >>> class_frequencies([0, 1, 1, 1], 3).tolist()
    [0.25, 0.75, 0.0]
    """
    counts = _confusion(wanted, wanted, classes, ignore).sum(axis=1)
    return np.asarray(counts / counts.sum())


def mean_iou(found: npt.ArrayLike, wanted: npt.ArrayLike, classes: int, ignore: int | None = None) -> float:
    """The mean IoU of the classes that occur in `found` or `wanted`, 0 to 1.

    >>> mean_iou([0, 0, 1, 1], [0, 1, 1, 1], 2)
    0.5833333333333333
    """
    return float(np.nanmean(iou_per_class(found, wanted, classes, ignore)))


def global_iou(found: npt.ArrayLike, wanted: npt.ArrayLike, classes: int, ignore: int | None = None) -> float:
    """The classes' IoU weighted by how frequent each is in `wanted`, 0 to 1: sum of f_c * IoU_c.

    Frequent classes decide. The SEU paper does not define its "Global"; with frequencies of 60.7, 3.0, 21.1, 6.2 and
    9.0 % these weights reproduce all six of its figures in Table 1 (pooled counts do not).

    >>> global_iou([0, 0, 1, 1], [0, 1, 1, 1], 2)
    0.625
    """
    iou, frequency = iou_per_class(found, wanted, classes, ignore), class_frequencies(wanted, classes, ignore)
    return float(iou[frequency > 0] @ frequency[frequency > 0])


def weighted_iou(found: npt.ArrayLike, wanted: npt.ArrayLike, classes: int, ignore: int | None = None) -> float:
    """The classes' IoU weighted by the inverse of how frequent each is in `wanted`, 0 to 1.

    Rare classes decide: sum of IoU_c / f_c over sum of 1 / f_c, over the classes in `wanted`. The SEU paper does not
    define its "Weighted"; the inverse of the frequencies named at `global_iou` reproduces its figures in Table 1.

    >>> weighted_iou([0, 0, 1, 1], [0, 1, 1, 1], 2)
    0.5416666666666667
    """
    iou, frequency = iou_per_class(found, wanted, classes, ignore), class_frequencies(wanted, classes, ignore)
    weights = 1 / frequency[frequency > 0]
    return float(iou[frequency > 0] @ weights / weights.sum())


def _confusion(found: npt.ArrayLike, wanted: npt.ArrayLike, classes: int, ignore: int | None) -> npt.NDArray[np.int64]:
    """Pixels by (wanted, found) class, shape (classes, classes)."""
    labels, predicted = (array.reshape(-1) for array in pair(wanted, found))
    if ignore is not None:
        labels, predicted = labels[labels != ignore], predicted[labels != ignore]
    if not len(labels):
        raise FormatError("wanted must hold at least one labelled pixel, got none; give other images")
    for name, array in (("wanted", labels), ("found", predicted)):
        if array.dtype.kind not in "iu" or not (0 <= array.min() and array.max() < classes):
            raise FormatError(
                f"{name} must hold integer classes 0 to {classes - 1}, got {array.dtype} from {array.min()} to "
                f"{array.max()}; name the class of unlabelled pixels with ignore"
            )
    pairs = np.bincount(labels.astype(np.int64) * classes + predicted, minlength=classes**2)
    return pairs.reshape(classes, classes)
