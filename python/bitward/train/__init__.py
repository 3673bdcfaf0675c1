# SPDX-License-Identifier: Apache-2.0
"""Quantization-aware training by seed, and export to QONNX: `train_network`, then `export_network`.

Torch and Brevitas are imported by the modules below, not here: what only names these functions stays quick.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from bitward.train.recipe import Recipe, TrainingRun, TrainResult

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["DEFAULT_SEEDS", "Recipe", "TrainResult", "TrainingRun", "export_network", "train_network"]

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


def export_network(run: TrainingRun, directory: Path, data: Path | None = None) -> Path:
    """`directory` holds NAME.onnx, the cleaned QONNX of the run's first seed, and its card NAME.md; the ONNX path.

    `data` is where the dataset's images lie, if they are given by path.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Brevitas and the exporter warn of what does not concern these networks
        from bitward.train.export import export_run

        return export_run(run, directory, data)
