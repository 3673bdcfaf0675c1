# SPDX-License-Identifier: Apache-2.0
"""One training of one seed: from an untrained network to weights, a measured accuracy and the seconds it took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import Progress
from torch import nn

from bitward.datasets import Dataset
from bitward.train import _checkpoints
from bitward.train._loop import Loop
from bitward.train.recipe import Recipe, TrainResult

PREDICTED_AT_ONCE = 500  # images
FLOAT_WEIGHT_DECAY, MOMENTUM = 5e-4, 0.9
Prepare = Callable[[npt.NDArray[Any]], npt.NDArray[np.float32]]


class Ticks:
    """One step of a progress bar per call; nothing when there is no bar."""

    def __init__(self, progress: Progress | None, task: int | None) -> None:
        self._progress, self._task = progress, task

    def __call__(self, count: int = 1) -> None:
        if self._progress and self._task is not None:
            self._progress.advance(self._task, count)  # type: ignore[arg-type]


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside, torch adds on one CPU thread: the fastest at small sizes, and sums do not depend on the machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def pixels(images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """The images as they are, as floats: what networks take that scale pixels themselves."""
    return images.astype(np.float32, copy=False)


def float_loop(
    build: Callable[[], nn.Module], dataset: Dataset, recipe: Recipe, seed: int, *, prepare: Prepare = pixels,
    after_step: Callable[[nn.Module], Callable[[], None]] | None = None, device: str = "cpu",
) -> Loop:  # fmt: skip
    """The training of a float network as the recipe's float stage says, its weights drawn from `seed`."""
    torch.manual_seed(seed)
    model = build().to(memory_format=torch.channels_last).to(device)  # type: ignore[call-overload]
    return Loop(
        model, dataset, partial(_float_optimizer, recipe=recipe), recipe.float_learning_rate, recipe.float_epochs,
        recipe.batch_size, seed, recipe.augment, recipe.bfloat16, after_step(model) if after_step else lambda: None,
        prepare,
    )  # fmt: skip


def _float_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    rate = recipe.float_learning_rate
    if recipe.float_optimizer == "adam":
        return torch.optim.Adam(model.parameters(), lr=rate)
    return torch.optim.SGD(
        model.parameters(), lr=rate, momentum=MOMENTUM, nesterov=True, weight_decay=FLOAT_WEIGHT_DECAY
    )


def finish(loop: Loop, name: str, print_: str, cache: Path | None, tick: Callable[[], None]) -> TrainResult:
    """The loop has run (on from where it was, if it was cut off), and its network is tested; not yet in the cache."""
    start = time.perf_counter()
    memo = _checkpoints.Unfinished(cache, name, loop.seed, print_) if cache else None
    loop.run(tick, memo)
    found = accuracy(loop.model, loop.dataset.test_images, loop.dataset.test_labels, loop.prepare)
    state = {key: tensor.detach().cpu().clone().contiguous() for key, tensor in loop.model.state_dict().items()}
    if memo:
        memo.remove()
    return TrainResult(name, loop.seed, found, time.perf_counter() - start, print_, cached=False, state=state)


def predict(model: nn.Module, images: npt.NDArray[np.float32], prepare: Prepare = pixels) -> npt.NDArray[np.float32]:
    """The network's outputs, one row (or map) per image, in evaluation mode, on the device where it is."""
    model.eval()
    device = next(model.parameters()).device
    outputs = []
    with torch.no_grad():
        for start in range(0, len(images), PREDICTED_AT_ONCE):
            part = torch.from_numpy(prepare(images[start : start + PREDICTED_AT_ONCE]))
            outputs.append(model(part.to(device)).cpu())
    array: npt.NDArray[np.float32] = torch.cat(outputs).numpy()
    return array


def accuracy(
    model: nn.Module, images: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], prepare: Prepare = pixels
) -> float:
    """The share of images (of pixels, where these are labelled) whose largest output is the label's, 0 to 1."""
    return float(np.mean(predict(model, images, prepare).argmax(axis=1) == labels))
