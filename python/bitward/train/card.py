# SPDX-License-Identifier: Apache-2.0
"""Model cards, with the fields of the QONNX model zoo and what somebody needs to make the file again."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import numpy.typing as npt
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.util.basic import get_by_name

from bitward.datasets import Dataset
from bitward.metrics import mean_iou
from bitward.networks import Network
from bitward.rewrites import MAC_OPS, QuantizedWeights, find_layers, negative_scales, read_weights
from bitward.train.recipe import RECIPES, TrainingRun

OPTIMIZERS = {"adam": "Adam", "sgd": "SGD, Nesterov"}


@dataclass(frozen=True, eq=False)
class Answers:
    """Outputs over the first test images, torch's and the file's, and torch's over all of them."""

    torch: npt.NDArray[np.float32]
    file: npt.NDArray[np.float32]
    every: npt.NDArray[np.float32]

    def sentence(self) -> str:
        """How equal they are."""
        same = int(
            (self.torch.argmax(axis=1) == self.file.argmax(axis=1)).reshape(len(self.file), -1).all(axis=1).sum()
        )
        worst = float(abs(self.torch - self.file).max())
        outputs = "equal outputs, bit by bit" if worst == 0 else f"outputs within {worst:.2g}"
        return f"top-1 on {same} of {len(self.file)} test images; {outputs}"


def card(
    run: TrainingRun, network: Network, dataset: Dataset, model: ModelWrapper, data: bytes, answers: Answers
) -> str:
    """The Markdown text beside NAME.onnx, whose bytes are `data`."""
    weights = {name: read_weights(model, layer) for name, layer in find_layers(model).items()}
    rows = [
        ("Name", f"`{network.name}`: {network.title}"),
        *_quantization(network, model, weights),
        ("Dataset", f"{dataset.name}: {dataset.source}"),
        ("Split", dataset.split),
        *_accuracy(run, dataset, answers),
        ("Recipe", _recipe(run)),
        *([("Steps of quantization", "; ".join(run.exported.steps))] if run.exported.steps else []),
        ("Negative batch-norm gammas", _signs(model)),
        ("File equals torch", answers.sentence()),
        ("Made by", _commands(run, network, dataset)),
        ("Made with", ", ".join(f"{name} {version(name)}" for name in ("torch", "brevitas", "qonnx", "onnx"))),
        ("sha256", f"`{hashlib.sha256(data).hexdigest()}`"),
    ]
    table = "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])
    return f"# {network.name}\n\n{table}\n\n## Layers\n\n{_layers(weights)}\n"


def _quantization(network: Network, model: ModelWrapper, weights: dict[str, QuantizedWeights]) -> list[tuple[str, str]]:
    """What the graph itself says of its input, weights and activations."""
    source = model.graph.input[0].name
    input_type = model.get_tensor_datatype(source).name
    shape = "x".join(map(str, model.get_tensor_shape(source)))
    activations = _activations(model)
    then = "straight into the first layer" if _feeds_a_layer(model, source) else f"to {activations[0]}"
    kinds = ", ".join(f"{kind} ({count})" for kind, count in Counter(activations).items())
    notes = f"; {network.notes}" if network.notes else ""
    return [
        ("Input quantization", f"{input_type}, {shape} raw pixels; then times 2^-8 {then}"),
        ("Weight quantization", f"INT{network.weight_bits}, full range, {_scales(weights)}"),
        ("Activation quantization", f"{kinds}; one learned scale per tensor{notes}"),
        ("Output", "scores: integers times one scale; no bias"),
    ]


def _scales(weights: dict[str, QuantizedWeights]) -> str:
    whole = [f"`{name}`" for name, found in weights.items() if found.scale.size == 1]
    if len(whole) == len(weights):
        return "one scale per tensor"
    return "one scale per output channel" + (f", per tensor in {', '.join(whole)}" if whole else "")


def _feeds_a_layer(model: ModelWrapper, source: str) -> bool:
    scaled = model.find_consumers(source)[0].output[0]
    return model.find_consumers(scaled)[0].op_type in MAC_OPS


def _activations(model: ModelWrapper) -> list[str]:
    """The type of each quantizer of activations, in the graph's order."""
    found = []
    for node in model.graph.node:
        if node.op_type == "Quant" and model.get_initializer(node.input[0]) is None:
            signed = get_by_name(node.attribute, "signed").i
            found.append(f"{'INT' if signed else 'UINT'}{int(model.get_initializer(node.input[3]).item())}")
    return found


