# SPDX-License-Identifier: Apache-2.0
"""Split over channels: RTL, back end and engine against numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from node_bench import PART, NodeBench, draw, engine_op, hardware_op

from bitward.errors import ModelError

IMAGES = 5
CASES = {
    "two": (1, [2, 1], "UINT4", [1]),
    "odd_channels": (1, [3, 5], "INT2", [1, 2, 3]),
    "simd": (3, [3, 6, 9], "UINT8", [1, 2, 2]),
    "whole_stream_a_beat": (2, [2, 2], "INT5", [1, 3, 1]),
    "eight": (1, [1, 2, 1, 3, 1, 1, 2, 1], "UINT3", [1, 2, 1]),
}


def split(simd, channels, datatype, vectors):
    shape = {"SIMD": simd, "ChannelsPerStream": channels, "numInputVectors": vectors}
    return hardware_op("StreamingSplit_rtl", 1, len(channels), inputDataType=datatype, **shape)


@pytest.fixture(scope="module")
def bench(tmp_path_factory, verilated_runtime):
    folder = tmp_path_factory.mktemp("split")
    return NodeBench(folder, verilated_runtime, {label: split(*case) for label, case in CASES.items()})


@pytest.mark.parametrize("label", CASES)
def test_split_is_numpys_under_random_stalls(bench, label):
    _, channels, _, vectors = CASES[label]
    (stream,) = draw(np.random.default_rng(3), bench.ops[label], IMAGES)
    parts = np.split(stream.reshape(IMAGES, math.prod(vectors), -1), np.cumsum(channels)[:-1], axis=2)
    got = bench.run(label, [stream], stall=0.4).streams
    modelled = engine_op(bench.ops[label]).apply((stream,), None)
    for rtl, engine, part in zip(got, modelled, parts, strict=True):
        assert np.array_equal(rtl, part.reshape(IMAGES, -1))
        assert np.array_equal(engine, part.reshape(IMAGES, -1))


@pytest.mark.parametrize("label", CASES)
def test_a_beat_leaves_every_cycle_also_between_images(bench, label):
    op = bench.ops[label]
    outcome = bench.run(label, draw(np.random.default_rng(4), op, IMAGES))
    for output, beats in enumerate(outcome.at):
        assert outcome.steady(IMAGES, output) == [op.get_exp_cycles()] * (IMAGES - 1)
        assert len(beats) == IMAGES * op.get_number_output_values()[f"out{output}"]
    at = sorted(cycle for beats in outcome.at for cycle in beats)
    assert at == list(range(at[0], at[0] + IMAGES * op.get_exp_cycles()))


@pytest.mark.parametrize("label", CASES)
def test_engine_and_back_end_agree_on_counts_and_types(label):
    op = split(*CASES[label])
    outputs, datatype = range(len(CASES[label][1])), CASES[label][2]
    modelled = engine_op(op)
    assert [(e.count, str(e.type)) for e in modelled.sources] == [(math.prod(op.get_normal_input_shape()), datatype)]
    ends = [(math.prod(op.get_normal_output_shape(i)), op.get_output_datatype(i).name) for i in outputs]
    assert [(end.count, str(end.type)) for end in modelled.results] == ends


@pytest.mark.parametrize(
    ("simd", "channels", "says"),
    [
        (2, [2, 3], r"a SIMD that divides 3 channels, got 2: fold by a divisor\."),
        (1, [4], r"2 to 8 streams of at least one channel, got \[4\]: split the node in two\."),
    ],
)
def test_what_the_module_has_not_is_refused(simd, channels, says):
    op = split(simd, channels, "UINT4", [1])
    with pytest.raises(ModelError, match=rf"^node dut \(StreamingSplit_rtl\) must have {says}$"):
        op.parameters(PART)
