# SPDX-License-Identifier: Apache-2.0
"""Runs a lowered graph image by image with FINN's own numpy models of its operators: the oracle's other side."""

from __future__ import annotations

from typing import Any

import numpy as np
from qonnx.core.onnx_exec import execute_onnx
from qonnx.custom_op.registry import getCustomOp

from bitward.manifest import apply_edge


def run_hardware(lowered: Any, images: np.ndarray) -> np.ndarray:
    """The answers to images as the QONNX graph takes and gives them, through the host's work at both edges."""
    streamed = apply_edge(lowered.pre, images)
    assert np.array_equal(streamed, np.rint(streamed))
    outputs = [run_integers(lowered.model, image) for image in streamed]
    return apply_edge(lowered.post, np.stack(outputs))


def run_integers(model: Any, image: np.ndarray) -> np.ndarray:
    """The integers that leave the hardware for the integers of one image; checks that each tensor keeps its type."""
    context = {init.name: model.get_initializer(init.name) for init in model.graph.initializer}
    context[model.graph.input[0].name] = image[np.newaxis].astype(np.float32)
    for node in model.graph.node:
        op = getCustomOp(node)
        for index, name in enumerate(node.input):
            if name not in {init.name for init in model.graph.initializer}:
                context[name] = context[name].reshape(op.get_normal_input_shape(index))
                assert model.get_tensor_datatype(name) == op.get_input_datatype(index), node.name
        for index, name in enumerate(node.output):
            context[name] = np.zeros(op.get_normal_output_shape(index), np.float32)
        op.execute_node(context, model.graph)
        for index, name in enumerate(node.output):
            datatype = model.get_tensor_datatype(name)
            assert datatype == op.get_output_datatype(index), node.name
            assert tuple(model.get_tensor_shape(name)) == context[name].shape, node.name
            assert datatype.min() <= context[name].min() and context[name].max() <= datatype.max(), node.name
    return context[model.graph.output[0].name][0]


def run_qonnx(model: Any, images: np.ndarray) -> np.ndarray:
    """The answers of qonnx's executor."""
    name, result = model.graph.input[0].name, model.graph.output[0].name
    return np.stack([execute_onnx(model, {name: image[np.newaxis]})[result][0] for image in images])
