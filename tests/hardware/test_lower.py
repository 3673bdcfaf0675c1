# SPDX-License-Identifier: Apache-2.0
"""Lowering: the graph that reaches hardware, the host's work at its edges, and the sentences of refusals."""

from __future__ import annotations

import numpy as np
import pytest
import small_networks
from onnx import TensorProto, helper
from qonnx.core.datatype import DataType
from qonnx.core.modelwrapper import ModelWrapper
from small_networks import export

from bitward.errors import ModelError
from bitward.hardware.build import BuildOptions, declare
from bitward.hardware.finn_session import finn_session
from bitward.hardware.lower import _edge_op, lower, weight_layers
from bitward.manifest import apply_edge
from bitward.rewrites import find_layers

DESIGNS = {"dense": small_networks.dense, "conv": small_networks.convolutional, "two": small_networks.two_convolutions}


@pytest.fixture(scope="module", params=list(DESIGNS))
def lowered(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lower")
    network = export(DESIGNS[request.param](), folder / "model.onnx", seed=2)
    with finn_session(folder / "finn"):
        model, _ = declare(network.path, BuildOptions("none"))
        return network, lower(model, str(folder / "finn"))


def test_layers_keep_their_names_order_and_folded_weights(lowered):
    network, result = lowered
    assert [layer.name for layer in result.layers] == list(network.folded)
    for layer, integers in zip(result.layers, network.folded.values(), strict=True):
        assert layer.bits == 4 and layer.tensor == f"{layer.name}.weight"
        assert layer.is_conv == (integers.ndim == 4)
        assert np.array_equal(layer.weights if layer.out_first else layer.weights.T, integers)


def test_the_graph_is_a_chain_of_hardware_nodes_and_the_edges_are_the_hosts(lowered):
    network, result = lowered
    assert {node.domain for node in result.model.graph.node} == {"finn.custom_op.fpgadataflow"}
    assert {op["op"] for op in (*result.pre, *result.post)} <= {"Transpose", "Mul", "Add", "Reshape"}
    streamed = apply_edge(result.pre, network.images(3))
    assert np.array_equal(streamed, np.round(streamed)) and streamed.max() <= 255  # raw pixels go over the wire
    assert sorted(streamed.ravel()) == sorted(network.images(3).ravel())


def test_a_flattened_map_is_told_where_there_is_one(lowered):
    network, result = lowered
    flattened = {layer.name: layer.flattened for layer in result.layers}
    expected = {"fc1": {"fc1": None, "fc2": None}, "conv": {"conv": None, "fc": (4, 2, 2)},
                "conv1": {"conv1": None, "conv2": None, "fc": (6, 2, 2)}}  # fmt: skip
    assert flattened == expected[next(iter(network.folded))]


def edge(op_type: str, constant: float | None = None, **attributes: object):
    """A one-node graph and its node."""
    value = helper.make_tensor_value_info
    ends = [value("x", TensorProto.FLOAT, [1, 2, 3])], [value("y", TensorProto.FLOAT, [1, 6])]
    inputs = ["x"] if op_type in ("Transpose", "Flatten") else ["x", "c"]
    node = helper.make_node(op_type, inputs, ["y"], name="edge", **attributes)
    model = ModelWrapper(helper.make_model(helper.make_graph([node], "edge", *ends)))
    if constant is not None:
        model.set_initializer("c", np.array(constant, np.float32))
    return model, model.graph.node[0]


def test_edge_nodes_become_the_manifests_operations():
    assert _edge_op(*edge("Transpose", perm=[0, 2, 1])) == {"op": "Transpose", "perm": [0, 2, 1]}
    assert _edge_op(*edge("Flatten")) == {"op": "Reshape", "shape": [6]}
    assert _edge_op(*edge("Mul", 0.5)) == {"op": "Mul", "value": np.float32(0.5)}
    with pytest.raises(
        ModelError, match=r"^node edge \(Add\) at the graph's edge must have a constant operand, got none"
    ):
        _edge_op(*edge("Add"))


def test_a_model_without_weight_layers_is_refused(tmp_path):
    value = helper.make_tensor_value_info
    ends = [value("x", TensorProto.FLOAT, [1, 4])], [value("y", TensorProto.FLOAT, [1, 4])]
    relu = helper.make_node("Relu", ["x"], ["y"], name="act")
    model = ModelWrapper(helper.make_model(helper.make_graph([relu], "relu", *ends)))
    model.set_tensor_datatype("x", DataType["UINT8"])
    with (
        finn_session(tmp_path),
        pytest.raises(ModelError, match="^the model must have at least one Conv, MatMul or Gemm"),
    ):
        lower(model, str(tmp_path))


@pytest.fixture
def plain(tmp_path):
    return ModelWrapper(str(export(small_networks.convolutional(), tmp_path / "model.onnx", seed=2).path))


def test_operators_without_rtl_are_named_as_the_model_names_them(plain, tmp_path):
    pool = plain.get_nodes_by_op_type("MaxPool")[0]
    pool.op_type, pool.name = "GlobalAveragePool", "squeeze"
    del pool.attribute[:]
    with finn_session(tmp_path), pytest.raises(ModelError, match=r"^node squeeze \(GlobalAveragePool\) has no RTL: "):
        lower(plain, str(tmp_path))


def test_layers_that_no_matrix_unit_takes_are_named(plain):
    layer = find_layers(plain)["conv"]
    layer.node.op_type = "ConvTranspose"
    with pytest.raises(
        ModelError, match=r"^node conv \(ConvTranspose\) has no RTL: bitward builds Conv, MatMul and Gemm"
    ):
        weight_layers(plain)


def test_unsigned_weights_are_refused(plain):
    from qonnx.custom_op.registry import getCustomOp

    getCustomOp(find_layers(plain)["fc"].quantizer).set_nodeattr("signed", 0)
    with pytest.raises(ModelError, match="^layer fc must have signed weights, got unsigned ones: FINN's matrix"):
        weight_layers(plain)
