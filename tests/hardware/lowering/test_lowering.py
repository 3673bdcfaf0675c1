# SPDX-License-Identifier: Apache-2.0
"""Whole networks: the lowered graph answers as QONNX does, and its parameters are the exported integers."""

from __future__ import annotations

import copy

import networks_zoo
import numpy as np
import pytest
import small_networks
from hardware_execution import folded_alike, run_hardware, run_integers, run_qonnx
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.custom_op.registry import getCustomOp

from bitward.hardware.finn_session import finn_session
from bitward.hardware.lowering import lower
from bitward.manifest import apply_edge
from bitward.rewrites import FoldNegativeScales, name_layers

SMALL = {
    "dense": small_networks.dense,
    "conv": small_networks.convolutional,
    "two": small_networks.two_convolutions,
}
IMAGES = 8


@pytest.fixture(scope="module", params=[*networks_zoo.DESIGNS, *SMALL])
def lowered(request, tmp_path_factory):
    """(name, network, folded QONNX model, what became of it)."""
    folder = tmp_path_factory.mktemp("lower")
    name = request.param
    if name in SMALL:
        network = small_networks.export(SMALL[name](), folder / "model.onnx", seed=2)
    else:
        network = networks_zoo.build(networks_zoo.DESIGNS[name](), folder / "model.onnx", seed=1)
    with finn_session(folder / "finn"):
        model = ModelWrapper(str(network.path)).transform(FoldNegativeScales())
        yield name, network, model, lower(model)


def test_hardware_answers_as_qonnx_does(lowered):
    """Integers are equal; only what the host multiplies them by is rounded otherwise."""
    _, network, model, result = lowered
    images = network.images(IMAGES)
    expected, found = run_qonnx(model, images), run_hardware(result, images)
    assert expected.shape == found.shape and len(np.unique(expected)) > 1
    assert np.allclose(found, expected, rtol=0, atol=2e-6 * np.abs(expected).max())


def test_twins_get_the_same_nodes_in_whatever_order_they_are_written(lowered):
    """So that a folding and queues found for the plain design hold for the hardened one."""
    _, _, model, result = lowered
    nodes = list(model.graph.node)
    made = {entry.name for entry in (*model.graph.input, *model.graph.initializer)} | {""}
    shuffled, random = [], np.random.default_rng(3)
    while nodes:
        ready = [node for node in nodes if made.issuperset(node.input)]
        shuffled.append(ready[random.integers(len(ready))])
        nodes.remove(shuffled[-1])
        made.update(shuffled[-1].output)
    other = ModelWrapper(copy.deepcopy(model.model))
    del other.graph.node[:]
    other.graph.node.extend(shuffled)
    found = lower(other)
    assert [node.op_type for node in found.model.graph.node] == [node.op_type for node in result.model.graph.node]
    assert list(found.parameters) == list(result.parameters)


def test_folded_nodes_compute_what_the_lowered_graph_does(lowered):
    """RTL nodes, width converters and queues between them, each by its own model in numpy."""
    _, network, _, result = lowered
    assert folded_alike(result, network.images(2))


def test_weights_are_the_exported_integers_in_their_own_shape(lowered):
    _, network, _, result = lowered
    weights = {p.layer: p for p in result.parameters.values() if p.role == "weight"}
    assert set(weights) == set(network.folded)
    for layer, integers in network.folded.items():
        parameter = weights[layer]
        assert parameter.name == parameter.tensor == f"{layer}.weight"
        assert any(np.array_equal(parameter.values, each) for each in (integers, integers.T))
        assert parameter.values.min() == -(2 ** (parameter.bits - 1))  # the word without a negative is among them


def test_initializers_are_parameters_and_their_matrices_what_nodes_hold(lowered):
    _, _, _, result = lowered
    assert {init.name for init in result.model.graph.initializer} == set(result.parameters)
    for name, parameter in result.parameters.items():
        held = result.model.get_initializer(name)
        matrix = parameter.matrix
        if parameter.role == "threshold":
            assert np.array_equal(np.broadcast_to(held, matrix.T.shape), matrix.T)
        elif held.ndim == 4:  # a depthwise unit: (channels, 1, height, width)
            assert np.array_equal(held.reshape(len(held), -1), matrix.T)
        else:
            assert np.array_equal(held, matrix)
        kind = result.model.get_tensor_datatype(name)
        assert (kind.bitwidth(), kind.signed()) == (parameter.bits, parameter.signed)
        assert kind.min() <= held.min() and held.max() <= kind.max()


