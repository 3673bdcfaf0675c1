# SPDX-License-Identifier: Apache-2.0
"""Top-1: RTL, back end and engine against numpy's argmax."""

from __future__ import annotations

import numpy as np
import pytest
from node_bench import PART, NodeBench, draw, engine_op, hardware_op

from bitward.errors import ModelError

IMAGES = 30
CASES = {  # labels, PE, vectors, score type, label type
    "one_lane": (10, 1, [1], "INT8", ""),
    "tree_of_five": (10, 5, [1], "INT16", "UINT4"),
    "one_beat": (7, 7, [1], "UINT5", "UINT3"),
    "two_labels": (2, 1, [1], "INT3", "UINT1"),
    "one_label": (1, 1, [1], "UINT4", "UINT8"),
    "pixels": (6, 3, [1, 2, 2], "INT4", "UINT8"),
    "many": (300, 20, [1], "UINT8", ""),
}


def select(labels, pe, vectors, source, result, k=1):
    types = {"inputDataType": source, "outputDataType": result}
    return hardware_op("LabelSelect_rtl", Labels=labels, PE=pe, K=k, numInputVectors=vectors, **types)


def expected(label, stream):
    return stream.reshape(len(stream), -1, CASES[label][0]).argmax(axis=2)


def tied(op, images=IMAGES):
    """Scores of which several are greatest, more often than not: of the type's two least and its greatest values."""
    low, high = int(op.get_input_datatype().min()), int(op.get_input_datatype().max())
    size = images, int(np.prod(op.get_folded_input_shape()))
    return np.random.default_rng(6).choice([low, low + 1, high], size, p=[0.4, 0.4, 0.2])


@pytest.fixture(scope="module")
def bench(tmp_path_factory, verilated_runtime):
    folder = tmp_path_factory.mktemp("labelselect")
    return NodeBench(folder, verilated_runtime, {label: select(*case) for label, case in CASES.items()})


@pytest.mark.parametrize("label", CASES)
def test_labels_are_numpys_under_random_stalls(bench, label):
    (stream,) = draw(np.random.default_rng(3), bench.ops[label], IMAGES)
    assert np.array_equal(bench.run(label, [stream], stall=0.4).streams[0], expected(label, stream))
    assert np.array_equal(engine_op(bench.ops[label]).apply((stream,), None)[0], expected(label, stream))


@pytest.mark.parametrize("label", CASES)
def test_the_first_of_the_greatest_wins(bench, label):
    stream = tied(bench.ops[label])
    scores = stream.reshape(-1, CASES[label][0])
    if CASES[label][0] > 1:
        assert ((scores == scores.max(axis=1, keepdims=True)).sum(axis=1) > 1).any(), "some must be tied"
    assert np.array_equal(bench.run(label, [stream], stall=0.2).streams[0], expected(label, stream))
    assert np.array_equal(engine_op(bench.ops[label]).apply((stream,), None)[0], expected(label, stream))


@pytest.mark.parametrize("label", CASES)
def test_a_beat_comes_in_every_cycle_also_between_images(bench, label):
    op = bench.ops[label]
    outcome = bench.run(label, draw(np.random.default_rng(4), op, IMAGES))
    labels, pe, vectors, *_ = CASES[label]
    beats = labels // pe
    assert op.get_exp_cycles() == beats * np.prod(vectors)
    assert outcome.steady(IMAGES) == [op.get_exp_cycles()] * (IMAGES - 1)
    assert outcome.at[0] == list(range(beats + 1, beats * len(outcome.at[0]) + 2, beats))


@pytest.mark.parametrize("label", CASES)
def test_finns_node_agrees_on_ties(label):
    op = select(*CASES[label])
    stream = tied(op, 1)
    context = {"in0": stream.reshape(op.get_normal_input_shape()).astype(np.float32)}
    context["out0"] = np.zeros(op.get_normal_output_shape(), np.float32)
    op.execute_node(context, None)
    assert np.array_equal(context["out0"].reshape(1, -1), expected(label, stream))


def test_a_label_for_each_pixel_is_counted():
    op = select(*CASES["pixels"])
    assert (op.get_number_output_values(), engine_op(op).results[0].count) == (4, 4)


@pytest.mark.parametrize(
    ("labels", "k", "result", "says"),
    [
        (10, 5, "UINT8", r"K = 1, got 5: give out the scores and sort them on the host\.$"),
        (17, 1, "UINT4", r"an outputDataType that holds 16, got UINT4: widen it\.$"),
    ],
)
def test_what_the_module_has_not_is_refused(labels, k, result, says):
    with pytest.raises(ModelError, match=rf"^node dut \(LabelSelect_rtl\) must have {says}"):
        select(labels, 1, [1], "INT8", result, k).parameters(PART)


def test_the_engine_gives_one_label():
    with pytest.raises(
        ModelError, match=r"^node dut \(LabelSelect_rtl\) must have K = 1, got 5; the engine models no "
    ):
        engine_op(select(10, 1, [1], "INT8", "UINT8", 5))
