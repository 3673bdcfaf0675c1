# SPDX-License-Identifier: Apache-2.0
"""A torch network of the user's own becomes a QONNX: one of Brevitas as it is, a plain one quantized on the way.

The graph begins at raw pixels, integers as the hardware takes them; what the network wants instead (pixels as 0 to 1,
normalised) is its first operations.
"""

from __future__ import annotations

import copy
import hashlib
import importlib
import importlib.util
import io
import json
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.machinery import SourceFileLoader
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from brevitas.nn.mixin.base import QuantLayerMixin
from qonnx.core.modelwrapper import ModelWrapper
from torch import nn

from bitward.classic import load_weights
from bitward.datasets import Dataset
from bitward.errors import ConfigError, ModelError
from bitward.qonnx_ops.execute import execute_images
from bitward.rewrites import find_layers, name_layers
from bitward.train._checkpoints import Unfinished
from bitward.train._loop import Loop
from bitward.train._own_graph import quantized, traced
from bitward.train._pixels import by_labels, tested
from bitward.train._ptq import calibrate, correct_biases, some_images
from bitward.train._stage import one_thread, pixels, predict
from bitward.train.export import COMPARED, qonnx_of
from bitward.train.own_recipe import Own
from bitward.train.recipe import Recipe

BATCH, LEARNING_RATE = 100, 1e-3  # of fine-tuning
KNOWN_BY = 32  # images, whose answers tell a network from another
SAME = 0.99  # of decisions; below, it is another network
SOFTMAX = (nn.Softmax, nn.LogSoftmax)


@dataclass(frozen=True, eq=False)
class Adopted:
    """The network as a QONNX, how good it is on the test images, and what was done, in words.

    `float_accuracy` is None where the network was quantized already; `same` is the share of decisions, on `compared`
    test images, that are alike in the file and in torch (other scales than bitward's own are rounded differently).
    """

    model: ModelWrapper
    accuracy: float
    float_accuracy: float | None
    same: float
    compared: int
    steps: tuple[str, ...] = field(default=())


class FromPixels(nn.Module):
    """The network, of raw pixels."""

    def __init__(self, network: nn.Module, factor: npt.NDArray[Any], shift: npt.NDArray[Any]) -> None:
        super().__init__()
        self.network = network
        self.factor: torch.Tensor
        self.shift: torch.Tensor
        self.register_buffer("factor", torch.from_numpy(factor.astype(np.float32)))
        self.register_buffer("shift", torch.from_numpy(shift.astype(np.float32)))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(n, channels, height, width) pixels to whatever the network gives."""
        scores: torch.Tensor = self.network(image * self.factor - self.shift)
        return scores


def build_own(source: str) -> nn.Module:
    """What the user's function returns, untrained. ConfigError: no such file or function, or it gives no network."""
    place, _, function = source.rpartition(":")
    if not place or not function.isidentifier():
        raise ConfigError(f"a network must be given as FILE.py:FUNCTION or MODULE:FUNCTION, got {source!r}: mend it")
    found = getattr(_module(place), function, None)
    if not callable(found):
        raise ConfigError(f"{place} must have a function {function}, got none: name the one that builds the network")
    try:
        network = found()
    except Exception as error:  # the user's own code
        raise ConfigError(
            f"{source} must return a network, got {type(error).__name__}: {error}; call it by itself"
        ) from (error)
    if not isinstance(network, nn.Module):
        raise ConfigError(f"{source} must return a torch.nn.Module, got {type(network).__name__}: return the network")
    return network


def _module(place: str) -> Any:
    path = Path(place)
    if path.suffix != ".py":
        try:
            return importlib.import_module(place)
        except ImportError as error:
            raise ConfigError(f"{place} must be a module that can be imported, got: {error}; or name a .py file") from (
                error
            )
    if not path.is_file():
        raise ConfigError(f"{place} must be a Python file, got none there: name the file that builds the network")
    name = f"bitward_own_{path.stem}"
    loader = SourceFileLoader(name, str(path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))  # type: ignore[arg-type]
    sys.modules[name] = module
    sys.path.insert(0, str(path.parent.resolve()))  # its neighbours are found as python finds them
    try:
        loader.exec_module(module)
    except Exception as error:  # the user's own code
        raise ConfigError(
            f"{place} must run as Python, got {type(error).__name__}: {error}; run it by itself"
        ) from error
    finally:
        sys.path.pop(0)
    return module


def adopt(
    own: Own, dataset: Dataset, name: str, tick: Callable[[], None] = lambda: None, keep: Path | None = None
) -> Adopted:
    """The user's network, tested on the dataset and as a QONNX that answers as torch does.

    A plain network is quantized: batch norms into layers, then, with training images and by Brevitas, activations
    calibrated and biases corrected; then trained for `epochs`, each of which calls `tick`. With a folder to `keep` its
    state in, a training that was cut off goes on from there; whoever calls removes what is left in it. ConfigError,
    ModelError: what is wrong with the network, its weights or what it takes.
    """
    with warnings.catch_warnings(), one_thread():
        warnings.simplefilter("ignore")  # Brevitas and the exporter warn of what does not concern users
        torch.manual_seed(own.seed)
        network = build_own(own.source)
        if own.weights is not None:
            load_weights(network, own.weights, translate=False)
        factor, shift = _scaling(own, dataset)
        whole = FromPixels(network.eval(), factor, shift).eval()
        _check_takes(whole, dataset, own)
        found, steps = None, ["quantized by its author, in Brevitas: taken as it is"]
        if not any(isinstance(module, QuantLayerMixin) for module in network.modules()):
            found, _ = tested(whole, dataset)
            whole, steps = _quantized(own, whole, dataset)
        if own.epochs:
            memo = Unfinished(keep, name, own.seed, _fingerprint(own, whole, dataset)) if keep else None
            steps.append(_trained(own, whole, dataset, tick, memo))
        return _exported(whole, dataset, name, found, steps)