def test_each_tensor_has_one_reader_and_every_node_is_hardware(lowered):
    _, _, _, result = lowered
    graph = result.model.graph
    assert {node.domain for node in graph.node} == {"finn.custom_op.fpgadataflow"}
    assert len({node.name for node in graph.node}) == len(graph.node)
    read = [name for node in graph.node for name in node.input]
    read.append(graph.output[0].name)
    made = [name for node in graph.node for name in node.output] + [graph.input[0].name, *result.parameters]
    assert sorted(read) == sorted(made) and len(set(read)) == len(read)


def test_sums_fit_for_every_weight_word(lowered):
    """All weights at -2^(b-1) and all at 2^(b-1) - 1, largest activations: no sum leaves its type."""
    _, network, _, result = lowered
    for end in ("low", "high"):
        for name, parameter in result.parameters.items():
            if parameter.role == "weight":
                word = -(2 ** (parameter.bits - 1)) if end == "low" else 2 ** (parameter.bits - 1) - 1
                result.model.set_initializer(name, np.full_like(result.model.get_initializer(name), word))
        images = np.stack([np.full(network.input_shape, 255.0), np.zeros(network.input_shape)])
        for image in apply_edge(result.pre, images):
            run_integers(result.model, image)  # asserts that tensors keep their types
    for name, parameter in result.parameters.items():
        if parameter.role == "weight":
            held = result.model.get_initializer(name)
            values = parameter.values if held.ndim == 4 else parameter.matrix
            result.model.set_initializer(name, values.reshape(held.shape).astype(np.float32))


def test_thresholds_are_complete_and_sorted(lowered):
    """2^bits - 1 of them whatever the quantizer reaches, as the search in hardware wants them."""
    _, _, _, result = lowered
    nodes = [node for node in result.model.graph.node if node.op_type == "Thresholding"]
    assert nodes or all(node.op_type == "MVAU" for node in result.model.graph.node)
    for node in nodes:
        op = getCustomOp(node)
        values = result.parameters[node.input[1]].values
        kind = op.get_output_datatype(0)
        assert values.shape[1] == op.get_nodeattr("numSteps") == 2 ** kind.bitwidth() - 1
        assert op.get_nodeattr("ActVal") == kind.min() and (np.diff(values, axis=1) >= 0).all()


def test_steps_tell_what_became_of_every_node(lowered):
    _, _, model, result = lowered
    text = "\n".join(result.steps)
    made = [node.name for node in result.model.graph.node if node.op_type != "DuplicateStreams"]
    assert all(f"{name};" in text or f"{name}," in text for name in made)
    assert text.startswith("InferShapes: no node changed\nFoldConstants: ")
    walked = [line for line in result.steps if line.endswith(": deferred")]
    functions = [n for n in model.graph.node if n.op_type in ("Relu", "Tanh", "Sigmoid", "BatchNormalization")]
    assert len(walked) >= len(functions)


def test_names_stay_with_their_layers_when_graphs_are_sorted(tmp_path):
    """The two branches of a residual block: sorting puts the skip's convolution before the block's second one."""
    network = networks_zoo.build(networks_zoo.residual(), tmp_path / "model.onnx", seed=1)
    model = ModelWrapper(str(network.path)).transform(FoldNegativeScales())
    name_layers(model, [f"layer{index}" for index in range(len(network.folded))])
    with finn_session(tmp_path / "finn"):
        result = lower(model)
    expected = {f"layer{index}.weight": model.get_initializer(f"layer{index}.weight") for index in range(7)}
    for name, floats in expected.items():
        parameter = result.parameters[name]
        assert np.allclose(parameter.values * parameter.scale, floats, atol=parameter.scale.max())


def test_the_model_given_is_left_as_it_was(tmp_path):
    network = networks_zoo.build(networks_zoo.top1(), tmp_path / "model.onnx", seed=1)
    model = ModelWrapper(str(network.path)).transform(FoldNegativeScales())
    before = model.model.SerializeToString(deterministic=True)
    with finn_session(tmp_path / "finn"):
        first, second = lower(model), lower(model)
    assert model.model.SerializeToString(deterministic=True) == before
    assert first.model.model.SerializeToString(deterministic=True) == second.model.model.SerializeToString(
        deterministic=True
    )
