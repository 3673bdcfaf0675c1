# SPDX-License-Identifier: Apache-2.0
"""A QONNX graph becomes a graph of FINN hardware layers plus the host's work at its two edges.

The order of passes is the one that is known to end on chains (docs: FINN's streamlining, arXiv:1709.04060):
thresholds are inferred first, so that MVAUs stay without activation and have an RTL back end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitward.errors import ModelError
from bitward.rewrites.layers import Layer as NamedLayer
from bitward.rewrites.layers import find_layers, read_weights

EdgeOp = dict[str, Any]


@dataclass(frozen=True)
class Layer:
    """One weight layer of the QONNX graph, in topological order.

    `weights` are the integer weights as the exported tensor has them: (OC, IC, KH, KW) for a convolution; for a
    dense layer (in, out) of a MatMul or (out, in) of a Gemm with transB, told apart by `out_first`.
    `flattened` is the (C, H, W) that a Flatten before a dense layer folded into its inputs, if any.
    """

    name: str
    tensor: str
    weights: NDArray[np.int64]
    bits: int
    scale: NDArray[np.float32]
    out_first: bool
    flattened: tuple[int, int, int] | None

    @property
    def is_conv(self) -> bool:
        """True for a convolution."""
        return self.weights.ndim == 4


@dataclass(frozen=True)
class Lowered:
    """The dataflow graph (hardware layers only), the host's edge work, and the weight layers in order."""

    model: Any
    pre: list[EdgeOp]
    post: list[EdgeOp]
    layers: list[Layer]


def weight_layers(model: Any) -> list[Layer]:
    """All layers with constant quantized weights, in topological order.

    Raises ModelError, naming the layer, for one whose weights FINN's matrix-vector unit cannot take.
    """
    return [_weight_layer(model, layer) for layer in find_layers(model).values()]


def _weight_layer(model: Any, layer: NamedLayer) -> Layer:
    node = layer.node
    if node.op_type not in ("Conv", "MatMul", "Gemm"):
        raise ModelError(f"node {node.name} ({node.op_type}) has no RTL: bitward builds Conv, MatMul and Gemm layers.")
    weights = read_weights(model, layer)
    if not weights.signed:
        raise ModelError(
            f"layer {layer.name} must have signed weights, got unsigned ones: FINN's matrix unit takes no others."
        )
    transposed = node.op_type == "Gemm" and any(a.name == "transB" and a.i == 1 for a in node.attribute)
    return Layer(
        name=layer.name,
        tensor=layer.quantizer.input[0] if layer.quantizer is not None else "",
        weights=weights.integers,
        bits=weights.bits,
        scale=weights.scale,
        out_first=node.op_type == "Conv" or transposed,
        flattened=None if node.op_type == "Conv" else _flattened_shape(model, node),
    )


def _flattened_shape(model: Any, node: Any) -> tuple[int, int, int] | None:
    """(C, H, W) that reaches the dense layer through a Flatten or Reshape, past element-wise nodes."""
    producer = model.find_producer(node.input[0])
    while producer is not None and producer.op_type in ("Quant", "Mul", "Relu", "BatchNormalization", "Add"):
        producer = model.find_producer(producer.input[0])
    if producer is None or producer.op_type not in ("Flatten", "Reshape"):
        return None
    shape = model.get_tensor_shape(producer.input[0])
    if shape is None or len(shape) != 4 or model.find_producer(producer.input[0]) is None:
        return None
    return int(shape[1]), int(shape[2]), int(shape[3])


def lower(qonnx_model: Any, build_dir: str) -> Lowered:
    """The QONNX model, weights plain (voters lifted), as FINN hardware layers, not yet specialised or folded.

    Raises ModelError, naming node and op, for anything that does not become a hardware layer.
    """
    from qonnx.core.datatype import DataType
    from qonnx.util.cleanup import cleanup_model

    _check_operators(qonnx_model)
    tensors = [layer.tensor for layer in weight_layers(qonnx_model)]  # cleaning up renames them
    model = cleanup_model(qonnx_model)
    datatype = model.get_tensor_datatype(model.graph.input[0].name)
    if not datatype.is_integer():
        raise ModelError(
            f"input {model.graph.input[0].name} must have an integer FINN datatype, got {datatype.name}: "
            "annotate it (UINT8 for raw pixels) when exporting."
        )
    layers = [replace(layer, tensor=tensor) for layer, tensor in zip(weight_layers(model), tensors, strict=True)]
    if not layers:
        raise ModelError("the model must have at least one Conv, MatMul or Gemm node with quantized weights, got none.")
    model = _streamline(model, DataType[datatype.name])
    model = _to_hardware_layers(model)
    dataflow, pre, post = _partition(model, build_dir)
    return Lowered(dataflow, pre, post, layers)


# What may stand in a QONNX graph: layers, what becomes thresholds or the host's work, and constant shapes. Said before
# lowering, as afterwards a node that is left may be another one than the one that is in the way.
_KNOWN_OPS = frozenset(
    ("Conv", "MatMul", "Gemm", "MaxPool", "BatchNormalization", "Relu", "Quant", "MultiThreshold", "Add", "Sub", "Mul",
     "Div", "Transpose", "Reshape", "Flatten", "Pad", "Identity", "Constant", "Shape", "Gather", "Concat", "Squeeze",
     "Unsqueeze", "Cast", "Slice")
)  # fmt: skip


def _check_operators(model: Any) -> None:
    for node in model.graph.node:
        if node.op_type not in _KNOWN_OPS:
            raise ModelError(_no_rtl(node))


