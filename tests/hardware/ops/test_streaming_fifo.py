# SPDX-License-Identifier: Apache-2.0
"""Queues: every beat in its order, as many held as the depth says, a beat in and a beat out in every cycle."""

from __future__ import annotations

import numpy as np
import pytest
from node_bench import Labelled, NodeBench, draw, hardware_op

IMAGES = 4
STYLES = {"srl": (2, 3, 7, 33, 40), "distributed": (3, 4, 66), "block": (3, 17, 65), "ultra": (5,)}
DATATYPES = ("UINT4", "INT5", "UINT8")


def queue(depth, style, datatype="UINT4", lanes=3, beats=24):
    shape = [1, beats, lanes]
    return hardware_op(
        "StreamingFIFO_rtl", depth=depth, ram_style=style, folded_shape=shape, normal_shape=shape, dataType=datatype
    )


CASES = {
    f"{style}{depth}": queue(depth, style, DATATYPES[depth % 3], lanes=1 + depth % 3)
    for style, depths in STYLES.items()
    for depth in depths
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory, verilated_runtime):
    return NodeBench(tmp_path_factory.mktemp("fifo"), verilated_runtime, CASES)


@pytest.mark.parametrize("stall", [0.2, 0.6])
@pytest.mark.parametrize("label", CASES)
def test_beats_keep_their_order_under_random_stalls(bench, label, stall):
    streams = draw(np.random.default_rng(3), bench.ops[label], IMAGES)
    assert np.array_equal(bench.run(label, streams, stall).streams[0], streams[0])


@pytest.mark.parametrize("label", CASES)
def test_a_beat_enters_and_leaves_in_every_cycle(bench, label):
    outcome = bench.run(label, draw(np.random.default_rng(4), bench.ops[label], IMAGES))
    assert set(np.diff(outcome.at[0])) == {1}


@pytest.mark.parametrize("label", CASES)
def test_it_holds_as_many_beats_as_it_is_deep(bench, label):
    ports, op = Labelled(bench.model, label), bench.ops[label]
    ports["out0_V_TREADY"], ports["in0_V_TVALID"], taken = 0, 1, 0
    for _ in range(3 * op.get_nodeattr("depth")):
        ports.settle()
        taken += ports["in0_V_TREADY"]
        ports.tick()
    ports["in0_V_TVALID"], given = 0, 0
    ports["out0_V_TREADY"] = 1
    for _ in range(3 * op.get_nodeattr("depth")):
        ports.settle()
        given += ports["out0_V_TVALID"]
        ports.tick()
    assert taken == given == op.get_nodeattr("depth")


@pytest.mark.parametrize(
    ("depth", "lanes", "style", "in_ram"),
    [(2, 1, "srl", 0), (33, 8, "srl", 0), (100, 1, "distributed", 1), (1000, 8, "block", 1), (2000, 16, "ultra", 1)],
)
def test_auto_is_the_cheapest_style(depth, lanes, style, in_ram):
    op = queue(depth, "auto", lanes=lanes)
    assert op.resolve_ram_style() == style
    given = op.parameters("xck26-sfvc784-2LV-c")
    assert given["InRam"] == in_ram and given["Bits"] == 4 * lanes and given["Depth"] == depth
    assert given["RamStyle"] == (style if in_ram else "block")


def test_it_takes_the_place_of_finns():
    assert type(queue(2, "auto")).__module__ == "bitward.hardware.ops.streaming_fifo"
    assert queue(2, "auto").get_exp_cycles() == 0
