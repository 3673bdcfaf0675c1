# SPDX-License-Identifier: Apache-2.0
"""QONNX graphs as other people write them: not from this project's networks, not by its exporter.

Each is put together node by node, in a style met in public models: other orders of layers, no batch norm, biases in
convolutions, scales per channel, signed inputs that the graph normalises itself. `build` says what becomes of it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper, save_model
from qonnx.util.basic import qonnx_make_model

DOMAIN = "qonnx.custom_op.general"


class Graph:
    """A graph being written: nodes in order, constants by name, a stream of random numbers for its weights."""

    def __init__(self, name: str, input_shape: tuple[int, ...], seed: int) -> None:
        self.name, self.input_shape = name, input_shape
        self.random = np.random.default_rng(seed)
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}

    def constant(self, name: str, value: object) -> str:
        """A float initializer of that name."""
        self.constants[name] = np.asarray(value, dtype=np.float32)
        return name

    def node(self, op: str, inputs: list[str], output: str, domain: str = "", **attributes: object) -> str:
        """A node and its one output."""
        self.nodes.append(helper.make_node(op, inputs, [output], name=f"{op}_{output}", domain=domain, **attributes))
        return output

    def quant(
        self, source: str, output: str, scale: object, bits: int, signed: bool, narrow: bool = False, zero: float = 0
    ) -> str:
        """`source` quantized."""
        names = [self.constant(f"{output}_{part}", value) for part, value in
                 (("scale", scale), ("zero", zero), ("bits", bits))]  # fmt: skip
        settings = {"signed": int(signed), "narrow": int(narrow), "rounding_mode": "ROUND"}
        return self.node("Quant", [source, *names], output, DOMAIN, **settings)

    def weights(self, name: str, shape: tuple[int, ...], bits: int, scale: object, narrow: bool = False) -> str:
        """Random signed weights behind a Quant, on its grid."""
        low = -(2 ** (bits - 1)) + int(narrow)
        integers = self.random.integers(low, 2 ** (bits - 1), shape)
        return self.quant(self.constant(f"{name}_float", integers * scale), name, scale, bits, True, narrow)

    def save(self, path: Path, output: str, output_shape: tuple[int, ...], datatype: str) -> Path:
        """The graph is in the file; its input is annotated with FINN's `datatype`."""
        from qonnx.core.datatype import DataType
        from qonnx.core.modelwrapper import ModelWrapper

        graph = helper.make_graph(
            self.nodes,
            self.name,
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, self.input_shape)],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, output_shape)],
            [numpy_helper.from_array(value, name) for name, value in self.constants.items()],
        )
        model = ModelWrapper(qonnx_make_model(graph))
        model.set_tensor_datatype("image", DataType[datatype])
        save_model(model.model, str(path))
        return path