def _accuracy(run: TrainingRun, dataset: Dataset, answers: Answers) -> list[tuple[str, str]]:
    """How good the file is, and the other seeds; by pixel and by class where pixels are labelled."""
    what = "Top-1" if dataset.labelled == "image" else "Pixels right"
    exported = run.exported
    rows = [(f"{what} of this file", f"{exported.accuracy:.2%} (seed {exported.seed}, the first, by rule)")]
    if exported.scores is not None:
        rows += _scores_of_maps(exported.scores, dataset)
    elif dataset.labelled == "pixel":
        found = mean_iou(answers.every.argmax(axis=1), dataset.test_labels, dataset.classes)
        rows.append(("Mean IoU of this file", f"{found:.2%} over {dataset.classes} classes, background included"))
    if exported.float_accuracy is not None:
        rows.append((f"{what} of the float network", f"{exported.float_accuracy:.2%}, from whose weights it started"))
    if len(run.results) == 1:
        return [*rows, (f"{what}, other seeds", "not measured: one seed was trained")]
    return [
        *rows,
        (f"{what}, mean of seeds", f"{run.mean_accuracy:.2%} over {len(run.results)} seeds"),
        (f"{what} of each seed", ", ".join(f"{result.seed}: {result.accuracy:.2%}" for result in run.results)),
    ]


def _scores_of_maps(scores: dict[str, float], dataset: Dataset) -> list[tuple[str, str]]:
    """IoU of each class, by its frequency and by the inverse of it, where some pixels are unlabelled."""
    each = {name.removeprefix("iou "): share for name, share in scores.items() if name.startswith("iou ")}
    means = f"{scores['global_iou']:.2%} by frequency, {scores['weighted_iou']:.2%} by its inverse"
    unlabelled = dataset.class_names[dataset.ignore] if dataset.class_names and dataset.ignore is not None else ""
    return [
        ("IoU of this file, weighted", f"{means}; pixels of {unlabelled or dataset.ignore} count nothing"),
        ("IoU of each class", ", ".join(f"{name} {share:.2%}" for name, share in each.items())),
    ]


def _recipe(run: TrainingRun) -> str:
    recipe = run.recipe
    floats = (
        f"float network first ({OPTIMIZERS[recipe.float_optimizer]}, one-cycle learning rate up to "
        f"{recipe.float_learning_rate:g}, {recipe.float_epochs} epochs"
        f"{', bfloat16 autocast' if recipe.bfloat16 else ''}), then quantiz"
    )
    augmented = ", flips and shifts of up to 4 pixels" if recipe.augment else ""
    if recipe.method == "ptq":
        return f"{floats}ed without retraining; batches of {recipe.batch_size}{augmented}; fixed in advance"
    start = f"{floats}ation-aware" if recipe.float_epochs else "quantization-aware from the first step"
    return (
        f"{start}, Adam, one-cycle learning rate up to {recipe.learning_rate:g}, {recipe.epochs} epochs, batches of "
        f"{recipe.batch_size}{augmented}; fixed in advance, last epoch kept"
    )


def _commands(run: TrainingRun, network: Network, dataset: Dataset) -> str:
    """The commands that make the file again; images that are given by path need it."""
    path = " --data PATH" if dataset.by_path else ""
    ptq = " --ptq" if run.recipe.method == "ptq" and RECIPES[network.recipe].method != "ptq" else ""
    return f"`bitward train {network.name}{ptq}{path}`, then `bitward export {network.name}{ptq}{path}`"


def _signs(model: ModelWrapper) -> str:
    counts = negative_scales(model)
    if not counts:
        return "none"
    total = sum(counts.values())
    return f"{total} channels in {len(counts)} batch norms, left in the file; hardening and building fold them, exactly"


def _layers(weights: dict[str, QuantizedWeights]) -> str:
    lines = ["| layer | weight tensor | shape | weights | weights of the lowest value |", "|---|---|---|---|---|"]
    for name, found in weights.items():
        shape = "x".join(map(str, found.integers.shape))
        lowest = int(np.sum(found.integers == found.lowest))
        lines.append(f"| `{name}` | `{name}.weight` | {shape} | {found.integers.size} | {lowest} of {found.lowest} |")
    return "\n".join(lines)
