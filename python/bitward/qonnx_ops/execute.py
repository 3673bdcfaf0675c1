# SPDX-License-Identifier: Apache-2.0
"""A QONNX graph on many images, by qonnx's executor: the reference that hardware is held against.

The executor starts an inference session for every node it runs, which takes longer than the arithmetic; so a copy of
the graph is given a batch of images at a time.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.change_batchsize import ChangeBatchSize
from qonnx.transformation.infer_shapes import InferShapes

BATCH = 50


def execute_images(
    model: ModelWrapper,
    images: npt.NDArray[np.float32],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> npt.NDArray[np.float32]:
    """The outputs of a graph made for one image (its first axis is 1) on each of `images`, stacked in order."""
    source, sink = model.graph.input[0].name, model.graph.output[0].name
    shape = model.get_tensor_shape(source)
    outputs = []
    sized: dict[int, ModelWrapper] = {}
    for first in range(0, len(images), BATCH):
        part = images[first : first + BATCH]
        count = len(part)
        if count not in sized:
            sized[count] = _for_batches(model, count)
        given = part.reshape(count, *shape[1:]).astype(np.float32)
        outputs.append(execute_onnx(sized[count], {source: given})[sink])
        progress(first + count, len(images))
    return np.concatenate(outputs)


def _for_batches(model: ModelWrapper, count: int) -> ModelWrapper:
    """A copy of the graph that takes `count` images at once."""
    if count == 1:
        return model
    copy = model.transform(ChangeBatchSize(count), make_deepcopy=True)
    return copy.transform(InferShapes())
