# SPDX-License-Identifier: Apache-2.0
"""Finished seeds on disk: a file each, found again by the fingerprint of everything that made it."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import re
from dataclasses import fields, replace
from importlib.metadata import version
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from bitward import classic, networks
from bitward.datasets import Dataset
from bitward.networks import Network
from bitward.tools import atomic_write, output_directory
from bitward.train.recipe import Recipe, TrainResult

DECISIVE = ("_loop.py", "_stage.py")  # of this folder; for quantized networks QUANTIZED too
QUANTIZED, PTQ = ("training.py", "_foldable.py"), ("_ptq.py",)
PIXELS = ("_segmentation.py",)
SAVED = ("accuracy", "train_s", "fingerprint", "state", "float_accuracy", "steps", "scores")


def fingerprint(network: Network, dataset: Dataset, recipe: Recipe, seed: int) -> str:
    """sha256 over all that decides a trained seed: data, recipe, seed, library versions, code of network and loop."""
    source = find_source(f"{network.name}.py")
    if recipe.method == "ptq":
        return _digest(network.name, dataset, _told(_float_part(recipe)), seed, source, DECISIVE + QUANTIZED + PTQ)
    return _digest(network.name, dataset, _told(recipe), seed, source, DECISIVE + QUANTIZED)


def float_fingerprint(network: Network, dataset: Dataset, recipe: Recipe, seed: int) -> str:
    """The same for the float network of a family, which all its members share: nothing of one member is in it."""
    told = _told(replace(_float_part(recipe), method=Recipe.method))
    module: str = getattr(network.build_float, "func", network.build_float).__module__
    source = find_source(f"{module.rpartition('.')[2]}.py")
    return _digest(network.family, dataset, told, seed, source, DECISIVE + QUANTIZED)


def classic_fingerprint(name: str, width: float, dataset: Dataset, recipe: Recipe, seed: int, device: str) -> str:
    """The same for a classic float network: its file, its width, and the kind of device that adds its sums."""
    normalised = {"mean": dataset.mean, "deviation": dataset.deviation}
    facts = {"width": width, "device": device, **normalised, **_told(recipe)}
    decisive: tuple[str, ...] = DECISIVE
    if dataset.labelled == "pixel":
        facts, decisive = facts | {"ignore": dataset.ignore}, DECISIVE + PIXELS
    return _digest(name, dataset, facts, seed, Path(classic.__file__).parent / f"{name}.py", decisive)


def file_fingerprint(name: str, width: float, dataset: Dataset, weights: Path) -> str:
    """sha256 over all that decides how good a classic network with the weights in that file is."""
    facts = {"name": name, "width": width, "dataset": dataset.digest, "torch": version("torch")}
    facts |= {"mean": dataset.mean, "deviation": dataset.deviation}
    facts |= {"ignore": dataset.ignore} if dataset.labelled == "pixel" else {}
    facts["weights"] = hashlib.sha256(weights.read_bytes()).hexdigest()
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _float_part(recipe: Recipe) -> Recipe:
    """The recipe without what only quantization-aware training reads."""
    return replace(recipe, epochs=Recipe.epochs, learning_rate=Recipe.learning_rate)


def _told(recipe: Recipe) -> dict[str, Any]:
    """What a recipe says other than the defaults: a new field that is not used changes no fingerprint."""
    return {field.name: value for field in fields(recipe) if (value := getattr(recipe, field.name)) != field.default}


def find_source(name: str) -> Path:
    """A file of bitward.networks."""
    return Path(networks.__file__).parent / name


def _digest(
    name: str, dataset: Dataset, told: dict[str, Any], seed: int, network_source: Path, decisive: tuple[str, ...]
) -> str:
    here = Path(__file__).parent
    sources = [*_with_imports(network_source), *(here / file for file in decisive)]
    facts = {
        "network": name,
        "dataset": dataset.digest,
        "recipe": told,
        "seed": seed,
        "versions": {package: version(package) for package in ("torch", "brevitas")},
        "sources": {path.name: _code(path) for path in sources},
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _with_imports(path: Path) -> list[Path]:
    """A file of bitward.networks or bitward.classic and those of its private neighbours that it imports, directly or
    not.
    """
    found, left = [path], [path]
    neighbours = rf"^from bitward\.{path.parent.name}\.(_\w+) import"
    while left:
        for name in re.findall(neighbours, left.pop().read_text(encoding="utf-8"), re.M):
            if (other := path.parent / f"{name}.py") not in found:
                found.append(other)
                left.append(other)
    return found


def _code(path: Path) -> str:
    """sha256 of what a Python file does: comments, docstrings and line breaks may change."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            documented = (ast.FunctionDef, ast.ClassDef, ast.Module)
            said = isinstance(node, documented) and ast.get_docstring(node) is not None
            node.body = body[1:] if said else body  # type: ignore[attr-defined]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def _path(cache: Path, network: str, seed: int, print_: str) -> Path:
    return cache / f"{network}-seed{seed}-{print_[:16]}.pt"


def find(cache: Path | None, network: str, seed: int, print_: str) -> TrainResult | None:
    """The finished seed of that fingerprint, None when the cache has none."""
    saved = _read(_path(cache, network, seed, print_), print_) if cache else None
    if saved is None:
        return None
    known = {name: saved[name] for name in SAVED if name in saved}  # "steps" and "scores" are newer than some caches
    return TrainResult(network=network, seed=seed, cached=True, **known)


def keep(cache: Path | None, result: TrainResult) -> None:
    """The finished seed is in the cache, whole; OutputError when it cannot be written."""
    if cache is not None:
        path = _path(output_directory(cache), result.network, result.seed, result.fingerprint)
        _write(path, {name: getattr(result, name) for name in SAVED})


class Unfinished:
    """Where a training that is under way keeps its state, so that it goes on from there after kill -9."""

    def __init__(self, cache: Path, network: str, seed: int, print_: str) -> None:
        self._cache, self._print = cache, print_
        self._path = _path(cache, network, seed, print_).with_suffix(".unfinished")

    def load(self) -> dict[str, Any] | None:
        """What was saved last; None when nothing was, or nothing whole."""
        return _read(self._path, self._print)

    def save(self, state: dict[str, Any]) -> None:
        """The state is on disk in place of what was saved before; OutputError when it cannot be written."""
        output_directory(self._cache)
        _write(self._path, {**state, "fingerprint": self._print})

    def remove(self) -> None:
        """Nothing is left of it."""
        self._path.unlink(missing_ok=True)


def _read(path: Path, print_: str) -> dict[str, Any] | None:
    """The facts in a file, None when there is none, when it is damaged, or when it has another fingerprint."""
    if not path.is_file():
        return None
    try:
        saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, UnpicklingError):  # damaged: trained again, and written anew
        return None
    return saved if saved["fingerprint"] == print_ else None


def _write(path: Path, facts: dict[str, Any]) -> None:
    data = io.BytesIO()  # torch's own writer calls a full disk a RuntimeError
    torch.save(facts, data)
    atomic_write(path, data.getvalue())
