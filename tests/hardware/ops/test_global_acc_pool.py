# SPDX-License-Identifier: Apache-2.0
"""Global sum pooling: RTL, back end and engine against numpy."""

from __future__ import annotations

import numpy as np
import pytest
from node_bench import NodeBench, draw, engine_op, hardware_op

IMAGES = 4
CASES = {  # channels, PE, height and width, input type
    "one_lane": (3, 1, (2, 2), "UINT4"),
    "two_folds": (6, 3, (3, 2), "INT4"),  # a fold is read back in the beat after it was written
    "one_fold": (5, 5, (2, 3), "INT8"),
    "one_channel": (1, 1, (4, 4), "UINT2"),
    "one_pixel": (4, 2, (1, 1), "INT3"),
    "many_folds": (17, 1, (3, 3), "UINT8"),
}


def acc_pool(channels, pe, size, source):
    return hardware_op(
        "GlobalAccPool_rtl", NumChannels=channels, PE=pe, numInputVectors=[1, *size], inputDataType=source
    )


def expected(label, stream):
    return stream.reshape(len(stream), -1, CASES[label][0]).sum(axis=1)


@pytest.fixture(scope="module")
def bench(tmp_path_factory, verilated_runtime):
    folder = tmp_path_factory.mktemp("accpool")
    return NodeBench(folder, verilated_runtime, {label: acc_pool(*case) for label, case in CASES.items()})


@pytest.mark.parametrize("label", CASES)
def test_sums_are_numpys_under_random_stalls(bench, label):
    (stream,) = draw(np.random.default_rng(3), bench.ops[label], IMAGES)
    assert np.array_equal(bench.run(label, [stream], stall=0.4).streams[0], expected(label, stream))
    assert np.array_equal(engine_op(bench.ops[label]).apply((stream,), None)[0], expected(label, stream))


@pytest.mark.parametrize("label", CASES)
def test_extreme_sums_are_exact(bench, label):
    op = bench.ops[label]
    size = int(np.prod(op.get_folded_input_shape()))
    stream = np.array([[int(op.get_input_datatype().min())] * size, [int(op.get_input_datatype().max())] * size])
    assert np.array_equal(bench.run(label, [stream]).streams[0], expected(label, stream))
    assert np.array_equal(engine_op(op).apply((stream,), None)[0], expected(label, stream))


@pytest.mark.parametrize("label", CASES)
def test_no_bubble_stands_between_images(bench, label):
    op = bench.ops[label]
    channels, pe, size, _ = CASES[label]
    beats, folds = channels // pe * size[0] * size[1], channels // pe
    assert op.get_exp_cycles() == beats
    outcome = bench.run(label, draw(np.random.default_rng(4), op, IMAGES))
    ends = [image * beats + beats - folds + fold + 1 for image in range(IMAGES) for fold in range(folds)]
    assert outcome.at[0] == ends


@pytest.mark.parametrize("label", CASES)
def test_finns_node_in_numpy_agrees(label):
    op = acc_pool(*CASES[label])
    (stream,) = draw(np.random.default_rng(5), op, 1)
    context = {"in0": stream.reshape(op.get_normal_input_shape()).astype(np.float32), "out0": np.zeros((1,))}
    context["out0"] = np.zeros(op.get_normal_output_shape(), np.float32)
    op.execute_node(context, None)
    assert np.array_equal(context["out0"].reshape(1, -1), expected(label, stream))


@pytest.mark.parametrize("label", CASES)
def test_the_engine_has_the_sums_type_of_the_back_end(label):
    op = acc_pool(*CASES[label])
    (result,) = engine_op(op).results
    assert (result.count, str(result.type)) == (CASES[label][0], op.get_output_datatype().name)
