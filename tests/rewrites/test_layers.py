# SPDX-License-Identifier: Apache-2.0
"""Layers are found by structure, keep their names, and give their integers; what cannot be read is refused."""

from __future__ import annotations

import re

import numpy as np
import pytest
from mac_graphs import MACS, SCALE, finish, mac_graph, random_integers
from onnx import helper
from qonnx.transformation.general import GiveReadableTensorNames, GiveUniqueNodeNames

from bitward.errors import ModelError
from bitward.rewrites import find_layers, load_model, mark_layer, name_layers, read_weights, save_model


@pytest.mark.parametrize("mac", MACS, ids=str)
def test_integers_are_those_that_the_quantizer_makes(mac):
    expected = random_integers(mac.weight_shape, lowest=-8)
    model = mac_graph(mac, expected)
    weights = read_weights(model, find_layers(model)["fc"])
    assert np.array_equal(weights.integers, expected) and weights.tensor == "weight"
    assert (weights.bits, weights.signed, weights.lowest) == (4, True, -8)
    assert np.array_equal(weights.values, expected.astype(np.float32) * np.float32(SCALE))


def test_weights_between_integers_round_half_to_even_and_saturate():
    values = np.array([[0.5, 1.5, 7.6, 20, -7.6, -20]] * 5)
    model = mac_graph(integers=values, scale=0.25)
    assert read_weights(model, find_layers(model)["fc"]).integers[0].tolist() == [0, 2, 7, 7, -8, -8]


def test_scales_may_be_one_per_channel():
    scale = np.linspace(0.1, 0.6, 6).reshape(1, 6)
    expected = random_integers((5, 6))
    model = mac_graph(integers=expected, scale=scale)
    assert np.array_equal(read_weights(model, find_layers(model)["fc"]).integers, expected)


def two_layers(names=("", "")):
    """Two MatMuls in a row, and a third that multiplies two activations: no layer."""
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["p"], name=names[0]),
        helper.make_node("MatMul", ["p", "b"], ["q"], name=names[1]),
        helper.make_node("MatMul", ["q", "p"], ["y"]),
    ]
    return finish(nodes, (3, 3), {"a": np.eye(3), "b": np.eye(3)})


@pytest.mark.parametrize(
    "names, expected",
    [
        (("one", "two"), ["one", "two"]),
        (("", ""), ["MatMul_0", "MatMul_1"]),
        (("one", "one"), ["MatMul_0", "MatMul_1"]),
    ],
    ids=["named", "nameless", "ambiguous"],
)
def test_names_come_from_nodes_or_else_from_positions(names, expected):
    assert list(find_layers(two_layers(names))) == expected


def test_given_names_outlive_renaming_passes():
    model = mac_graph()
    name_layers(model, ["head"])
    assert find_layers(model)["head"].node.name == "head" and model.get_initializer("head.weight") is not None
    for renaming in (GiveUniqueNodeNames(), GiveReadableTensorNames()):
        model = model.transform(renaming)
    assert list(find_layers(model)) == ["head"]


def test_names_stay_with_their_nodes_when_nodes_change_places():
    model = two_layers(("one", "two"))
    name_layers(model, ["first", "second"])
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([nodes[1], nodes[0], nodes[2]])
    assert {name: layer.node.input[1] for name, layer in find_layers(model).items()} == {"first": "a", "second": "b"}


def test_a_mark_replaces_an_older_one():
    model = two_layers(("one", "two"))
    for name in ("before", "after"):
        mark_layer(model.graph.node[0], name)
    mark_layer(model.graph.node[1], "other")
    assert list(find_layers(model)) == ["after", "other"] and len(model.graph.node[0].metadata_props) == 1


def test_paths_of_exporters_become_names_that_files_can_have():
    assert list(find_layers(two_layers(("/block1/conv/Conv", "/fc/MatMul:0")))) == ["block1.conv.Conv", "fc.MatMul.0"]


@pytest.mark.parametrize("names", [["one"], ["one", "two", "three"], ["one", "one"]], ids=len)
def test_names_must_be_one_for_each_layer(names):
    message = f"names must be 2 different ones, one for each layer, got {names}; give them in graph order"
    with pytest.raises(ModelError, match=f"^{re.escape(message)}$"):
        name_layers(two_layers(), names)


def test_weights_without_a_quantizer_have_no_integers():
    model = two_layers(("one", "two"))
    with pytest.raises(
        ModelError,
        match=r"^layer 'one' must have weights behind a Quant node, got none; quantize it with Brevitas, or use ",
    ):
        read_weights(model, find_layers(model)["one"])


@pytest.mark.parametrize(
    "wrong, sentence",
    [
        ({"zero": 1}, "must have zero point 0, got 1; quantize it symmetrically"),
        ({"bits": 1}, "must have one whole width from 2 to 32 bits, got [1.0]; bipolar and mixed"),
        ({"bits": 3.5}, "must have one whole width from 2 to 32 bits, got [3.5]; bipolar and mixed"),
        ({"scale": -0.5}, "must have scales above 0, got -0.5; fold signs in when exporting"),
    ],
    ids=str,
)
def test_weights_that_are_no_plain_integers_are_refused(wrong, sentence):
    model = mac_graph(**wrong)
    with pytest.raises(ModelError, match=f"^{re.escape(f'''layer 'fc' {sentence}''')}"):
        read_weights(model, find_layers(model)["fc"])


def test_a_model_comes_back_from_its_file(tmp_path):
    model, path = mac_graph(), tmp_path / "model.onnx"
    save_model(model, path)
    assert load_model(path).model == model.model
    first = path.read_bytes()
    save_model(load_model(path), path)
    assert path.read_bytes() == first


@pytest.mark.parametrize(
    "content, sentence",
    [
        (None, "must be a readable ONNX file, got No such file or directory"),
        (b"this is a letter, not a model", "must be an ONNX model, got a file that is none"),
        (b"", "must be an ONNX model with nodes, got none"),
    ],
    ids=["missing", "letter", "empty"],
)
def test_a_file_that_is_no_model_is_refused(tmp_path, content, sentence):
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=f"^{re.escape(f'{path} {sentence}: export one with bitward export')}"):
        load_model(path)
