# SPDX-License-Identifier: Apache-2.0
"""Max and average pooling: RTL, back end and engine against numpy."""

from __future__ import annotations

import numpy as np
import pytest
from node_bench import PART, NodeBench, draw, engine_op, hardware_op

from bitward.errors import ModelError

IMAGES = 4
CASES = {  # function, channels, PE, kernel, output size, input type, output type
    "max_one_lane": ("MaxPool", 3, 1, [2, 2], [2, 3], "UINT4", "UINT4"),
    "max_signed": ("MaxPool", 6, 3, [2, 2], [2, 1], "INT5", "INT5"),
    "max_oblong": ("MaxPool", 5, 5, [3, 2], [1, 2], "UINT2", "UINT2"),
    "max_one_tap": ("MaxPool", 2, 1, [1, 1], [2, 2], "INT8", "INT8"),
    "sum_one_lane": ("AccPool", 3, 1, [2, 2], [2, 2], "UINT4", "UINT6"),
    "sum_signed": ("AccPool", 4, 2, [3, 3], [1, 2], "INT4", "INT8"),
    "sum_in_fewer_bits": ("AccPool", 3, 3, [5, 1], [1, 2], "UINT2", "UINT4"),
    "sum_in_more_bits": ("AccPool", 2, 2, [2, 2], [2, 2], "INT3", "INT16"),
    "sum_one_tap": ("AccPool", 2, 1, [1, 1], [2, 2], "INT8", "INT8"),
    "average": ("QuantAvgPool", 3, 1, [2, 2], [2, 2], "UINT4", "UINT4"),
    "average_signed": ("QuantAvgPool", 4, 4, [2, 2], [2, 2], "INT4", "INT3"),
    "average_unshifted": ("QuantAvgPool", 3, 3, [3, 3], [1, 2], "UINT2", "UINT8"),
}
TAPS_OF_FOUR = {"average": 2, "average_signed": 3, "average_unshifted": 0}  # bits that each average drops


def pool(function, channels, pe, kernel, size, source, result):
    types = {"InputDataType": source, "OutputDataType": result}
    return hardware_op(
        "Pool_rtl", Function=function, Channels=channels, PE=pe, KernelSize=kernel, OutImgDims=size, **types
    )