def signed_input_no_batch_norm(path: Path) -> Path:
    """INT8 image that the graph normalises (Sub, Div), conv with float bias and scales per channel, Relu and MaxPool
    before the quantizer, dense layer with bias: (1, 3, 6, 6) to (1, 5)."""
    graph = Graph("signed_input_no_batch_norm", (1, 3, 6, 6), seed=11)
    graph.node("Sub", ["image", graph.constant("mean", 3.0)], "centred")
    graph.node("Div", ["centred", graph.constant("deviation", 61.0)], "normalised")
    graph.quant("normalised", "x0", 0.0171, 6, True)
    scales = graph.random.uniform(0.02, 0.09, (8, 1, 1, 1))
    graph.weights("w1", (8, 3, 3, 3), 4, scales, narrow=True)
    graph.constant("b1", graph.random.normal(0, 0.4, 8))
    graph.node("Conv", ["x0", "w1", "b1"], "y1", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    graph.node("Relu", ["y1"], "r1")
    graph.node("MaxPool", ["r1"], "p1", kernel_shape=[2, 2], strides=[2, 2])
    graph.quant("p1", "x1", 0.0833, 5, False)
    graph.node("Flatten", ["x1"], "flat", axis=1)
    graph.weights("w2", (72, 5), 3, 0.11)
    graph.node("MatMul", ["flat", "w2"], "y2")
    graph.node("Add", ["y2", graph.constant("b2", graph.random.normal(0, 1, 5))], "logits")
    return graph.save(path, "logits", (1, 5), "INT8")


def batch_norm_after_the_activation(path: Path) -> Path:
    """UINT8 pixels into the first convolution as they are, hard tanh, batch norm *behind* an activation's quantizer,
    strided convolution instead of pooling, global average pool, Gemm: (1, 1, 9, 9) to (1, 4)."""
    graph = Graph("batch_norm_after_the_activation", (1, 1, 9, 9), seed=12)
    graph.weights("w1", (6, 1, 3, 3), 8, 0.0013)
    graph.node("Conv", ["image", "w1"], "y1", kernel_shape=[3, 3], strides=[2, 2])
    graph.node("Clip", ["y1", graph.constant("low", -1.0), graph.constant("high", 1.0)], "h1")
    graph.quant("h1", "q1", 0.1313, 4, True)
    parameters = {"gamma": (0.5, 1.5), "beta": (-0.2, 0.2), "mu": (-0.3, 0.3), "var": (0.5, 2.0)}
    names = [graph.constant(name, graph.random.uniform(*ends, 6)) for name, ends in parameters.items()]
    graph.node("BatchNormalization", ["q1", *names], "n1", epsilon=1e-5)
    graph.quant("n1", "x1", 0.0917, 6, True)
    graph.weights("w2", (8, 6, 2, 2), 2, 0.21)
    graph.node("Conv", ["x1", "w2"], "y2", kernel_shape=[2, 2], strides=[2, 2])
    graph.node("Relu", ["y2"], "r2")
    graph.quant("r2", "x2", 0.0771, 4, False)
    graph.node("GlobalAveragePool", ["x2"], "pooled")
    graph.node("Flatten", ["pooled"], "flat", axis=1)
    graph.weights("w3", (4, 8), 4, 0.07)
    graph.constant("b3", graph.random.normal(0, 1, 4))
    graph.node("Gemm", ["flat", "w3", "b3"], "logits", transB=1)
    return graph.save(path, "logits", (1, 4), "UINT8")


def sigmoid_perceptron(path: Path) -> Path:
    """Dense layers with biases between Sigmoids, as small as models come: UINT4 features, (1, 20) to (1, 3)."""
    graph = Graph("sigmoid_perceptron", (1, 20), seed=13)
    graph.weights("w1", (20, 12), 4, 0.031)
    graph.node("MatMul", ["image", "w1"], "y1")
    graph.node("Add", ["y1", graph.constant("b1", graph.random.normal(0, 0.5, 12))], "z1")
    graph.node("Sigmoid", ["z1"], "s1")
    graph.quant("s1", "x1", 1 / 15, 4, False)
    graph.weights("w2", (12, 3), 4, 0.25)
    graph.node("MatMul", ["x1", "w2"], "y2")
    graph.node("Add", ["y2", graph.constant("b2", graph.random.normal(0, 0.5, 3))], "z2")
    graph.node("Sigmoid", ["z2"], "s2")
    graph.quant("s2", "scores", 1 / 255, 8, False)
    return graph.save(path, "scores", (1, 3), "UINT4")


def asymmetric_weights(path: Path) -> Path:
    """Weights with a zero point, as tools of phones write them: no integer of its own stands for a weight of 0.
    It must be refused: (1, 8) to (1, 3)."""
    graph = Graph("asymmetric_weights", (1, 8), seed=14)
    integers = graph.random.integers(0, 16, (8, 3))
    graph.quant(graph.constant("w_float", (integers - 7) * 0.1), "w", 0.1, 4, False, zero=7)
    graph.node("MatMul", ["image", "w"], "logits")
    return graph.save(path, "logits", (1, 3), "UINT4")


def soft_attention(path: Path) -> Path:
    """A Softmax in the middle, which is no function of one value: it must be refused. (1, 8) to (1, 3)."""
    graph = Graph("soft_attention", (1, 8), seed=15)
    graph.weights("w1", (8, 6), 4, 0.1)
    graph.node("MatMul", ["image", "w1"], "y1")
    graph.node("Softmax", ["y1"], "weights", axis=1)
    graph.quant("weights", "x1", 1 / 15, 4, False)
    graph.weights("w2", (6, 3), 4, 0.1)
    graph.node("MatMul", ["x1", "w2"], "logits")
    return graph.save(path, "logits", (1, 3), "UINT4")


BUILT: tuple[Callable[[Path], Path], ...] = (
    signed_input_no_batch_norm,
    batch_norm_after_the_activation,
    sigmoid_perceptron,
)
REFUSED: dict[Callable[[Path], Path], str] = {
    asymmetric_weights: r"^layer 'MatMul_logits' must have zero point 0, got 7; quantize it symmetrically$",
    soft_attention: r"^node Softmax_weights \(Softmax\) has no RTL: bitward lowers .*; change the model, or leave that",
}
