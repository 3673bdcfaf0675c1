# SPDX-License-Identifier: Apache-2.0
"""The hardware graph under construction: FINN's abstract operators, integer tensors, channels last."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from bitward.engine.datatypes import IntegerType

DOMAIN = "finn.custom_op.fpgadataflow"
SOURCE, SINK = "global_in", "global_out"


class HardwareGraph:
    """Nodes in topological order; tensors with shape and type; initializers. `finish` makes a model of it."""

    def __init__(self, source_shape: tuple[int, ...], source_type: IntegerType) -> None:
        self.nodes: list[Any] = []
        self.tensors: dict[str, tuple[tuple[int, ...], str]] = {SOURCE: (source_shape, str(source_type))}
        self.initializers: dict[str, NDArray[Any]] = {}
        self._count: Counter[str] = Counter()

    def emit(
        self, op: str, inputs: list[str], outputs: list[tuple[tuple[int, ...], IntegerType]], **attributes: Any
    ) -> list[str]:
        """One more node; the names of its output tensors, whose shapes and types are `outputs`."""
        name = f"{op}_{self._count[op]}"
        self._count[op] += 1
        names = [f"{name}_out{index}" for index in range(len(outputs))]
        self.tensors.update({tensor: (shape, str(kind)) for tensor, (shape, kind) in zip(names, outputs, strict=True)})
        node = helper.make_node(op, inputs, names, name=name, domain=DOMAIN, backend="fpgadataflow", **attributes)
        self.nodes.append(node)
        return names

    def store(self, name: str, values: NDArray[np.int64], kind: IntegerType) -> str:
        """The initializer `name` holds these integers (as floats, in which ONNX tools carry them)."""
        single = values.astype(np.float32)
        exact = np.array_equal(single.astype(np.int64), values)
        self.initializers[name] = single if exact else values.astype(np.float64)
        self.tensors[name] = (tuple(values.shape), str(kind))
        return name

    def finish(self, output: str) -> Any:
        """The model whose result is `output`, which no node reads; other tensors of several readers are duplicated."""
        from qonnx.core.datatype import DataType
        from qonnx.core.modelwrapper import ModelWrapper
        from qonnx.util.basic import qonnx_make_model

        self._duplicate()
        self._rename(output, SINK)
        ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, self.tensors[n][0]) for n in (SOURCE, SINK)]
        graph = helper.make_graph(self.nodes, "hardware", ends[:1], ends[1:])
        model = ModelWrapper(qonnx_make_model(graph, opset_imports=_opsets()))
        for name, (shape, kind) in self.tensors.items():
            if name in self.initializers:
                model.set_initializer(name, self.initializers[name])
            elif name not in (SOURCE, SINK):
                model.set_tensor_shape(name, list(shape))
            model.set_tensor_datatype(name, DataType[kind])
        return model

    def _duplicate(self) -> None:
        """Every tensor has one reader: where there were more, each has an output of a DuplicateStreams."""
        for tensor in [name for name in self.tensors if name not in self.initializers]:
            readers = [(node, i) for node in self.nodes for i, name in enumerate(node.input) if name == tensor]
            count = len(readers)
            if count < 2:
                continue
            shape, kind = self.tensors[tensor]
            made = IntegerType.parse(kind, tensor)
            copies = self.emit(
                "DuplicateStreams", [tensor], [(shape, made)] * count, NumChannels=shape[-1], PE=1,
                NumOutputStreams=count, inputDataType=kind, numInputVectors=list(shape[:-1]), outFIFODepths=[2] * count,
            )  # fmt: skip
            duplicate = self.nodes.pop()
            producers = [i for i, node in enumerate(self.nodes) if tensor in node.output]
            self.nodes.insert(producers[0] + 1 if producers else 0, duplicate)
            for (node, position), copy in zip(readers, copies, strict=True):
                node.input[position] = copy

    def _rename(self, old: str, new: str) -> None:
        for node in self.nodes:
            for index, name in enumerate(node.output):
                if name == old:
                    node.output[index] = new
        self.tensors[new] = self.tensors.pop(old)


def _opsets() -> list[Any]:
    return [helper.make_opsetid("", 13), helper.make_opsetid(DOMAIN, 1)]
