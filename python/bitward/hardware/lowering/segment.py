# SPDX-License-Identifier: Apache-2.0
"""The float operations between integers and a quantizer, replayed as QONNX's own executor computes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from bitward.errors import ModelError
from bitward.hardware.lowering.values import Deferred
from bitward.hardware.lowering.walk import where

Singles = NDArray[np.float32]
Step = Callable[[Singles], Singles]

QUANTIZERS = ("Quant", "IntQuant", "Trunc")


class Segment:
    """`run` takes floats, shape (values, channels), through the operations: onnxruntime's for ONNX's, qonnx's else."""

    def __init__(self, operations: Sequence[Deferred], opsets: Mapping[str, int]) -> None:
        """`opsets` are the versions of operators by domain."""
        self._opsets = opsets
        self._steps: list[Step] = []
        standard: list[Deferred] = []
        for operation in operations:
            if operation.node.op_type in QUANTIZERS:
                self._flush(standard)
                standard = []
                self._steps.append(_custom(operation, opsets.get(operation.node.domain, 1)))
            else:
                standard.append(operation)
        self._flush(standard)

    def run(self, values: Singles) -> Singles:
        """The values after the last operation, same shape."""
        for step in self._steps:
            values = step(values)
        return values

    def _flush(self, operations: list[Deferred]) -> None:
        if operations:
            self._steps.append(_standard(operations, self._opsets[""]))


def _standard(operations: list[Deferred], opset: int) -> Step:
    """A run of ONNX operators, as one onnxruntime session."""
    import onnxruntime

    nodes, initializers, tensor = [], [], "x0"
    for index, operation in enumerate(operations):
        _check_floats(operation)
        constants = {name: f"c{index}_{position}" for position, name in enumerate(operation.constants)}
        initializers += [
            helper.make_tensor(
                constants[name], helper.np_dtype_to_tensor_dtype(value.dtype), value.shape, value.ravel()
            )
            for name, value in operation.constants.items()
        ]
        inputs = [
            tensor if position == operation.data else constants.get(name, "")
            for position, name in enumerate(operation.node.input)
        ]
        tensor = f"x{index + 1}"
        node = helper.make_node(operation.node.op_type, inputs, [tensor])
        node.attribute.extend(operation.node.attribute)
        nodes.append(node)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, None]) for name in ("x0", tensor)]
    graph = helper.make_graph(nodes, "segment", ends[:1], ends[1:], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # node by node, as qonnx
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return lambda values: np.asarray(session.run(None, {"x0": values})[0])


def _check_floats(operation: Deferred) -> None:
    """Raises ModelError where the operator computes in another type than FLOAT."""
    for constant in operation.constants.values():
        if constant.dtype != np.float32:
            kind = TensorProto.DataType.Name(helper.np_dtype_to_tensor_dtype(constant.dtype))
            raise ModelError(
                f"{where(operation.node)} must compute in FLOAT where a quantizer follows, got a constant of {kind}: "
                "remove the Cast before it."
            )


def _custom(operation: Deferred, version: int) -> Step:
    """One of QONNX's quantizers."""
    from qonnx.custom_op.registry import getCustomOp

    node = operation.node
    op = getCustomOp(node, version)
    constants = {name: np.asarray(value) for name, value in operation.constants.items()}

    def step(values: Singles) -> Singles:
        context: dict[str, Any] = {**constants, node.input[operation.data]: values}
        op.execute_node(context, None)
        return np.asarray(context[node.output[0]], np.float32)

    return step
