# SPDX-License-Identifier: Apache-2.0
"""Epochs over a training set: batches in a seeded order, one optimizer, one schedule, and going on after a kill."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from bitward.datasets import Dataset

SHIFT = 4  # pixels, on every side
SETTLED_STEPS = 300  # until then, scales of activations come from statistics that a state_dict does not hold
SAVE_EVERY_S = 30.0
EPOCH_SEED = 1_000_003  # so far apart are the seeds of two epochs


class Memo(Protocol):
    """Where a training that was cut off left its state."""

    def load(self) -> dict[str, Any] | None:
        """What was saved last, None when nothing was."""

    def save(self, state: dict[str, Any]) -> None:
        """The state is kept in place of what was saved before."""


@dataclass
class Loop:
    """One training: `epochs` epochs of `model`, on the device where it is, on `dataset`.

    `after_step` runs after every step of the optimizer; `prepare` makes of a batch of pixels what the network takes.
    """

    model: nn.Module
    dataset: Dataset
    make_optimizer: Callable[[nn.Module], torch.optim.Optimizer]
    peak: float
    epochs: int
    batch_size: int
    seed: int
    augment: bool
    bfloat16: bool
    after_step: Callable[[], None]
    prepare: Callable[[npt.NDArray[Any]], npt.NDArray[np.float32]]

    def run(self, tick: Callable[[], None], memo: Memo | None = None) -> None:
        """The model is trained, in evaluation mode; `tick` was called after every epoch."""
        images, labels = torch.from_numpy(self.dataset.train_images), torch.from_numpy(self.dataset.train_labels)
        batches = _Batches(images, labels, self.batch_size, self.seed, self.augment)
        saved = memo.load() if memo else None
        if saved is not None:  # before the optimizer: loading makes new parameters of the quantizers' scales
            self.model.load_state_dict(saved["model"])
        optimizer = self.make_optimizer(self.model)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.peak, total_steps=self.epochs * batches.count)
        if saved is not None:
            optimizer.load_state_dict(saved["optimizer"])
            schedule.load_state_dict(saved["schedule"])
            batches.random.set_state(saved["random"])
        first, saved_s = int(saved["epoch"]) if saved else 0, time.monotonic()
        for _ in range(first):
            tick()
        self.model.train()
        for epoch in range(first, self.epochs):
            torch.manual_seed(self.seed + EPOCH_SEED * epoch)  # dropout draws alike after a kill
            for chosen, wanted in batches:
                self._step(optimizer, chosen, wanted)
                schedule.step()
                self.after_step()
            tick()
            done = epoch + 1
            if memo and done * batches.count > SETTLED_STEPS and time.monotonic() - saved_s > SAVE_EVERY_S:
                parts: dict[str, Any] = {"model": self.model, "optimizer": optimizer, "schedule": schedule}
                states = {name: part.state_dict() for name, part in parts.items()}
                memo.save({"epoch": done, "random": batches.random.get_state(), **states})
                saved_s = time.monotonic()
        self.model.eval()

    def _step(self, optimizer: torch.optim.Optimizer, images: torch.Tensor, labels: torch.Tensor) -> None:
        device = next(self.model.parameters()).device
        inputs = torch.from_numpy(self.prepare(images.numpy())).to(device)
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=self.bfloat16):
            outputs = self.model(inputs)
        nn.functional.cross_entropy(outputs.float(), labels.to(device)).backward()
        optimizer.step()


class _Batches:
    """Whole batches of an epoch in a random order, a new one each time; what an epoch has left over is skipped."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor, size: int, seed: int, augment: bool) -> None:
        self._images, self._labels, self._augment = images, labels, augment
        self._size = min(size, len(images))
        self.count = len(images) // self._size
        self.random = torch.Generator().manual_seed(seed)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        order = torch.randperm(len(self._images), generator=self.random)
        for chosen in order[: self.count * self._size].view(-1, self._size):
            images = self._images[chosen]
            if self._augment:
                images = shifted_and_flipped(images, self.random)
            yield images, self._labels[chosen]


def shifted_and_flipped(images: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Each image shifted by up to `SHIFT` pixels both ways (black comes in) and, every second one, flipped sideways."""
    count, channels, height, width = images.shape
    padded = nn.functional.pad(images, (SHIFT,) * 4)
    rows = torch.randint(0, 2 * SHIFT + 1, (count, 1), generator=random) + torch.arange(height)
    columns = torch.randint(0, 2 * SHIFT + 1, (count, 1), generator=random) + torch.arange(width)
    flipped = torch.rand(count, 1, generator=random) < 0.5
    columns = torch.where(flipped, columns.flip(1), columns)
    index = torch.arange(count)[:, None, None, None], torch.arange(channels)[:, None, None]
    return padded[(*index, rows[:, None, :, None], columns[:, None, None, :])]
