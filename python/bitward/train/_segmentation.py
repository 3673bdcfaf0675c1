# SPDX-License-Identifier: Apache-2.0
"""Training with a class per pixel: a loss that knows unlabelled pixels and rare classes, and how good maps are."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from bitward.datasets import Dataset, class_weights
from bitward.metrics import global_iou, iou_per_class, weighted_iou
from bitward.train import _checkpoints
from bitward.train._loop import Loop
from bitward.train._stage import Prepare
from bitward.train.recipe import Recipe, TrainResult

AT_ONCE_PIXELS = 1 << 17  # of images that go through a network together
NOTHING = -100  # torch's own label of what counts nothing


@dataclass
class PixelLoop(Loop):
    """A training whose loss is the cross-entropy of labelled pixels, by `weights` of their classes (none: alike)."""

    weights: torch.Tensor | None = None

    def _step(self, optimizer: torch.optim.Optimizer, images: torch.Tensor, labels: torch.Tensor) -> None:
        device = next(self.model.parameters()).device
        inputs = torch.from_numpy(self.prepare(images.numpy())).to(device)
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=self.bfloat16):
            outputs = self.model(inputs)
        weights = None if self.weights is None else self.weights.to(device)
        ignored = NOTHING if self.dataset.ignore is None else self.dataset.ignore
        if bool((labels != ignored).any()):  # of a batch without a labelled pixel the loss is 0/0
            loss = nn.functional.cross_entropy(outputs.float(), labels.to(device), weights, ignore_index=ignored)
            loss.backward()
            optimizer.step()


def pixel_loop(loop: Loop, recipe: Recipe) -> PixelLoop:
    """The training that `loop` is, with the loss of pixels; classes weighted where the recipe says so."""
    dataset = loop.dataset
    weights = None
    if recipe.class_weights:
        weights = torch.from_numpy(class_weights(dataset.train_labels, dataset.classes, dataset.ignore))
    return PixelLoop(**{field.name: getattr(loop, field.name) for field in fields(Loop)}, weights=weights)


def finish_pixels(loop: PixelLoop, name: str, print_: str, cache: Path, tick: Callable[[], None]) -> TrainResult:
    """The loop has run (on from where it was, if it was cut off), and its network is tested; not yet in the cache."""
    start = time.perf_counter()
    memo = _checkpoints.Unfinished(cache, name, loop.seed, print_)
    loop.run(tick, memo)
    scores = pixel_scores(loop.model, loop.dataset, loop.prepare)
    state = {key: tensor.detach().cpu().clone().contiguous() for key, tensor in loop.model.state_dict().items()}
    memo.remove()
    return TrainResult(
        name, loop.seed, scores["accuracy"], time.perf_counter() - start, print_, cached=False, state=state,
        scores=scores,
    )  # fmt: skip


def predicted_maps(model: nn.Module, images: npt.NDArray[np.float32], prepare: Prepare) -> npt.NDArray[np.int64]:
    """The class of every pixel, (n, height, width), in evaluation mode, on the device where the model is."""
    model.eval()
    device = next(model.parameters()).device
    at_once = max(1, AT_ONCE_PIXELS // (images.shape[-2] * images.shape[-1]))
    maps = []
    with torch.no_grad():
        for start in range(0, len(images), at_once):
            part = torch.from_numpy(prepare(images[start : start + at_once])).to(device)
            maps.append(model(part).argmax(dim=1).cpu())
    found: npt.NDArray[np.int64] = torch.cat(maps).numpy()
    return found


def pixel_scores(model: nn.Module, dataset: Dataset, prepare: Prepare) -> dict[str, float]:
    """How good the network is on the test images: shares of 1, over labelled pixels, of all images together.

    "accuracy", "global_iou" and "weighted_iou" (bitward.metrics says how they are weighted), and "iou CLASS" of each
    class that is not ignored; NaN for a class that is neither found nor wanted.
    """
    wanted, classes, ignore = dataset.test_labels, dataset.classes, dataset.ignore
    found = predicted_maps(model, dataset.test_images, prepare)
    counts = wanted != ignore if ignore is not None else np.ones(wanted.shape, bool)
    scores = {
        "accuracy": float(np.mean(found[counts] == wanted[counts])),
        "global_iou": global_iou(found, wanted, classes, ignore),
        "weighted_iou": weighted_iou(found, wanted, classes, ignore),
    }
    each = iou_per_class(found, wanted, classes, ignore)
    names = dataset.class_names or tuple(str(label) for label in range(dataset.classes))
    return scores | {f"iou {name}": float(each[label]) for label, name in enumerate(names) if label != ignore}
