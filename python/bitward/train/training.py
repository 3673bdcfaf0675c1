# SPDX-License-Identifier: Apache-2.0
"""The training loop: quantization-aware from the first step, deterministic by seed, one CPU thread.

One thread is the fastest at these sizes and makes sums independent of the machine's core count.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import Progress
from torch import nn

from bitward.datasets import Dataset, load_dataset
from bitward.errors import ConfigError
from bitward.networks import Network, find_network
from bitward.train import _checkpoints
from bitward.train._foldable import keep_negatable, normed_layers
from bitward.train.recipe import Recipe, TrainingRun, TrainResult


def train_seeds(
    name: str, *, seeds: tuple[int, ...], recipe: Recipe, cache: Path | None, progress: Progress | None
) -> TrainingRun:
    """Every seed of the network is trained (or found in `cache`) and tested; seeds in the order given."""
    network = find_network(name)
    if not seeds or len(set(seeds)) != len(seeds):
        raise ConfigError(f"seeds must be at least one and all different, got {list(seeds)}; the first one is exported")
    dataset = load_dataset(network.dataset)
    task = progress.add_task(f"train {name}", total=len(seeds) * recipe.epochs) if progress else None
    results = []
    for seed in seeds:
        print_ = _checkpoints.fingerprint(network, dataset, recipe, seed)
        result = _checkpoints.find(cache, name, seed, print_)
        if result is None:
            result = _train_seed(network, dataset, recipe, seed, print_, _Ticks(progress, task))
            _checkpoints.keep(cache, result)
        elif progress and task is not None:
            progress.advance(task, recipe.epochs)
        results.append(result)
    return TrainingRun(name, dataset.name, recipe, tuple(results))


class _Ticks:
    """One step of a progress bar per call; nothing when there is no bar."""

    def __init__(self, progress: Progress | None, task: int | None) -> None:
        self._progress, self._task = progress, task

    def __call__(self) -> None:
        if self._progress and self._task is not None:
            self._progress.advance(self._task)  # type: ignore[arg-type]


def _train_seed(
    network: Network, dataset: Dataset, recipe: Recipe, seed: int, print_: str, tick: _Ticks
) -> TrainResult:
    start = time.perf_counter()
    with _one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = network.build()
        _fit(model, network, dataset, recipe, seed, tick)
        found = accuracy(model, dataset.test_images, dataset.test_labels)
    state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    return TrainResult(network.name, seed, found, time.perf_counter() - start, print_, cached=False, state=state)


def _fit(model: nn.Module, network: Network, dataset: Dataset, recipe: Recipe, seed: int, tick: _Ticks) -> None:
    """The model has seen `recipe.epochs` epochs of shuffled whole batches; what an epoch has left over is skipped."""
    images, labels = torch.from_numpy(dataset.train_images), torch.from_numpy(dataset.train_labels)
    order = torch.Generator().manual_seed(seed)
    batch = min(recipe.batch_size, len(images))
    batches = len(images) // batch
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, total_steps=recipe.epochs * batches)
    pairs = list(normed_layers(model))
    model.train()
    for _ in range(recipe.epochs):
        for chosen in torch.randperm(len(images), generator=order)[: batches * batch].view(-1, batch):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[chosen]), labels[chosen]).backward()
            optimizer.step()
            schedule.step()
            keep_negatable(pairs, network.weight_bits)
        tick()
    model.eval()


def restore(result: TrainResult) -> nn.Module:
    """The trained network, in evaluation mode."""
    model = find_network(result.network).build()
    model.load_state_dict(result.state)
    return model.eval()


def predict(model: nn.Module, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The network's outputs, shape (n, classes), in evaluation mode."""
    model.eval()
    with torch.no_grad():
        outputs = model(torch.from_numpy(images))
    array: npt.NDArray[np.float32] = outputs.numpy()
    return array


def accuracy(model: nn.Module, images: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> float:
    """The share of images whose largest output is the label's, 0 to 1."""
    return float(np.mean(predict(model, images).argmax(axis=1) == labels))


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
