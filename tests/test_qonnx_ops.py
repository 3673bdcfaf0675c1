# SPDX-License-Identifier: Apache-2.0
"""The voter operator reads every stored word as a majority vote written down naively does."""

from __future__ import annotations

import numpy as np
import pytest
from networks_zoo import DESIGNS, build
from onnx import TensorProto, helper
from qonnx.core.datatype import DataType
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.custom_op.registry import getCustomOp
from qonnx.transformation.infer_datatypes import InferDataTypes
from qonnx.transformation.infer_shapes import InferShapes
from qonnx.util.basic import qonnx_make_model

from bitward.qonnx_ops.execute import BATCH, execute_images


def voter_model(shape, **attributes):
    """A graph of one voter."""
    node = helper.make_node("MsbVoter", ["stored"], ["read"], domain="bitward.qonnx_ops", layer="fc", **attributes)
    inputs = [helper.make_tensor_value_info("stored", TensorProto.FLOAT, shape)]
    outputs = [helper.make_tensor_value_info("read", TensorProto.FLOAT, None)]
    return ModelWrapper(qonnx_make_model(helper.make_graph([node], "voter", inputs, outputs))).transform(InferShapes())


def naive(word, bits, voted, signed):
    """One stored word, read with strings: the low bits as they are, each top bit as two of its copies have it."""
    text = f"{word:0{bits + 2 * voted}b}"
    second, first, plain = text[:voted], text[voted : 2 * voted], text[2 * voted :]
    top = ["1" if copies.count("1") >= 2 else "0" for copies in zip(plain[:voted], first, second, strict=True)]
    read = "".join(top) + plain[voted:]
    return int(read, 2) - (2**bits if signed and read[0] == "1" else 0)


@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize("bits, voted", [(2, 1), (3, 2), (4, 1), (4, 4), (8, 1)])
def test_every_stored_word_is_read_as_two_of_three_say(bits, voted, signed):
    words = np.arange(2 ** (bits + 2 * voted))
    model = voter_model((len(words),), bits=bits, voted=voted, signed=signed)
    read = execute_onnx(model, {"stored": words.astype(np.float32)})["read"]
    assert read.dtype == np.float32
    assert read.tolist() == [naive(word, bits, voted, signed) for word in words.tolist()]


@pytest.mark.parametrize("signed, name", [(0, "UINT4"), (1, "INT4")])
def test_qonnx_knows_its_shape_and_type(signed, name):
    model = voter_model((3, 5), bits=4, voted=1, signed=signed).transform(InferDataTypes())
    assert model.get_tensor_shape("read") == [3, 5]
    assert model.get_tensor_datatype("read") == DataType[name]
    assert getCustomOp(model.graph.node[0]).verify_node() == []


# -- biases ------------------------------------------------------------------------------------------------------------


def bias_model(shape, bits, opset=11):
    """A graph of one voter of biases, the shape of its result still to be found."""
    node = helper.make_node("BiasTmr", ["copies"], ["read"], domain="bitward.qonnx_ops", layer="fc", bits=bits)
    inputs = [helper.make_tensor_value_info("copies", TensorProto.FLOAT, (3, *shape))]
    outputs = [helper.make_tensor_value_info("read", TensorProto.FLOAT, None)]
    graph = helper.make_graph([node], "biases", inputs, outputs)
    made = qonnx_make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    return ModelWrapper(made).transform(InferShapes())


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_every_three_copies_of_a_bias_are_read_as_two_of_them_say(bits):
    copies = np.stack(np.meshgrid(*[np.arange(2**bits)] * 3)).reshape(3, -1)
    model = bias_model(copies.shape[1:], bits)
    read = execute_onnx(model, {"copies": copies.astype(np.float32)})["read"]
    expected = []
    for words in copies.T.tolist():
        text = "".join("01"[sum(word >> bit & 1 for word in words) > 1] for bit in reversed(range(bits)))
        expected.append(int(text, 2) - (2**bits if text[0] == "1" else 0))
    assert read.dtype == np.float32 and read.tolist() == expected


@pytest.mark.parametrize("bits", [2, 8, 13, 21, 22, 24])
def test_biases_of_every_width_are_stored_and_read_back(bits):
    """Up to 72 stored bits: words of two limbs among them."""
    values = np.array([-(2 ** (bits - 1)), -1, 0, 1, 2 ** (bits - 1) - 1])
    op = getCustomOp(bias_model((5,), bits).graph.node[0])
    copies = op.store(values)
    assert copies.shape == (3, 5) and (copies == copies[0]).all()
    assert op.read(copies).tolist() == values.tolist()


@pytest.mark.parametrize("opset", [11, 13, 18])
def test_qonnx_knows_shape_and_type_of_biases(opset):
    model = bias_model((1, 7), 9, opset).transform(InferDataTypes())
    assert model.get_tensor_shape("read") == [1, 7]
    assert model.get_tensor_datatype("read") == DataType["INT9"]


@pytest.mark.parametrize("name", ["residual", "unet", "depthwise", "top1"])
def test_batches_of_images_answer_as_images_one_by_one(tmp_path, name):
    """In whole batches, in what is left of one, and alone; progress counts images."""
    path = tmp_path / "model.onnx"
    build(DESIGNS[name](), path)
    model = ModelWrapper(str(path))
    source, sink = model.graph.input[0].name, model.graph.output[0].name
    images = np.random.default_rng(0).integers(0, 256, (BATCH + 2, *model.get_tensor_shape(source)[1:]))
    told = []
    found = execute_images(model, images.astype(np.float32), lambda *counts: told.append(counts))
    assert told == [(BATCH, BATCH + 2), (BATCH + 2, BATCH + 2)]
    assert model.get_tensor_shape(source)[0] == 1  # the graph itself is as it was
    for number in (0, 1, BATCH - 1, BATCH, BATCH + 1):
        alone = execute_onnx(model, {source: images[number : number + 1].astype(np.float32)})[sink]
        assert np.allclose(found[number : number + 1], alone, atol=1e-5)
        assert np.array_equal(execute_images(model, images[number : number + 1].astype(np.float32)), alone)
