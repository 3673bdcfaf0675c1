# SPDX-License-Identifier: Apache-2.0
"""Zeros between pixels: RTL, back end and engine against numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from node_bench import PART, NodeBench, draw, engine_op, hardware_op

from bitward.errors import ModelError

IMAGES = 4
CASES = {  # (height, width), (down, right), channels, SIMD, datatype
    "square": ((3, 3), (2, 2), 1, 1, "UINT4"),
    "odd_channels": ((2, 4), (2, 3), 5, 1, "INT3"),
    "simd": ((3, 2), (3, 2), 6, 3, "UINT2"),
    "whole_pixel_a_beat": ((2, 2), (2, 2), 4, 4, "INT8"),
    "rows_only": ((3, 2), (2, 1), 2, 1, "UINT5"),
    "columns_only": ((2, 3), (1, 4), 2, 2, "UINT4"),
    "one_pixel": ((1, 1), (2, 2), 2, 1, "UINT4"),
    "as_it_is": ((2, 2), (1, 1), 1, 1, "UINT4"),
}


def padding(size, stride, channels, simd, datatype):
    shape = {"ImgDim": list(size), "Stride": list(stride), "NumChannels": channels, "SIMD": simd}
    return hardware_op("FMPadding_Pixel_rtl", inputDataType=datatype, **shape)


@pytest.fixture(scope="module")
def bench(tmp_path_factory, verilated_runtime):
    folder = tmp_path_factory.mktemp("pixelpad")
    return NodeBench(folder, verilated_runtime, {label: padding(*case) for label, case in CASES.items()})


def expected(stream, size, stride, channels):
    """np.insert before each pixel but the first, along both dimensions."""
    images = stream.reshape(IMAGES, *size, channels)
    for axis, count in enumerate(stride, start=1):
        before = np.repeat(np.arange(1, images.shape[axis]), count - 1)
        images = np.insert(images, before, 0, axis=axis)
    return images.reshape(IMAGES, -1)


@pytest.mark.parametrize("label", CASES)
def test_zeros_stand_between_pixels_under_random_stalls(bench, label):
    streams = draw(np.random.default_rng(3), bench.ops[label], IMAGES)
    wanted = expected(streams[0], *CASES[label][:3])
    assert np.array_equal(bench.run(label, streams, stall=0.4).streams[0], wanted)
    assert np.array_equal(engine_op(bench.ops[label]).run(streams[0], None), wanted)


@pytest.mark.parametrize("label", CASES)
def test_a_beat_leaves_every_cycle_also_between_images(bench, label):
    op = bench.ops[label]
    outcome = bench.run(label, draw(np.random.default_rng(4), op, IMAGES))
    assert outcome.steady(IMAGES) == [op.get_exp_cycles()] * (IMAGES - 1)
    assert outcome.at[0] == list(range(outcome.at[0][0], outcome.at[0][0] + len(outcome.at[0])))


@pytest.mark.parametrize("label", CASES)
def test_engine_and_back_end_agree_on_counts_and_types(label):
    op, datatype = padding(*CASES[label]), CASES[label][4]
    modelled = engine_op(op)
    assert (modelled.inputs, str(modelled.source)) == (math.prod(op.get_normal_input_shape()), datatype)
    assert (modelled.outputs, str(modelled.result)) == (math.prod(op.get_normal_output_shape()), datatype)


def test_a_folding_that_cuts_a_pixel_is_refused():
    op = padding((2, 2), (2, 2), 3, 2, "UINT4")
    says = r"^node dut \(FMPadding_Pixel_rtl\) must have a SIMD that divides 3 channels, got 2: fold by a divisor\.$"
    with pytest.raises(ModelError, match=says):
        op.parameters(PART)