def _no_rtl(node: Any) -> str:
    return (
        f"node {node.name} ({node.op_type}) has no RTL: bitward builds convolutions, dense layers, max pooling and "
        "thresholded activations in a chain; change the model or leave that part to the host."
    )


def _streamline(model: Any, input_datatype: Any) -> Any:
    from finn.transformation.qonnx.convert_qonnx_to_finn import ConvertQONNXtoFINN
    from finn.transformation.streamline import Streamline
    from finn.transformation.streamline.absorb import (
        AbsorbConsecutiveTransposes,
        AbsorbScalarBiasIntoMultiThreshold,
        AbsorbTransposeIntoMultiThreshold,
    )
    from finn.transformation.streamline.reorder import MakeMaxPoolNHWC
    from qonnx.transformation.general import RemoveUnusedTensors
    from qonnx.transformation.infer_data_layouts import InferDataLayouts
    from qonnx.transformation.lower_convs_to_matmul import LowerConvsToMatMul

    model = model.transform(ConvertQONNXtoFINN())
    model.set_tensor_datatype(model.graph.input[0].name, input_datatype)
    model = model.transform(AbsorbScalarBiasIntoMultiThreshold())
    model = model.transform(Streamline())
    if any(node.op_type == "Conv" for node in model.graph.node):
        model = model.transform(LowerConvsToMatMul())
        # Bounded rounds instead of "until nothing changes": that loops for ever on skip networks.
        for _ in range(2):
            model = model.transform(MakeMaxPoolNHWC())
            model = model.transform(AbsorbTransposeIntoMultiThreshold())
        model = model.transform(MakeMaxPoolNHWC())
        model = model.transform(AbsorbConsecutiveTransposes())
        model = model.transform(Streamline())
    model = model.transform(InferDataLayouts())
    return model.transform(RemoveUnusedTensors())


def _to_hardware_layers(model: Any) -> Any:
    from finn.transformation.fpgadataflow.convert_to_hw.conv_inp_gen import InferConvInpGen
    from finn.transformation.fpgadataflow.convert_to_hw.pool import InferPool
    from finn.transformation.fpgadataflow.convert_to_hw.quantized_matrix_vector_activation import (
        InferQuantizedMatrixVectorActivation,
    )
    from finn.transformation.fpgadataflow.convert_to_hw.thresholding import InferThresholdingLayer
    from finn.transformation.move_reshape import RemoveCNVtoFCFlatten
    from finn.transformation.streamline.absorb import AbsorbConsecutiveTransposes
    from qonnx.transformation.general import GiveReadableTensorNames, GiveUniqueNodeNames
    from qonnx.transformation.infer_data_layouts import InferDataLayouts

    for step in (
        InferThresholdingLayer(),
        InferQuantizedMatrixVectorActivation(),
        InferPool(),
        InferConvInpGen(),
        RemoveCNVtoFCFlatten(),
        AbsorbConsecutiveTransposes(),
        InferDataLayouts(),
        GiveUniqueNodeNames(),
        GiveReadableTensorNames(),
    ):
        model = model.transform(step)
    return model


_EDGE_OPS = ("Transpose", "Mul", "Add", "Reshape", "Flatten")


def _partition(model: Any, build_dir: str) -> tuple[Any, list[EdgeOp], list[EdgeOp]]:
    from finn.transformation.fpgadataflow.create_dataflow_partition import CreateDataflowPartition
    from finn.util.fpgadataflow import is_fpgadataflow_node
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.custom_op.registry import getCustomOp

    hardware = [is_fpgadataflow_node(node) for node in model.graph.node]
    if not any(hardware):
        raise ModelError("the model must have layers that map to hardware, got none after streamlining.")
    first, last = hardware.index(True), len(hardware) - 1 - hardware[::-1].index(True)
    for index, node in enumerate(model.graph.node):
        inside = first <= index <= last
        if (inside and not hardware[index]) or (not inside and node.op_type not in _EDGE_OPS):
            raise ModelError(_no_rtl(node))
    parent = model.transform(CreateDataflowPartition(partition_model_dir=build_dir))
    partitions = [node for node in parent.graph.node if node.op_type == "StreamingDataflowPartition"]
    if len(partitions) != 1:
        raise ModelError(f"the model must map to one dataflow partition, got {len(partitions)}.")
    dataflow = ModelWrapper(getCustomOp(partitions[0]).get_nodeattr("model"))
    at = list(parent.graph.node).index(partitions[0])
    pre = [_edge_op(parent, node) for node in parent.graph.node[:at]]
    post = [_edge_op(parent, node) for node in parent.graph.node[at + 1 :]]
    return dataflow, pre, post


def _edge_op(model: Any, node: Any) -> EdgeOp:
    """One host operation as the manifest writes it (see bitward.manifest.apply_edge)."""
    if node.op_type == "Transpose":
        perm = next(a for a in node.attribute if a.name == "perm")
        return {"op": "Transpose", "perm": [int(p) for p in perm.ints]}
    if node.op_type in ("Reshape", "Flatten"):
        return {"op": "Reshape", "shape": [int(s) for s in model.get_tensor_shape(node.output[0])][1:]}
    value = model.get_initializer(node.input[1])
    if value is None:
        raise ModelError(
            f"node {node.name} ({node.op_type}) at the graph's edge must have a constant operand, got none."
        )
    return {"op": node.op_type, "value": np.asarray(value, dtype=np.float32)}
