# SPDX-License-Identifier: Apache-2.0
"""By how much a rewrite moved the function of a network, on given images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from bitward.errors import ModelError

AT_ONCE = 32  # images


@dataclass(frozen=True)
class Drift:
    """The largest difference of a score, the largest score, and how many decisions (of images or pixels) changed."""

    largest_difference: float
    largest_score: float
    changed_decisions: int
    decisions: int

    @property
    def relative(self) -> float:
        """The largest difference over the largest score; 0 where both are."""
        return self.largest_difference / self.largest_score if self.largest_difference else 0.0


@torch.inference_mode()
def drift(before: nn.Module, after: nn.Module, images: npt.NDArray[Any]) -> Drift:
    """The drift from `before` to `after` on images as both take them, in evaluation mode, each on its own device.

    A decision is the largest of the scores along axis 1. A score that is not finite in one of them alone, or differs
    in kind, makes the largest difference infinite. ModelError where they give scores of different shapes.
    """
    largest = most = 0.0
    changed = decisions = 0
    for start in range(0, len(images), AT_ONCE):
        some = np.asarray(images[start : start + AT_ONCE], dtype=np.float32)
        left, right = _scores(before, some), _scores(after, some)
        if left.shape != right.shape:
            raise ModelError(f"networks must give scores of one shape, got {left.shape} and {right.shape}: compare two")
        with np.errstate(invalid="ignore"):
            difference = np.where((left == right) | (np.isnan(left) & np.isnan(right)), 0.0, np.abs(left - right))
        largest = max(largest, float(np.max(np.where(np.isnan(difference), np.inf, difference))))
        most = max(most, float(np.max(np.abs(left))))
        changed += int(np.sum(left.argmax(axis=1) != right.argmax(axis=1)))
        decisions += left[:, 0].size
    return Drift(largest, most, changed, decisions)


def _scores(network: nn.Module, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    was_training, device = network.training, next(network.parameters()).device
    try:
        scores: torch.Tensor = network.eval()(torch.from_numpy(images).to(device))
    finally:
        network.train(was_training)
    return scores.cpu().double().numpy()
