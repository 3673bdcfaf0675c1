# SPDX-License-Identifier: Apache-2.0
"""One walk over a QONNX graph, in topological order: what is known so far, and what rules need to go on."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import helper

from bitward.engine.datatypes import IntegerType
from bitward.errors import ModelError
from bitward.hardware.lowering.graph import HardwareGraph
from bitward.hardware.lowering.rule import RULES
from bitward.hardware.lowering.values import Value
from bitward.hardware.parameters import Parameter
from bitward.rewrites.layers import Layer, QuantizedWeights, find_layers, read_quantizer

BiasAs = Literal["threshold", "add"]
# What to do about operators of other tools' forms of the same networks.
INSTEAD = {
    "QuantizeLinear": "export QONNX instead of QCDQ, or convert it with qonnx's QCDQToQuant",
    "DequantizeLinear": "export QONNX instead of QCDQ, or convert it with qonnx's QCDQToQuant",
    "QLinearConv": "export QONNX instead of ONNX's integer operators",
    "QLinearMatMul": "export QONNX instead of ONNX's integer operators",
    "ConvInteger": "export QONNX instead of ONNX's integer operators",
    "MatMulInteger": "export QONNX instead of ONNX's integer operators",
    "MultiThreshold": "take the QONNX file that FINN was given, before its own transformations",
}


def where(node: Any) -> str:
    """The node in messages."""
    return f"node {node.name} ({node.op_type})"


class Walk:
    """A QONNX graph being lowered: values of its tensors, the hardware graph, parameters, a log of what was done."""

    def __init__(self, model: Any, source: Value, bias_as: BiasAs) -> None:
        self.model = model
        self.bias_as = bias_as
        self.graph = HardwareGraph(source.shape, source.type)
        self.parameters: dict[str, Parameter] = {}
        self.log: list[str] = []
        self.opsets: dict[str, int] = {"": 13, **model.get_opset_imports()}
        self.layers: dict[str, Layer] = {layer.node.output[0]: layer for layer in find_layers(model).values()}
        self.layer_names = [layer.name for layer in self.layers.values()]
        self._values: dict[str, Value] = {}

    def run(self, first: str, source: Value) -> Value:
        """The value of the graph's output, `source` being that of tensor `first`. ModelError for what has no rule."""
        self._values[first] = source
        for node in self.model.graph.node:
            if any(name in self._values for name in node.input):  # else a constant, or the host's work at the input
                self.step(node)
        return self._values[self.model.graph.output[0].name]

    def step(self, node: Any) -> None:
        """The outputs of the node have their values; ModelError where it has no rule, or its rule refuses it."""
        if node.op_type not in RULES:
            raise ModelError(
                f"{where(node)} has no RTL: bitward lowers {', '.join(sorted(RULES))}; "
                f"{INSTEAD.get(node.op_type, 'change the model, or leave that part to the host')}."
            )
        before = len(self.graph.nodes)
        done = RULES[node.op_type](self, node)
        missing = [name for name in node.output if name and name not in self._values and self._is_read(name)]
        if missing:
            raise ModelError(
                f"{where(node)} must be read for what hardware gives, got a reader of {missing[0]}, its output "
                f"{list(node.output).index(missing[0])}: remove that one from the model, or leave it to the host."
            )
        made = ", ".join(made.name for made in self.graph.nodes[before:])
        self.log.append(f"{node.name} ({node.op_type}): {made + '; ' if made else ''}{done}")

    def value(self, node: Any, position: int = 0) -> Value:
        """What is known of an input; ModelError where it is a constant."""
        name = node.input[position]
        if name not in self._values:
            raise ModelError(
                f"{where(node)} must have a computed input {position}, got a constant: fold constants first."
            )
        return self._values[name]

    def is_value(self, name: str) -> bool:
        """Whether the tensor depends on the graph's input."""
        return name in self._values

    def _is_read(self, name: str) -> bool:
        return bool(self.model.find_consumers(name)) or name in [output.name for output in self.model.graph.output]

    def shape(self, node: Any, position: int = 0) -> tuple[int, ...]:
        """The shape of an output in the QONNX graph; ModelError where it is not known."""
        shape = self.model.get_tensor_shape(node.output[position])
        if not shape:
            raise ModelError(
                f"{where(node)} must have outputs of known shapes, got none for {node.output[position]}: give shapes "
                "as constants when exporting."
            )
        return tuple(int(size) for size in shape)

    def set(self, tensor: str, value: Value) -> None:
        """The tensor of the QONNX graph has that value."""
        self._values[tensor] = value

    def constant(self, name: str) -> NDArray[Any] | None:
        """The initializer of that name, or what a quantizer makes of one; None where there is none."""
        if not name:
            return None
        quantized = self.quantized(name)
        value = self.model.get_initializer(name) if quantized is None else quantized.values
        return None if value is None else np.asarray(value)

    def quantized(self, name: str) -> QuantizedWeights | None:
        """The integers of a constant that stands behind a quantizer; None where it does not."""
        producer = self.model.find_producer(name)
        if producer is None or producer.op_type not in ("Quant", "IntQuant") or self.is_value(name):
            return None
        return read_quantizer(self.model, producer, f"{where(producer)}, a constant,")

    def attribute(self, node: Any, name: str, default: Any = None) -> Any:
        """An attribute of a node as a plain Python value: numbers, lists, strings."""
        for attribute in node.attribute:
            if attribute.name == name:
                value = helper.get_attribute_value(attribute)
                return (
                    value.decode() if isinstance(value, bytes) else list(value) if hasattr(value, "__len__") else value
                )
        return default

    def require(self, node: Any, name: str, wanted: Any, default: Any, advice: str) -> None:
        """The attribute has the only value that hardware takes; ModelError otherwise."""
        got = self.attribute(node, name, default)
        if got != wanted:
            raise ModelError(f"{where(node)} must have {name} = {wanted}, got {got}: {advice}.")

    def emit(self, op: str, inputs: list[str], shape: tuple[int, ...], kind: IntegerType, **attributes: Any) -> str:
        """One more hardware node of one output; the name of its tensor."""
        return self.graph.emit(op, inputs, [(shape, kind)], **attributes)[0]

    def store(self, parameter: Parameter, matrix: NDArray[np.int64] | None = None) -> str:
        """The parameter is an initializer of the hardware graph: its matrix, or `matrix` where a node wants it so."""
        self.parameters[parameter.name] = parameter
        kind = IntegerType(parameter.bits, parameter.signed)
        return self.graph.store(parameter.name, parameter.matrix if matrix is None else matrix, kind)

    def order(self, origin: str) -> int:
        """The place of a layer in the graph; -1 for the input."""
        return self.layer_names.index(origin) if origin in self.layer_names else -1
