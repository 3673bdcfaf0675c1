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

from bitward import networks
from bitward.datasets import Dataset
from bitward.networks import Network
from bitward.tools import atomic_write, output_directory
from bitward.train.recipe import Recipe, TrainResult

SAVED = ("accuracy", "train_s", "fingerprint", "state", "float_accuracy")


def fingerprint(network: Network, dataset: Dataset, recipe: Recipe, seed: int) -> str:
    """sha256 over all that decides a trained seed: data, recipe, seed, library versions, code of network and loop."""
    source = find_source(f"{network.name}.py")
    return _digest(network.name, dataset, _told(recipe), seed, source)


def float_fingerprint(network: Network, dataset: Dataset, recipe: Recipe, seed: int) -> str:
    """The same for the float network of a family, which all its members share: nothing of one member is in it."""
    told = _told(replace(recipe, epochs=Recipe.epochs, learning_rate=Recipe.learning_rate))
    module: str = getattr(network.build_float, "func", network.build_float).__module__
    return _digest(network.family, dataset, told, seed, find_source(f"{module.rpartition('.')[2]}.py"))


def _told(recipe: Recipe) -> dict[str, Any]:
    """What a recipe says other than the defaults: a new field that is not used changes no fingerprint."""
    return {field.name: value for field in fields(recipe) if (value := getattr(recipe, field.name)) != field.default}


def find_source(name: str) -> Path:
    """A file of bitward.networks."""
    return Path(networks.__file__).parent / name


def _digest(name: str, dataset: Dataset, told: dict[str, Any], seed: int, network_source: Path) -> str:
    here = Path(__file__).parent
    sources = [*_with_imports(network_source), *(here / file for file in ("training.py", "_loop.py", "_foldable.py"))]
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
    """A file of bitward.networks and those of its private neighbours that it imports, directly or not."""
    found, left = [path], [path]
    while left:
        for name in re.findall(r"^from bitward\.networks\.(_\w+) import", left.pop().read_text(encoding="utf-8"), re.M):
            if (other := find_source(f"{name}.py")) not in found:
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
    known = {name: saved[name] for name in SAVED}
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
        saved: dict[str, Any] = torch.load(path, weights_only=True)
    except (RuntimeError, EOFError, UnpicklingError):  # damaged: trained again, and written anew
        return None
    return saved if saved["fingerprint"] == print_ else None


def _write(path: Path, facts: dict[str, Any]) -> None:
    data = io.BytesIO()  # torch's own writer calls a full disk a RuntimeError
    torch.save(facts, data)
    atomic_write(path, data.getvalue())
