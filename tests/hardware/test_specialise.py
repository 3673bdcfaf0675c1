# SPDX-License-Identifier: Apache-2.0
"""Specialising: every operator has one RTL back end, whatever FINN would prefer; nothing becomes HLS."""

from __future__ import annotations

import pytest
from onnx import TensorProto, helper
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.util.basic import qonnx_make_model

from bitward.errors import ModelError
from bitward.hardware.specialise import ABSTRACT_DOMAIN, RTL_DOMAIN, back_ends, specialise


def model_of(*op_types: str, parameter: str = "") -> ModelWrapper:
    """A chain of abstract nodes; the first reads `parameter` too."""
    nodes = [
        helper.make_node(
            op, [f"t{at}", *([parameter] if parameter and at == 0 else [])], [f"t{at + 1}"], name=f"{op}_{at}",
            domain=ABSTRACT_DOMAIN, backend="fpgadataflow", preferred_impl_style="hls",
        )
        for at, op in enumerate(op_types)
    ]  # fmt: skip
    ends = [helper.make_tensor_value_info(f"t{at}", TensorProto.FLOAT, [1, 4]) for at in (0, len(nodes))]
    return ModelWrapper(qonnx_make_model(helper.make_graph(nodes, "chain", ends[:1], ends[1:])))


def test_every_operator_that_lowering_emits_has_a_back_end():
    plain, storing = back_ends()
    emitted = (
        "ConvolutionInputGenerator FMPadding FMPadding_Pixel Pool GlobalAccPool ElementwiseAdd DuplicateStreams "
        "StreamingConcat StreamingSplit UpsampleNearestNeighbour LabelSelect StreamingFIFO StreamingDataWidthConverter"
    )
    assert set(emitted.split()) <= set(plain)
    assert storing == {
        "MVAU": "StoredMVAU_rtl",
        "VVAU": "StoredVVAU_rtl",
        "Thresholding": "StoredThresholding_rtl",
        "ElementwiseAdd": "StoredBias_rtl",
    }
    assert all(name.endswith("_rtl") for name in (*plain.values(), *storing.values()))


def test_nodes_become_what_the_table_says_though_hls_is_preferred():
    model = specialise(model_of("MVAU", "Pool", "FMPadding", "Pool", parameter="a.weight"), {"a.weight"})
    assert [node.op_type for node in model.graph.node] == ["StoredMVAU_rtl", "Pool_rtl", "FMPadding_rtl", "Pool_rtl"]
    assert [node.name for node in model.graph.node][1::2] == ["Pool_rtl_0", "Pool_rtl_1"]
    assert {node.domain for node in model.graph.node} == {RTL_DOMAIN}
    assert not any(a.name == "preferred_impl_style" for node in model.graph.node for a in node.attribute)


def test_nodes_that_are_rtl_already_keep_their_names():
    model = specialise(model_of("FMPadding", "Pool", "FMPadding"), {})
    model.graph.node[0].name, model.graph.node[2].name = "FMPadding_rtl_1", "FMPadding_rtl_0"
    model.graph.node[1].op_type, model.graph.node[1].domain = "FMPadding", ABSTRACT_DOMAIN
    names = [node.name for node in specialise(model, {}).graph.node]
    assert names == ["FMPadding_rtl_1", "FMPadding_rtl_2", "FMPadding_rtl_0"]


def test_a_sum_with_a_parameter_is_a_memory_and_one_of_streams_is_none():
    assert (
        specialise(model_of("ElementwiseAdd", parameter="a.bias"), {"a.bias"}).graph.node[0].op_type == "StoredBias_rtl"
    )
    assert specialise(model_of("ElementwiseAdd", parameter="t"), {}).graph.node[0].op_type == "ElementwiseAdd_rtl"


@pytest.mark.parametrize(
    ("op", "parameter", "sentence"),
    [
        ("Shuffle", "", r"^node Shuffle_0 \(Shuffle\) must be an operator that has RTL, got Shuffle; "),
        (
            "Thresholding",
            "t",
            r"^node Thresholding_0 \(Thresholding\) must be an operator that has RTL, got Thresholding; ",
        ),
        ("Pool", "a.weight", r"^node Pool_0 \(Pool\) must be an operator that has RTL with a memory, got Pool; "),
    ],
)
def test_what_has_no_rtl_is_refused(op, parameter, sentence):
    with pytest.raises(ModelError, match=sentence):
        specialise(model_of(op, parameter=parameter), {"a.weight"})
