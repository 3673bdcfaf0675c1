# SPDX-License-Identifier: Apache-2.0
"""A network that labels pixels as a target: each pixel is a decision of its own, and what changes is counted by pixel.

The papers' error rate is the share of pixels, over all test images, whose class a fault changes (section 4). A pixel
that has a score that is no number has no class: it has changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from bitward.faults import Trial
from bitward.targets import Outcome
from bitward.targets.torch import TorchTarget

TIE = 2e-6  # of the largest score but one of a pixel: two scores so close may change places by rounding alone
Classes = npt.NDArray[np.int64]


class PixelTarget(TorchTarget):
    """Outputs are (images * height * width, classes + 1): 1 at the class of each pixel, in the last column for none.

    Images and pixels lie in C order. Rows of a campaign then count pixels. Where a fault makes the class of a pixel
    another one by less than rounding, the trial is computed by the whole network (not so where values are whole
    numbers or quantized: there the engine's sums are the network's).
    """

    chunk_trials = 256

    def infer(self, images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        scores = super().infer(images)
        return one_hot(classes_of(scores), scores.shape[1])

    def outcomes(self, images: npt.NDArray[Any], trials: Sequence[Trial]) -> Iterator[Outcome]:
        golden = classes_of(super().infer(images))
        for trial, outcome in zip(trials, super().outcomes(images, trials), strict=True):
            scores, path = outcome.outputs, outcome.path
            found = classes_of(scores)
            is_rounded = path not in ("masked", "again") and self.engine.program.is_continuous
            if is_rounded and _is_close(scores, found != golden):
                scores, path = self._whole(images, trial), "again"
                found = classes_of(scores)
            yield replace(outcome, outputs=one_hot(found, scores.shape[1]), path=path)

    def _whole(self, images: npt.NDArray[Any], trial: Trial) -> npt.NDArray[np.float32]:
        """The scores under the faults of a trial, by the network itself."""
        self.engine.inject(trial)
        try:
            return self.engine.infer(images)
        finally:
            self.engine.restore()


def classes_of(scores: npt.NDArray[Any]) -> Classes:
    """The class of every pixel, (n, height, width), of scores (n, classes, height, width); -1 where one is NaN.

    >>> classes_of(np.array([[1.0, 2.0], [3.0, np.nan]]).reshape(1, 2, 1, 2)).tolist()
    [[[1, -1]]]
    """
    best = scores[:, 0].copy()
    found = np.zeros(best.shape, np.int64)
    for label in range(1, scores.shape[1]):  # argmax along a middle axis takes ten times as long
        is_better = scores[:, label] > best
        np.copyto(best, scores[:, label], where=is_better)
        found[is_better] = label
    found[np.isnan(scores).any(axis=1)] = -1
    return found


def one_hot(found: Classes, classes: int) -> npt.NDArray[np.float32]:
    """(pixels, classes + 1): 1 at the class of each, at the last for -1."""
    flat = found.reshape(-1)
    made = np.zeros((len(flat), classes + 1), np.float32)
    made[np.arange(len(flat)), flat] = 1  # -1 is the last column
    return made


def _is_close(scores: npt.NDArray[Any], changed: npt.NDArray[np.bool_]) -> bool:
    """Are there changed pixels whose two highest scores rounding could exchange?"""
    if not changed.any():
        return False
    of_pixels = np.moveaxis(scores, 1, -1)[changed]
    second, first = np.partition(of_pixels, -2, axis=-1)[:, -2:].T
    size = np.partition(np.abs(of_pixels), -2, axis=-1)[:, -2]
    with np.errstate(invalid="ignore"):
        return bool(np.any(np.isfinite(first) & (first - second <= TIE * size)))
