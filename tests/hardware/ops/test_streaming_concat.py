# SPDX-License-Identifier: Apache-2.0
"""Concatenation over channels: RTL, back end and engine against numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from node_bench import PART, NodeBench, draw, engine_op, hardware_op

from bitward.engine.datatypes import IntegerType
from bitward.engine.ops.streaming_concat import holding
from bitward.errors import ModelError

IMAGES = 5
CASES = {
    "two": (1, [1, 2], ["UINT4", "UINT4"], [1]),
    "odd_channels": (1, [3, 5], ["UINT2", "UINT2"], [1, 2, 3]),
    "simd": (2, [2, 6], ["INT4", "INT4"], [1, 2, 2]),
    "widened": (3, [3, 6, 9], ["UINT4", "INT3", "INT8"], [1, 2, 1]),
    "unsigned_with_signed": (1, [2, 1], ["UINT8", "INT2"], [4]),
    "whole_vector_a_beat": (4, [4, 4], ["INT5", "INT5"], [1, 3, 1]),
    "eight": (1, [1, 2, 1, 3, 1, 1, 2, 1], ["UINT3"] * 8, [1, 2, 1]),
}


def concat(simd, channels, types, vectors):
    shape = {"SIMD": simd, "ChannelsPerStream": channels, "numInputVectors": vectors}
    return hardware_op("StreamingConcat_rtl", len(channels), inputDataTypes=types, **shape)


@pytest.fixture(scope="module")
def bench(tmp_path_factory, verilated_runtime):
    folder = tmp_path_factory.mktemp("concat")
    return NodeBench(folder, verilated_runtime, {label: concat(*case) for label, case in CASES.items()})


def expected(streams, channels, vectors):
    parts = [s.reshape(IMAGES, math.prod(vectors), c) for s, c in zip(streams, channels, strict=True)]
    return np.concatenate(parts, axis=2).reshape(IMAGES, -1)


@pytest.mark.parametrize("label", CASES)
def test_concat_is_numpys_under_random_stalls(bench, label):
    streams = draw(np.random.default_rng(3), bench.ops[label], IMAGES)
    wanted = expected(streams, CASES[label][1], CASES[label][3])
    assert np.array_equal(bench.run(label, streams, stall=0.4).streams[0], wanted)
    assert np.array_equal(engine_op(bench.ops[label]).apply(tuple(streams), None)[0], wanted)


@pytest.mark.parametrize("label", CASES)
def test_a_beat_leaves_every_cycle_also_between_images(bench, label):
    op = bench.ops[label]
    outcome = bench.run(label, draw(np.random.default_rng(4), op, IMAGES))
    assert outcome.steady(IMAGES) == [op.get_exp_cycles()] * (IMAGES - 1)
    assert outcome.at[0] == list(range(outcome.at[0][0], outcome.at[0][0] + len(outcome.at[0])))


@pytest.mark.parametrize("label", CASES)
def test_engine_and_back_end_agree_on_counts_and_types(label):
    op = concat(*CASES[label])
    modelled = engine_op(op)
    inputs = range(op.get_n_inputs())
    ends = [(math.prod(op.get_normal_input_shape(i)), op.get_input_datatype(i).name) for i in inputs]
    assert [(end.count, str(end.type)) for end in modelled.sources] == ends
    assert [(end.count, str(end.type)) for end in modelled.results] == [
        (math.prod(op.get_normal_output_shape()), op.get_output_datatype().name)
    ]


def test_the_narrowest_type_that_holds_all():
    assert holding((IntegerType(4, False), IntegerType(8, False))) == IntegerType(8, False)
    assert holding((IntegerType(8, False), IntegerType(2, True))) == IntegerType(9, True)
    assert holding((IntegerType(3, True), IntegerType(8, True))) == IntegerType(8, True)


@pytest.mark.parametrize(
    ("simd", "channels", "says"),
    [
        (2, [2, 3], r"a SIMD that divides 3 channels, got 2: fold by a divisor\."),
        (0, [2, 3], r"a SIMD that divides 2 channels, got 0: fold by a divisor\."),
        (1, [2], r"2 to 8 streams of at least one channel, got \[2\]: split the node in two\."),
        (1, [1] * 9, r"2 to 8 streams of at least one channel, got \[1, 1, 1, 1, 1, 1, 1, 1, 1\]: split .*"),
        (1, [1, 0], r"2 to 8 streams of at least one channel, got \[1, 0\]: split the node in two\."),
    ],
)
def test_what_the_module_has_not_is_refused(simd, channels, says):
    op = concat(simd, channels, ["UINT4"] * len(channels), [1])
    with pytest.raises(ModelError, match=rf"^node dut \(StreamingConcat_rtl\) must have {says}$"):
        op.parameters(PART)
