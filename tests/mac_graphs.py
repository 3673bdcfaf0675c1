# SPDX-License-Identifier: Apache-2.0
"""QONNX graphs of one layer: input -> MAC with quantized weights -> batch norm -> output, of every kind of MAC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto, TensorProto, helper
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.infer_shapes import InferShapes
from qonnx.util.basic import qonnx_make_model

CHANNELS = 6  # out of every MAC
SCALE = 0.3


@dataclass(frozen=True)
class Mac:
    """A kind of MAC node: shapes, attributes, and the weight tensor's axis of output channels."""

    op: str
    input_shape: tuple[int, ...]
    weight_shape: tuple[int, ...]
    channel_axis: int
    attributes: dict[str, object]

    def __str__(self) -> str:
        return f"{self.op}{self.attributes or ''}"


MACS = [
    Mac("MatMul", (1, 5), (5, CHANNELS), 1, {}),
    Mac("Gemm", (1, 5), (5, CHANNELS), 1, {}),
    Mac("Gemm", (1, 5), (CHANNELS, 5), 0, {"transB": 1}),
    Mac("Conv", (1, 2, 4, 4), (CHANNELS, 2, 3, 3), 0, {"kernel_shape": [3, 3]}),
    Mac("Conv", (1, 2, 4, 4), (CHANNELS, 1, 3, 3), 0, {"kernel_shape": [3, 3], "group": 2}),
    Mac("ConvTranspose", (1, 2, 4, 4), (2, CHANNELS, 2, 2), 1, {"kernel_shape": [2, 2], "strides": [2, 2]}),
]
MATMUL = MACS[0]
DEFAULT_GAMMAS = (1.5, -0.5, 0.25, -2.0, 0.0, -1.0)


def random_integers(shape: Sequence[int], seed: int = 0, lowest: int = -7, highest: int = 7) -> np.ndarray:
    """Weights in which both ends occur."""
    values = np.random.default_rng(seed).integers(lowest, highest + 1, shape)
    values.flat[0], values.flat[1] = lowest, highest
    return values


def quant(source: str, output: str, bits: str, zero: str = "zero", **attributes: object) -> NodeProto:
    """A Quant node with the graphs' scale."""
    settings = {"signed": 1, "narrow": 0, "rounding_mode": "ROUND", **attributes}
    inputs = [source, "scale", zero, bits]
    return helper.make_node("Quant", inputs, [output], domain="qonnx.custom_op.general", **settings)


def mac_graph(
    mac: Mac = MATMUL,
    integers: np.ndarray | None = None,
    gammas: Sequence[float] = DEFAULT_GAMMAS,
    bits: float = 4,
    scale: float | np.ndarray = SCALE,
    zero: float = 0,
    bias: str | None = None,
    name: str = "fc",
    **attributes: object,
) -> ModelWrapper:
    """Weights are `integers * scale`; `bias` is None, "float" or "quant"; `attributes` are the weight Quant's."""
    integers = random_integers(mac.weight_shape) if integers is None else integers
    random = np.random.default_rng(1)
    constants = {
        "weight": integers * scale,
        "scale": scale,
        "zero": zero,
        "none": 0.0,
        "bits": bits,
        "gamma": gammas,
        **{part: random.normal(size=CHANNELS) for part in ("beta", "mean")},
        "variance": random.uniform(0.5, 2, CHANNELS),
    }
    nodes = [quant("weight", "quantized", "bits", **attributes)]
    inputs = ["x", "quantized"]
    if bias == "quant":
        constants |= {"bias": random.integers(-90, 90, CHANNELS) * scale, "bias_bits": 8.0}
        nodes.append(quant("bias", "quantized_bias", "bias_bits", "none"))
        inputs.append("quantized_bias")
    elif bias == "float":
        constants["bias"] = random.normal(size=CHANNELS)
        inputs.append("bias")
    nodes.append(helper.make_node(mac.op, inputs, ["sum"], name=name, **mac.attributes))
    norm = ["sum", "gamma", "beta", "mean", "variance"]
    nodes.append(helper.make_node("BatchNormalization", norm, ["y"], name="norm"))
    return finish(nodes, mac.input_shape, constants)


def finish(nodes: list[NodeProto], input_shape: Sequence[int], constants: dict[str, object]) -> ModelWrapper:
    """A model from "x" to "y", shapes inferred."""
    ends = ([("x", input_shape)], [("y", None)])
    inputs, outputs = ([helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in end] for end in ends)
    model = ModelWrapper(qonnx_make_model(helper.make_graph(nodes, "mac", inputs, outputs)))
    for name, value in constants.items():
        model.set_initializer(name, np.asarray(value, np.float32))
    return model.transform(InferShapes())


def run(model: ModelWrapper, images: np.ndarray) -> np.ndarray:
    """The outputs for each image, stacked."""
    source, result = model.graph.input[0].name, model.graph.output[0].name
    return np.concatenate([execute_onnx(model, {source: image[np.newaxis]})[result] for image in images])


def random_images(model: ModelWrapper, count: int = 4) -> np.ndarray:
    """Inputs of the model's shape, (count, ...): integers of 4 bits, as activations are."""
    shape = model.get_tensor_shape(model.graph.input[0].name)[1:]
    return np.random.default_rng(2).integers(0, 16, (count, *shape)).astype(np.float32)
