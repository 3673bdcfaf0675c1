# SPDX-License-Identifier: Apache-2.0
"""Forks: every output gives the whole stream, each at its own pace."""

from __future__ import annotations

import numpy as np
import pytest
from node_bench import PART, NodeBench, draw, engine_op, hardware_op

from bitward.errors import ModelError

IMAGES = 4
CASES = {  # outputs, channels, PE, vectors, type
    "two": (2, 3, 1, [1, 2, 2], "UINT4"),
    "three_lanes": (3, 6, 3, [1, 2, 1], "INT5"),
    "wide": (2, 9, 9, [1], "INT8"),
    "eight": (8, 2, 2, [1, 3], "UINT3"),
}


def fork(outputs, channels, pe, vectors, datatype, attribute=None):
    return hardware_op(
        "DuplicateStreams_rtl", outputs=outputs, NumOutputStreams=attribute or outputs, NumChannels=channels, PE=pe,
        numInputVectors=vectors, inputDataType=datatype,
    )  # fmt: skip


@pytest.fixture(scope="module")
def bench(tmp_path_factory, verilated_runtime):
    folder = tmp_path_factory.mktemp("duplicate")
    return NodeBench(folder, verilated_runtime, {label: fork(*case) for label, case in CASES.items()})


@pytest.mark.parametrize("label", CASES)
def test_every_output_gives_the_stream_under_random_stalls(bench, label):
    (stream,) = draw(np.random.default_rng(3), bench.ops[label], IMAGES)
    outcome = bench.run(label, [stream], stall=0.4)
    copies = engine_op(bench.ops[label]).apply((stream,), None)
    assert len(outcome.streams) == len(copies) == CASES[label][0]
    for got in (*outcome.streams, *copies):
        assert np.array_equal(got, stream)
    assert len({tuple(at) for at in outcome.at}) > 1, "the outputs must have been taken at different times"


@pytest.mark.parametrize("label", CASES)
def test_a_beat_leaves_every_cycle_also_between_images(bench, label):
    op = bench.ops[label]
    outcome = bench.run(label, draw(np.random.default_rng(4), op, IMAGES))
    for output, at in enumerate(outcome.at):
        assert outcome.steady(IMAGES, output) == [op.get_exp_cycles()] * (IMAGES - 1)
        assert at == list(range(1, len(at) + 1))


def test_an_output_may_take_its_beat_while_another_waits(bench):
    """Output 1 never takes: output 0 gets exactly one beat, and the next comes in with output 1's first taking."""
    model = bench.model
    model["two_in0_V_TVALID"], model["two_in0_V_TDATA"] = 1, 5
    model["two_out0_V_TREADY"], model["two_out1_V_TREADY"] = 1, 0
    model.tick()
    seen = []
    for _ in range(4):
        seen.append((model["two_out0_V_TVALID"], model["two_out1_V_TVALID"], model["two_in0_V_TREADY"]))
        model.tick()
    assert seen == [(1, 1, 0), (0, 1, 0), (0, 1, 0), (0, 1, 0)]
    model["two_in0_V_TVALID"], model["two_out1_V_TREADY"] = 0, 1
    model.settle()
    assert model["two_in0_V_TREADY"] == 1
    model.tick()
    assert (model["two_out0_V_TVALID"], model["two_out1_V_TVALID"]) == (0, 0)


def test_the_engine_has_an_end_for_each_output():
    op = engine_op(fork(*CASES["three_lanes"]))
    assert [(end.count, str(end.type)) for end in (*op.sources, *op.results)] == [(12, "INT5")] * 4


@pytest.mark.parametrize(("outputs", "attribute"), [(1, 1), (9, 9), (2, 3)])
def test_what_the_module_has_not_is_refused(outputs, attribute):
    message = (
        rf"^node dut \(DuplicateStreams_rtl\) must have NumOutputStreams = 2 to 8 outputs, got "
        rf"{attribute} and {outputs}: fork a fork for more\.$"
    )
    with pytest.raises(ModelError, match=message):
        fork(outputs, 2, 1, [1], "UINT4", attribute).parameters(PART)
