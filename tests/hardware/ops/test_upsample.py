# SPDX-License-Identifier: Apache-2.0
"""Nearest neighbour up-sampling: RTL, back end and engine against numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from node_bench import PART, NodeBench, draw, engine_op, hardware_op

from bitward.errors import ModelError

IMAGES = 4
CASES = {  # (height, width), (down, right), channels, SIMD, datatype
    "square": ((3, 3), (2, 2), 1, 1, "UINT4"),
    "odd_channels": ((2, 3), (2, 3), 5, 1, "INT3"),
    "simd": ((3, 2), (3, 2), 6, 3, "UINT2"),
    "whole_pixel_a_beat": ((2, 5), (2, 2), 4, 4, "INT8"),
    "rows_only": ((3, 2), (2, 1), 2, 1, "UINT5"),
    "columns_only": ((2, 3), (1, 4), 2, 2, "UINT4"),
    "one_pixel": ((1, 1), (3, 2), 2, 2, "UINT4"),
    "as_it_is": ((2, 1), (1, 1), 1, 1, "UINT4"),
}


def upsample(size, times, channels, simd, datatype):
    shape = {"HI": size[0], "WI": size[1], "HO": size[0] * times[0], "WO": size[1] * times[1]}
    return hardware_op(
        "UpsampleNearestNeighbour_rtl", inputDataType=datatype, NumChannels=channels, SIMD=simd, batchSize=1, **shape
    )


@pytest.fixture(scope="module")
def bench(tmp_path_factory, verilated_runtime):
    folder = tmp_path_factory.mktemp("upsample")
    return NodeBench(folder, verilated_runtime, {label: upsample(*case) for label, case in CASES.items()})


def expected(stream, size, times, channels):
    """Output pixel (y, x) is input pixel (y // down, x // right)."""
    rows, columns = (np.arange(count * many) // many for count, many in zip(size, times, strict=True))
    return stream.reshape(IMAGES, *size, channels)[:, rows][:, :, columns].reshape(IMAGES, -1)


@pytest.mark.parametrize("label", CASES)
def test_pixels_are_repeated_under_random_stalls(bench, label):
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


@pytest.mark.parametrize("label", ["square", "whole_pixel_a_beat", "rows_only", "columns_only"])
def test_up_to_two_rows_a_neighbour_of_the_same_pace_is_never_held_up(bench, label):
    op = bench.ops[label]
    outcome = bench.run(label, draw(np.random.default_rng(5), op, IMAGES), pace=math.prod(CASES[label][1]))
    assert outcome.steady(IMAGES) == [op.get_exp_cycles()] * (IMAGES - 1)


@pytest.mark.parametrize("label", CASES)
def test_engine_and_back_end_agree_on_counts_and_types(label):
    op, datatype = upsample(*CASES[label]), CASES[label][4]
    modelled = engine_op(op)
    assert (modelled.inputs, str(modelled.source)) == (math.prod(op.get_normal_input_shape()), datatype)
    assert (modelled.outputs, str(modelled.result)) == (math.prod(op.get_normal_output_shape()), datatype)


def test_the_abstract_operator_of_finn_agrees():
    op = upsample((3, 2), (3, 2), 6, 3, "UINT4")
    image = np.random.default_rng(6).integers(0, 16, (1, 3, 2, 6)).astype(np.float32)
    context = {"in0": image, "out0": np.zeros((1, 9, 4, 6), np.float32)}
    op.execute_node(context, None)
    assert np.array_equal(context["out0"].reshape(1, -1), engine_op(op).run(image.reshape(1, -1), None))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"SIMD": 4}, r"must have a SIMD that divides 6 channels, got 4: fold by a divisor\."),
        (
            {"HO": 7},
            r"must have an output height that is a multiple of the input's 3, got 7: scale by a whole number\.",
        ),
        ({"WO": 3}, r"must have an output width that is a multiple of the input's 2, got 3: scale by a whole number\."),
    ],
)
def test_what_the_module_has_not_is_refused(changed, says):
    op = upsample((3, 2), (3, 2), 6, 3, "UINT4")
    for name, value in changed.items():
        op.set_nodeattr(name, value)
    with pytest.raises(ModelError, match=rf"^node dut \(UpsampleNearestNeighbour_rtl\) {says}$"):
        op.parameters(PART)


def test_the_engine_refuses_a_scale_that_is_not_whole():
    op = upsample((3, 2), (3, 2), 6, 3, "UINT4")
    op.set_nodeattr("WO", 5)
    says = r"must scale by whole numbers, got 3x2 to 9x5; build again$"
    with pytest.raises(ModelError, match=rf"^node dut \(UpsampleNearestNeighbour_rtl\) {says}"):
        engine_op(op)