def expected(label, stream):
    """By numpy, on the order in which a depthwise window sends its taps."""
    function, _, pe, kernel, *_ = CASES[label]
    taps = stream.reshape(len(stream), -1, kernel[0] * kernel[1], pe)
    if function == "MaxPool":
        return taps.max(axis=2).reshape(len(stream), -1)
    return (taps.sum(axis=2) // 2 ** TAPS_OF_FOUR.get(label, 0)).reshape(len(stream), -1)


@pytest.fixture(scope="module")
def bench(tmp_path_factory, verilated_runtime):
    folder = tmp_path_factory.mktemp("pool")
    return NodeBench(folder, verilated_runtime, {label: pool(*case) for label, case in CASES.items()})


@pytest.mark.parametrize("label", CASES)
def test_pooling_is_numpys_under_random_stalls(bench, label):
    (stream,) = draw(np.random.default_rng(3), bench.ops[label], IMAGES)
    assert np.array_equal(bench.run(label, [stream], stall=0.4).streams[0], expected(label, stream))
    assert np.array_equal(engine_op(bench.ops[label]).apply((stream,), None)[0], expected(label, stream))


@pytest.mark.parametrize("label", [label for label, case in CASES.items() if case[0] != "MaxPool"])
def test_extreme_sums_are_exact(bench, label):
    op = bench.ops[label]
    size = np.prod(op.get_folded_input_shape())
    stream = np.array([[int(op.get_input_datatype().min())] * size, [int(op.get_input_datatype().max())] * size])
    assert np.array_equal(bench.run(label, [stream]).streams[0], expected(label, stream))


@pytest.mark.parametrize("label", CASES)
def test_a_beat_comes_in_every_cycle_also_between_images(bench, label):
    op = bench.ops[label]
    outcome = bench.run(label, draw(np.random.default_rng(4), op, IMAGES))
    assert outcome.steady(IMAGES) == [op.get_exp_cycles()] * (IMAGES - 1)
    taps = CASES[label][3][0] * CASES[label][3][1]
    assert outcome.at[0] == list(range(taps, taps * (len(outcome.at[0]) + 1), taps))


@pytest.mark.parametrize("label", CASES)
def test_finns_node_in_numpy_agrees(label):
    """Unfolded, as FINN's abstract operator takes its taps: (window, tap, channel)."""
    op = pool(*CASES[label])
    stream = draw(np.random.default_rng(5), op, 1)[0].reshape(op.get_normal_input_shape()).astype(np.float32)
    context = {"in0": stream, "out0": np.zeros(op.get_normal_output_shape(), np.float32)}
    op.execute_node(context, None)
    _, channels, _, kernel, *_ = CASES[label]
    taps = stream.reshape(-1, kernel[0] * kernel[1], channels).astype(int)
    if CASES[label][0] == "MaxPool":
        assert np.array_equal(context["out0"].reshape(-1, channels), taps.max(axis=1))
    else:
        assert np.array_equal(context["out0"].reshape(-1, channels), taps.sum(axis=1) >> TAPS_OF_FOUR.get(label, 0))


@pytest.mark.parametrize("function", ["MaxPool", "AccPool"])
@pytest.mark.parametrize("lanes", [1, 2, 4])
def test_overlapping_windows_are_pooled_as_numpys(function, lanes):
    """In the engine, behind a depthwise window: kernel 3 x 3, stride 2 x 1."""
    images = np.random.default_rng(6).integers(-8, 8, (3, 7, 6, 4))
    window = hardware_op(
        "ConvolutionInputGenerator_rtl", IFMDim=[7, 6], IFMChannels=4, ConvKernelDim=[3, 3], Stride=[2, 1],
        Dilation=[1, 1], OFMDim=[3, 4], SIMD=lanes, depthwise=1, inputDataType="INT4", outputDataType="INT4",
    )  # fmt: skip
    taken = engine_op(window).run(images.reshape(3, -1), None)
    result = "INT4" if function == "MaxPool" else "INT8"
    got = engine_op(pool(function, 4, lanes, [3, 3], [3, 4], "INT4", result)).run(taken, None)
    windows = np.lib.stride_tricks.sliding_window_view(images, (3, 3), axis=(1, 2))[:, ::2]
    wanted = windows.max(axis=(-2, -1)) if function == "MaxPool" else windows.sum(axis=(-2, -1))
    assert np.array_equal(got.reshape(wanted.shape), wanted)


@pytest.mark.parametrize(
    ("case", "says"),
    [
        (
            ("AvgPool", 1, 1, [2, 2], [1, 1], "UINT4", "UINT4"),
            r"pool by MaxPool, AccPool or QuantAvgPool, got AvgPool: ",
        ),
        (
            ("AccPool", 1, 1, [2, 2], [1, 1], "UINT4", "UINT5"),
            r"have an OutputDataType that holds 0 to 60, got UINT5: widen it\.$",
        ),
        (
            ("QuantAvgPool", 1, 1, [5, 1], [1, 1], "INT2", "INT4"),
            r"have an OutputDataType that holds -10 to 5, got INT4: widen it\.$",
        ),
    ],
)
def test_what_the_module_has_not_is_refused(case, says):
    with pytest.raises(ModelError, match=rf"^node dut \(Pool_rtl\) must {says}"):
        pool(*case).parameters(PART)


def test_the_engine_refuses_an_average_that_no_hardware_takes():
    message = r"^node dut \(Pool_rtl\) must have a Function of MaxPool, AccPool, QuantAvgPool, got AvgPool; the engine "
    with pytest.raises(ModelError, match=message):
        engine_op(pool("AvgPool", 1, 1, [2, 2], [1, 1], "UINT4", "UINT4"))
