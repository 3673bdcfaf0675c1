# SPDX-License-Identifier: Apache-2.0
"""Finished seeds on disk: a file each, found again by the fingerprint of everything that made it."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from pickle import UnpicklingError

import torch

from bitward import networks
from bitward.datasets import Dataset
from bitward.networks import Network
from bitward.tools import atomic_write, output_directory
from bitward.train.recipe import Recipe, TrainResult


def fingerprint(network: Network, dataset: Dataset, recipe: Recipe, seed: int) -> str:
    """sha256 over all that decides a trained seed: data, recipe, seed, library versions, source of network and loop."""
    here = Path(__file__).parent
    there = Path(networks.__file__).parent
    sources = (there / f"{network.name}.py", there / "_blocks.py", here / "training.py", here / "_foldable.py")
    facts = {
        "network": network.name,
        "dataset": dataset.digest,
        "recipe": asdict(recipe),
        "seed": seed,
        "versions": {name: version(name) for name in ("torch", "brevitas")},
        "sources": [hashlib.sha256(path.read_bytes()).hexdigest() for path in sources],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _path(cache: Path, network: str, seed: int, print_: str) -> Path:
    return cache / f"{network}-seed{seed}-{print_[:16]}.pt"


def find(cache: Path | None, network: str, seed: int, print_: str) -> TrainResult | None:
    """The finished seed of that fingerprint, None when the cache has none."""
    if cache is None or not (path := _path(cache, network, seed, print_)).is_file():
        return None
    try:
        saved = torch.load(path, weights_only=True)
    except (RuntimeError, EOFError, UnpicklingError):  # damaged: trained again, and written anew
        return None
    if saved["fingerprint"] != print_:
        return None
    return TrainResult(network, seed, saved["accuracy"], saved["train_s"], print_, cached=True, state=saved["state"])


def keep(cache: Path | None, result: TrainResult) -> None:
    """The finished seed is in the cache, whole; OutputError when it cannot be written."""
    if cache is None:
        return
    path = _path(output_directory(cache), result.network, result.seed, result.fingerprint)
    facts = {name: getattr(result, name) for name in ("accuracy", "train_s", "fingerprint", "state")}
    data = io.BytesIO()  # torch's own writer calls a full disk a RuntimeError
    torch.save(facts, data)
    atomic_write(path, data.getvalue())
