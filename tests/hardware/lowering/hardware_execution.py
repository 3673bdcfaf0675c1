# SPDX-License-Identifier: Apache-2.0
"""Runs a lowered graph image by image with FINN's own numpy models of its operators: the oracle's other side."""

from __future__ import annotations

from typing import Any

import numpy as np
from qonnx.core.onnx_exec import execute_onnx
from qonnx.custom_op.registry import getCustomOp

from bitward.hardware.generate import fold_graph
from bitward.hardware.specialise import FROM_FINN
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
        numpy_model(op, model).execute_node(context, model.graph)
        for index, name in enumerate(node.output):
            datatype = model.get_tensor_datatype(name)
            assert datatype == op.get_output_datatype(index), node.name
            assert tuple(model.get_tensor_shape(name)) == context[name].shape, node.name
            assert datatype.min() <= context[name].min() and context[name].max() <= datatype.max(), node.name
    return context[model.graph.output[0].name][0]


def folded_alike(lowered: Any, images: np.ndarray, cycles: int = 300) -> bool:
    """Whether the RTL nodes of the folded graph, and what joins them, compute what the lowered graph does."""
    folded = fold_graph(lowered, {}, cycles, None, "block")
    kinds = {node.op_type for node in folded.graph.node}
    assert {"StreamingFIFO_rtl", "StoredMVAU_rtl"} <= kinds and all(kind.endswith("_rtl") for kind in kinds)
    return all(
        np.array_equal(run_integers(folded, image), run_integers(lowered.model, image))
        for image in apply_edge(lowered.pre, images)
    )


def numpy_model(op: Any, model: Any) -> Any:
    """The operator; of FINN's own RTL its abstract one, but where windows go to a depthwise unit.

    FINN's model of such a unit takes channels in the order of its folding, its models of all others in their own.
    """
    from finn.custom_op.fpgadataflow import custom_op as abstract

    name = op.onnx_node.op_type.removesuffix("_rtl")
    if name not in FROM_FINN or name == op.onnx_node.op_type:
        return op
    reader = model.find_consumer(op.onnx_node.output[0])
    while reader.op_type in ("StreamingFIFO_rtl", "StreamingDataWidthConverter_rtl"):
        reader = model.find_consumer(reader.output[0])
    if reader.op_type != "StoredVVAU_rtl":
        return abstract[name](op.onnx_node)
    op.set_nodeattr("exec_mode", "cppsim")  # its word for numpy
    return op


def run_qonnx(model: Any, images: np.ndarray) -> np.ndarray:
    """The answers of qonnx's executor."""
    name, result = model.graph.input[0].name, model.graph.output[0].name
    return np.stack([execute_onnx(model, {name: image[np.newaxis]})[result][0] for image in images])
