# SPDX-License-Identifier: Apache-2.0
"""Converters of stream widths: every element in its place, and no cycle lost, for any ratio of widths."""

from __future__ import annotations

import math

import numpy as np
import pytest
from node_bench import PART, NodeBench, draw, hardware_op

from bitward.errors import ModelError

IMAGES = 3
RATIOS = [(1, 2), (2, 1), (2, 3), (3, 2), (3, 4), (1, 8), (8, 1), (9, 4), (4, 9), (5, 5), (27, 16), (16, 27), (6, 4)]


def converter(taken, given, datatype="UINT4", beats=2):
    """A node between beats of `taken` and of `given` elements; an image has `beats` times what both divide."""
    bits = int(datatype.strip("UINT"))
    shape = [1, beats, math.lcm(taken, given)]
    return hardware_op(
        "StreamingDataWidthConverter_rtl",
        inShape=shape, outShape=shape, inWidth=taken * bits, outWidth=given * bits, dataType=datatype,
    )  # fmt: skip


CASES = {f"from{taken}to{given}": (taken, given) for taken, given in RATIOS}
WIDTHS = {"odd_bits": (2, 3, "INT3"), "bits": (3, 5, "UINT1"), "wide": (3, 2, "INT24"), "one_beat": (4, 4, "UINT2", 1)}


@pytest.fixture(scope="module")
def bench(tmp_path_factory, verilated_runtime):
    ops = {label: converter(*case) for label, case in (CASES | WIDTHS).items()}
    return NodeBench(tmp_path_factory.mktemp("dwc"), verilated_runtime, ops)


@pytest.mark.parametrize("stall", [0.2, 0.6])
@pytest.mark.parametrize("label", CASES | WIDTHS)
def test_elements_keep_their_order_under_random_stalls(bench, label, stall):
    streams = draw(np.random.default_rng(3), bench.ops[label], IMAGES)
    assert np.array_equal(bench.run(label, streams, stall).streams[0], streams[0])


@pytest.mark.parametrize("label", CASES | WIDTHS)
def test_no_cycle_is_lost(bench, label):
    """The side with more beats moves one every cycle once its first beat has moved."""
    op = bench.ops[label]
    outcome = bench.run(label, draw(np.random.default_rng(4), op, IMAGES))
    assert outcome.steady(IMAGES) == [op.get_exp_cycles()] * (IMAGES - 1)
    beats = IMAGES * op.get_exp_cycles()
    assert outcome.at[0][-1] - outcome.at[0][0] < beats
    taken, given = (math.prod(shape[:-1]) for shape in (op.get_folded_input_shape(), op.get_folded_output_shape()))
    assert op.get_exp_cycles() == max(taken, given)


def test_it_takes_the_place_of_finns():
    assert type(converter(2, 1)).__module__ == "bitward.hardware.ops.streaming_dwc"


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"outShape": [1, 1, 6]}, r"must give the 12 elements it takes, got 6: fold by divisors\."),
        ({"inWidth": 10}, r"must have beats of 4-bit elements that divide 12 of them, got 10 bits: fold by divisors\."),
        ({"outWidth": 20}, r"must have beats of 4-bit elements that divide 12 of them, got 20 bits: fold by .*\."),
    ],
)
def test_beats_that_hold_no_whole_images_are_refused(changed, says):
    op = converter(2, 3)
    for name, value in changed.items():
        op.set_nodeattr(name, value)
    with pytest.raises(ModelError, match=rf"^node dut \(StreamingDataWidthConverter_rtl\) {says}$"):
        op.parameters(PART)
