# SPDX-License-Identifier: Apache-2.0
"""Nearest-neighbour up-sampling by whole factors: pixels and lines are repeated."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from bitward.errors import ModelError
from bitward.hardware.lowering.rule import lowers
from bitward.hardware.lowering.walk import Walk, where
from bitward.hardware.lowering.windows import image


@lowers("Resize", "Upsample")
def resize(walk: Walk, node: Any) -> str:
    """Repeated pixels; ModelError where onnxruntime makes anything else of the node."""
    value = image(walk.value(node), node)
    _, height, width, channels = value.shape
    target = walk.shape(node)[2], walk.shape(node)[3]
    if target[0] % height or target[1] % width or not _repeats(walk, node, (height, width), target):
        raise ModelError(
            f"{where(node)} must repeat pixels a whole number of times, got {height}x{width} to "
            f"{target[0]}x{target[1]} by {walk.attribute(node, 'mode', 'nearest')}: use nearest neighbours."
        )
    if target == (height, width):
        walk.set(node.output[0], value)
        return "nothing to do"
    tensor = walk.emit(
        "UpsampleNearestNeighbour",
        [value.tensor],
        (1, *target, channels),
        value.type,
        SIMD=1,
        HI=height,
        WI=width,
        HO=target[0],
        WO=target[1],
        NumChannels=channels,
        inputDataType=str(value.type),
        batchSize=1,
    )
    walk.set(node.output[0], replace(value, tensor=tensor, shape=(1, *target, channels)))
    return f"{height}x{width} to {target[0]}x{target[1]}"


def _repeats(walk: Walk, node: Any, size: tuple[int, int], target: tuple[int, int]) -> bool:
    """Whether the node, on an image of numbered pixels, repeats each of them alike."""
    import onnxruntime

    pixels = np.arange(size[0] * size[1], dtype=np.float32).reshape(1, 1, *size)
    ramp = np.repeat(pixels, walk.value(node).channels, axis=1)
    constants = [(name, walk.constant(name)) for name in node.input[1:] if name]
    initializers = [numpy_helper.from_array(value, name) for name, value in constants if value is not None]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in (node.input[0], node.output[0])]
    graph = helper.make_graph([node], "resize", ends[:1], ends[1:], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", walk.opsets[""])], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    found = session.run(None, {node.input[0]: ramp})[0]
    wanted = ramp.repeat(target[0] // size[0], axis=2).repeat(target[1] // size[1], axis=3)
    return bool(np.array_equal(found, wanted))
