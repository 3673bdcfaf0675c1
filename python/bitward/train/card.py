# SPDX-License-Identifier: Apache-2.0
"""Model cards, with the fields of the QONNX model zoo and what somebody needs to make the file again."""

from __future__ import annotations

import hashlib
from importlib.metadata import version

import numpy as np
from qonnx.core.modelwrapper import ModelWrapper

from bitward.datasets import Dataset
from bitward.networks import Network
from bitward.rewrites import QuantizedWeights, find_layers, negative_scales, read_weights
from bitward.train.recipe import TrainingRun


def card(run: TrainingRun, network: Network, dataset: Dataset, model: ModelWrapper, data: bytes, equality: str) -> str:
    """The Markdown text beside NAME.onnx, whose bytes are `data`.

    `equality` says how equal the answers of torch and of the file are on the test images.
    """
    weights = {name: read_weights(model, layer) for name, layer in find_layers(model).items()}
    input_type = model.get_tensor_datatype(model.graph.input[0].name).name
    shape = "x".join(map(str, model.get_tensor_shape(model.graph.input[0].name)))
    rows = [
        ("Name", f"`{network.name}`: {network.title}"),
        ("Input quantization", f"{input_type}, {shape} raw pixels; then times 2^-8 to UINT{network.activation_bits}"),
        ("Weight quantization", f"INT{network.weight_bits}, full range, one scale per tensor"),
        ("Activation quantization", f"UINT{network.activation_bits}, one learned scale per tensor"),
        ("Output", "logits: integers times one scale; no bias"),
        ("Dataset", f"{dataset.name}: {dataset.source}"),
        ("Split", dataset.split),
        ("Top-1 of this file", f"{run.exported.accuracy:.2%} (seed {run.exported.seed}, the first, by rule)"),
        ("Top-1, mean of seeds", f"{run.mean_accuracy:.2%} over {len(run.results)} seeds"),
        ("Top-1 of each seed", ", ".join(f"{result.seed}: {result.accuracy:.2%}" for result in run.results)),
        ("Recipe", _recipe(run)),
        ("Negative batch-norm gammas", _signs(model)),
        ("File equals torch", equality),
        ("Made by", f"`bitward train {network.name}`, then `bitward export {network.name}`"),
        ("Made with", ", ".join(f"{name} {version(name)}" for name in ("torch", "brevitas", "qonnx", "onnx"))),
        ("sha256", f"`{hashlib.sha256(data).hexdigest()}`"),
    ]
    table = "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])
    return f"# {network.name}\n\n{table}\n\n## Layers\n\n{_layers(weights)}\n"


def _recipe(run: TrainingRun) -> str:
    recipe = run.recipe
    return (
        f"quantization-aware from the first step, Adam, one-cycle learning rate up to {recipe.learning_rate:g}, "
        f"{recipe.epochs} epochs, batches of {recipe.batch_size}; fixed in advance, last epoch kept"
    )


def _signs(model: ModelWrapper) -> str:
    counts = negative_scales(model)
    total = sum(counts.values())
    return f"{total} channels in {len(counts)} batch norms, left in the file; hardening and building fold them, exactly"


def _layers(weights: dict[str, QuantizedWeights]) -> str:
    lines = ["| layer | weight tensor | shape | weights | weights of the lowest value |", "|---|---|---|---|---|"]
    for name, found in weights.items():
        shape = "x".join(map(str, found.integers.shape))
        lowest = int(np.sum(found.integers == found.lowest))
        lines.append(f"| `{name}` | `{name}.weight` | {shape} | {found.integers.size} | {lowest} of {found.lowest} |")
    return "\n".join(lines)
