# SPDX-License-Identifier: Apache-2.0
"""Training by seed: quantized networks and their export to QONNX (`train_network`, then `export_network`), and the
classic float ones (`train_classic`).

Torch and Brevitas are imported by the modules below, not here: what only names these functions stays quick.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from bitward.train.recipe import ClassicRun, Recipe, TrainingRun, TrainResult, recipe_of

if TYPE_CHECKING:
    from rich.progress import Progress

    from bitward.datasets import Dataset

__all__ = [
    "DEFAULT_SEEDS", "ClassicRun", "Recipe", "TrainResult", "TrainingRun", "export_network", "recipe_of",
    "train_classic", "train_network",
]  # fmt: skip

DEFAULT_SEEDS = (0, 1, 2, 3, 4)  # of the networks for digits


def train_network(
    network: str,
    *,
    seeds: tuple[int, ...] | None = None,
    recipe: Recipe | None = None,
    cache: Path | None = None,
    data: Path | None = None,
    progress: Progress | None = None,
) -> TrainingRun:
    """Every seed of the network is trained and tested; what `cache` holds of the same recipe is not trained again.

    Each finished seed is a file in `cache`, whole or absent, even after kill -9; one cut off after some minutes goes
    on where it was. Without `seeds` and `recipe`, the network's own; `data` is where its images lie, if they are
    given by path. ConfigError: no such network, no seed, no images.
    """
    from bitward.train.training import train_seeds

    return train_seeds(network, seeds=seeds, recipe=recipe, cache=cache, data=data, progress=progress)


def train_classic(
    name: str,
    dataset: str | Dataset,
    *,
    width: float = 1.0,
    seeds: tuple[int, ...] = (0,),
    cache: Path,
    data: Path | None = None,
    weights: Path | None = None,
    recipe: Recipe | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> ClassicRun:
    """Every seed of the classic float network (bitward.classic) is trained on the dataset and tested on its test split.

    `dataset` is a name, or a Dataset itself; `width` scales the channels. What `cache` holds of the same network,
    data and recipe is not trained again; finished seeds are whole there even after kill -9, and one cut off goes on
    where it was. With `weights`, a file that `load_weights` reads, nothing is trained: one result, of seed 0, its
    accuracy measured. `device` is auto (a GPU where torch has one), cpu or cuda. ConfigError: no such network or
    dataset, images too small for it, no seed, no such device; ModelError: weights of another network.
    """
    from bitward.train.classic import train_classic_seeds

    return train_classic_seeds(
        name, dataset, width=width, seeds=seeds, cache=cache, data=data, weights=weights, recipe=recipe, device=device,
        progress=progress,
    )  # fmt: skip


def export_network(run: TrainingRun, directory: Path, data: Path | None = None) -> Path:
    """`directory` holds NAME.onnx, the cleaned QONNX of the run's first seed, and its card NAME.md; the ONNX path.

    `data` is where the dataset's images lie, if they are given by path.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Brevitas and the exporter warn of what does not concern these networks
        from bitward.train.export import export_run

        return export_run(run, directory, data)
