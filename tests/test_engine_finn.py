# SPDX-License-Identifier: Apache-2.0
"""Without faults the engine equals FINN's own Python execution of the abstract operators, on a small CNN."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from engine_graphs import graph, manifest, mvau, node, thresholding, thresholds, weights, words_of
from onnx import TensorProto, helper

from bitward.engine import HardwareEngine
from bitward.schemes import Plain, Tmr
from bitward.tools import finn_environment

RNG = np.random.default_rng(11)
WEIGHTS = {"conv": RNG.integers(-8, 8, (27, 4)), "dense": RNG.integers(-8, 8, (16, 6))}
LISTS = {"act": np.sort(RNG.integers(-300, 300, (4, 15)), axis=1)}
POOL_WINDOW = {
    "ConvKernelDim": [2, 2],
    "IFMChannels": 4,
    "IFMDim": [4, 4],
    "OFMDim": [2, 2],
    "Stride": [2, 2],
    "Dilation": [1, 1],
}
WINDOW = {
    "ConvKernelDim": [3, 3],
    "IFMChannels": 3,
    "IFMDim": [6, 6],
    "OFMDim": [4, 4],
    "Stride": [1, 1],
    "Dilation": [1, 1],
}
KINDS = {"inputDataType": "UINT4", "outputDataType": "UINT4"}

UNITS = [  # op_type, name, input and output shapes of an image in FINN's graph, attributes
    (
        "FMPadding_rtl",
        "pad",
        (4, 4, 3),
        (6, 6, 3),
        {"ImgDim": [4, 4], "NumChannels": 3, "SIMD": 1, "Padding": [1, 1, 1, 1], "inputDataType": "UINT4"},
    ),
    ("ConvolutionInputGenerator_rtl", "swg", (6, 6, 3), (4, 4, 27), dict(SIMD=3, **WINDOW, **KINDS)),
    (
        "StoredMVAU_rtl",
        "conv",
        (4, 4, 27),
        (4, 4, 4),
        {
            "MW": 27,
            "MH": 4,
            "PE": 2,
            "SIMD": 9,
            "numInputVectors": [1, 4, 4],
            "weightDataType": "INT4",
            "inputDataType": "UINT4",
            "outputDataType": "INT12",
            "noActivation": 1,
        },
    ),
    (
        "Thresholding_rtl",
        "act",
        (4, 4, 4),
        (4, 4, 4),
        {
            "NumChannels": 4,
            "PE": 2,
            "numSteps": 15,
            "numInputVectors": [1, 4, 4],
            "weightDataType": "INT13",
            "inputDataType": "INT12",
            "outputDataType": "UINT4",
            "ActVal": 0,
        },
    ),
    ("ConvolutionInputGenerator_rtl", "swp", (4, 4, 4), (2, 2, 16), dict(SIMD=2, depthwise=1, **POOL_WINDOW, **KINDS)),
    (
        "Pool_rtl",
        "pool",
        (2, 2, 16),
        (2, 2, 4),
        {
            "Channels": 4,
            "PE": 2,
            "KernelSize": [2, 2],
            "OutImgDims": [2, 2],
            "Function": "MaxPool",
            "InputDataType": "UINT4",
            "OutputDataType": "UINT4",
        },
    ),
    (
        "StoredMVAU_rtl",
        "dense",
        (16,),
        (6,),
        {
            "MW": 16,
            "MH": 6,
            "PE": 3,
            "SIMD": 4,
            "weightDataType": "INT4",
            "inputDataType": "UINT4",
            "outputDataType": "INT16",
            "noActivation": 1,
        },
    ),
]
ABSTRACT = {"StoredMVAU_rtl": "MVAU"}


def finn_output(images):
    """Every image through FINN's abstract operators, one after the other."""
    from finn.custom_op.fpgadataflow import custom_op as registered
    from qonnx.util.basic import qonnx_make_model

    results = []
    for image in images:
        value = image[None].astype(np.float32)
        for op_type, name, before, after, attributes in UNITS:
            abstract = ABSTRACT.get(op_type, op_type.removesuffix("_rtl"))
            made = helper.make_node(abstract, ["x", "p"], ["y"], name=name, domain="finn.custom_op.fpgadataflow",
                                    backend="fpgadataflow", **attributes)  # fmt: skip
            ends = [
                helper.make_tensor_value_info(t, TensorProto.FLOAT, [1, *s]) for t, s in (("x", before), ("y", after))
            ]
            model = qonnx_make_model(helper.make_graph([made], "one", ends[:1], ends[1:]))
            parameters = {**WEIGHTS, **LISTS}.get(name, np.zeros(1)).astype(np.float32)
            context = {"x": value.reshape(1, *before), "p": parameters, "y": np.zeros((1, *after), np.float32)}
            registered[abstract](made).execute_node(context, model.graph)
            value = context["y"]
        results.append(value[0])
    return np.stack(results)


@pytest.mark.parametrize("scheme", [Plain(4), Tmr(4, 1), Tmr(4, 4)], ids=str)
def test_the_engine_equals_finns_execution(scheme, tmp_path):
    memories = [
        weights("conv", 27, 4, 2, 9, scheme),
        thresholds("act", 4, 2, 15, 13, True, 4),
        weights("dense", 16, 6, 3, 4, scheme),
    ]
    tensors = {"conv.weight": WEIGHTS["conv"], "act.threshold": LISTS["act"], "dense.weight": WEIGHTS["dense"]}
    stored = {m.name: m.image(words_of(tensors[m.name], m.format.bits)) for m in memories}
    makers = {"StoredMVAU_rtl": lambda name, a: mvau(name, a.pop("MW"), a.pop("MH"), a.pop("PE"), a.pop("SIMD"), **a)}
    makers["Thresholding_rtl"] = lambda name, a: thresholding(
        name, a.pop("NumChannels"), a.pop("PE"), a.pop("numSteps"), **a
    )
    units = [
        makers[op](name, dict(attributes)) if op in makers else node(op, name, **attributes)
        for op, name, _, _, attributes in UNITS
    ]
    engine = HardwareEngine(graph(units), manifest(memories, ((4, 4, 3), "UINT4"), ((6,), "INT16")), stored)
    images = np.random.default_rng(12).integers(0, 16, (6, 4, 4, 3))
    pytest.importorskip("qonnx", reason="FINN's Python execution needs qonnx")
    if importlib.util.find_spec("finn") is None:
        pytest.skip("finn-plus is not installed")
    with finn_environment(tmp_path):
        expected = finn_output(images)
    assert len(np.unique(expected)) > 10
    assert np.array_equal(engine.infer(images), expected)
