# SPDX-License-Identifier: Apache-2.0
"""Parts of QONNX graphs, put together node by node, and what becomes of them, with and without layers of weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from hardware_execution import run_hardware, run_qonnx
from public_graphs import Graph
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.infer_shapes import InferShapes

from bitward.hardware.lowering.edges import enter, leave
from bitward.hardware.lowering.lower import Lowered, lower
from bitward.hardware.lowering.passes import prepare
from bitward.hardware.lowering.walk import Walk

__all__ = ["Graph", "answers_alike", "built", "conv", "integers", "kinds", "lower", "sliced", "walked"]


def kinds(lowered: Lowered) -> list[str]:
    """The hardware operators in order."""
    return [node.op_type for node in lowered.model.graph.node]


def conv(graph: Graph, source: str = "image", output: str = "c", channels: int = 4, **options: Any) -> str:
    """A 1x1 convolution of 4 outputs and 4-bit weights, unless told otherwise."""
    shape = options.pop("shape", (4, channels, 1, 1))
    bits, scale = options.pop("bits", 4), options.pop("scale", 0.1)
    graph.weights(f"{output}_w", shape, bits, scale)
    return graph.node("Conv", [source, f"{output}_w"], output, kernel_shape=list(shape[2:]), **options)


def sliced(graph: Graph, source: str, output: str, *numbers: int) -> str:
    """A slice whose numbers (start, stop, axis and, where it is given, step) are constants."""
    names = [f"{output}_{place}" for place in range(len(numbers))]
    graph.constants |= {name: np.array([number], np.int64) for name, number in zip(names, numbers, strict=True)}
    return graph.node("Slice", [source, *names], output)


def built(graph: Graph, output: str, shape: tuple[int, ...], datatype: str, folder: Path) -> ModelWrapper:
    """The graph as a model, shapes inferred."""
    return ModelWrapper(str(graph.save(folder / "part.onnx", output, shape, datatype))).transform(InferShapes())


def walked(model: ModelWrapper) -> Lowered:
    """As `lower`, for graphs without weights too."""
    prepared, steps = prepare(model)
    first, source, pre = enter(prepared)
    walk = Walk(prepared, source, "threshold")
    result = walk.run(first, source)
    return Lowered(
        walk.graph.finish(result.tensor),
        pre,
        leave(result, prepared.get_tensor_shape(prepared.graph.output[0].name)),
        walk.parameters,
        [*steps, *walk.log],
    )


def integers(model: ModelWrapper, count: int, seed: int = 0) -> np.ndarray:
    """Random images over the whole range of the model's input."""
    name = model.graph.input[0].name
    datatype, shape = model.get_tensor_datatype(name), model.get_tensor_shape(name)
    random = np.random.default_rng(seed)
    return random.integers(int(datatype.min()), int(datatype.max()) + 1, (count, *shape[1:])).astype(np.float32)


def answers_alike(model: ModelWrapper, lowered: Lowered, count: int = 5) -> bool:
    """Whether hardware answers random images as QONNX does, up to the rounding of the host's multiplications."""
    images = integers(model, count)
    expected, found = run_qonnx(model, images), run_hardware(lowered, images)
    assert len(np.unique(expected)) > 1
    tolerance = 2e-6 * max(1.0, float(np.abs(expected).max()))
    return expected.shape == found.shape and bool(np.abs(expected - found).max() <= tolerance)