def _scaling(own: Own, dataset: Dataset) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """(factor, shift) of pixels, by channel or for all."""
    if own.raw:
        return np.ones(()), np.zeros(())
    channels = dataset.image_shape[0]
    for what, values in (("mean", own.mean), ("deviation", own.deviation)):
        if len(values) not in (1, channels):
            raise ConfigError(f"{what} must have 1 or {channels} values, one a channel, got {len(values)}: mend it")
    if min(own.deviation) <= 0:
        raise ConfigError(f"deviation must be above 0, got {min(own.deviation):g}: it is what pixels are divided by")
    mean, deviation = (np.array(each).reshape(1, -1, 1, 1) for each in (own.mean, own.deviation))
    return 1 / ((2**dataset.pixel_bits - 1) * deviation), mean / deviation


def _check_takes(whole: nn.Module, dataset: Dataset, own: Own) -> None:
    image = torch.from_numpy(pixels(dataset.test_images[:1]))
    try:
        scores = predict(whole, dataset.test_images[:1])
    except Exception as error:  # the user's own code
        raise ModelError(
            f"{own.source} must take images of {'x'.join(map(str, image.shape[1:]))}, as {dataset.name} has, got "
            f"{type(error).__name__}: {error}; name another dataset, or mend the network"
        ) from error
    wanted = (dataset.classes,) + (() if dataset.labelled == "image" else dataset.image_shape[1:])
    if scores.shape[1:] != wanted:
        raise ModelError(
            f"{own.source} must give {'x'.join(map(str, wanted))} scores an image, as {dataset.name} has classes, got "
            f"{'x'.join(map(str, scores.shape[1:]))}: name another dataset, or mend its last layer"
        )


def _quantized(own: Own, whole: FromPixels, dataset: Dataset) -> tuple[FromPixels, list[str]]:
    images = some_images(dataset, own.seed)
    floats: nn.Module = copy.deepcopy(whole.network)
    steps = [f"softmax at the end left to the host: {gone}" for gone in _without_softmax(floats)]
    graph = traced(floats, own.source)
    prepared = [batch * whole.factor - whole.shift for batch in images]
    count = quantized(graph, own.bits, prepared)
    calibrate(graph, prepared)
    corrected = len(correct_biases(graph, prepared))
    used = sum(len(batch) for batch in images)
    steps += [
        "batch norms merged into the layers before them",
        f"weights of {own.bits.weights} bits, a scale per output channel; {count} quantizers of activations of "
        f"{own.bits.activations} bits ({own.bits.input} of the input), calibrated with {used} training images",
        f"biases of {corrected} layers corrected",
    ]
    made = FromPixels(graph, whole.factor.numpy(), whole.shift.numpy())
    return made.eval(), steps


def _without_softmax(network: nn.Module) -> list[str]:
    """A softmax in the last place is gone, which changes no decision; its name."""
    names = [name for name, module in network.named_modules() if isinstance(module, SOFTMAX)]
    last = [name for name, _ in network.named_modules()][-1]
    if names != [last]:
        return []
    parent, _, own = last.rpartition(".")
    setattr(network.get_submodule(parent), own, nn.Identity())
    return names


def _fingerprint(own: Own, whole: nn.Module, dataset: Dataset) -> str:
    """sha256 over what its training begins with: the network, by its weights and its answers, the data, the epochs."""
    state = io.BytesIO()
    torch.save(whole.state_dict(), state)
    facts = {
        "network": str(whole),
        "state": hashlib.sha256(state.getvalue()).hexdigest(),
        "answers": hashlib.sha256(predict(whole, dataset.test_images[:KNOWN_BY]).tobytes()).hexdigest(),
        "dataset": dataset.digest,
        "epochs": own.epochs,
        "versions": [version(package) for package in ("torch", "brevitas")],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _trained(own: Own, whole: nn.Module, dataset: Dataset, tick: Callable[[], None], memo: Unfinished | None) -> str:
    loop = Loop(
        whole, dataset, lambda model: torch.optim.Adam(model.parameters(), lr=LEARNING_RATE), LEARNING_RATE, own.epochs,
        BATCH, own.seed, augment=False, bfloat16=False, after_step=lambda: None, prepare=pixels,
    )  # fmt: skip
    by_labels(loop, Recipe()).run(tick, memo)
    return f"trained for {own.epochs} epochs with quantization, Adam, learning rate up to {LEARNING_RATE:g}"


def _exported(whole: nn.Module, dataset: Dataset, name: str, float_accuracy: float | None, steps: list[str]) -> Adopted:
    model = qonnx_of(whole, name, dataset.image_shape, dataset.pixel_bits)
    name_layers(model, [layer.removeprefix("network.") for layer in find_layers(model)])
    expected = predict(whole, dataset.test_images[:COMPARED])
    found = execute_images(model, dataset.test_images[:COMPARED])
    same = (expected.argmax(axis=1) == found.argmax(axis=1)).reshape(len(found), -1).mean(axis=1)
    if same.mean() < SAME:
        raise ModelError(
            f"{name} must decide as QONNX as it does in torch, got the same decisions on {same.mean():.1%} of "
            f"{len(same)} test images: leave out what the exporter of torch cannot express"
        )
    return Adopted(model, tested(whole, dataset)[0], float_accuracy, float(same.mean()), len(same), tuple(steps))
