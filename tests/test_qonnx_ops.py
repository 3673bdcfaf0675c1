# SPDX-License-Identifier: Apache-2.0
"""The voter operator reads every stored word as a majority vote written down naively does."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper
from qonnx.core.datatype import DataType
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.custom_op.registry import getCustomOp
from qonnx.transformation.infer_datatypes import InferDataTypes
from qonnx.transformation.infer_shapes import InferShapes
from qonnx.util.basic import qonnx_make_model


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
