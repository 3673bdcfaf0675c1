# SPDX-License-Identifier: Apache-2.0
"""A build whose weights are SEC-DED codewords: every bit of it, two at once, and what its counters say."""

from __future__ import annotations

import random

import numpy as np
import pytest
import small_networks

from bitward.faults import Fault, every_fault
from bitward.flow.verify import run_qonnx
from bitward.hardware.build import build
from bitward.hardware.declare import BuildOptions
from bitward.manifest import apply_edge
from bitward.schemes import Secded
from bitward.targets.engine import EngineTarget
from bitward.targets.rtl import RtlTarget

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("secded")
    network = small_networks.export(small_networks.dense(), folder / "model.onnx", seed=3)
    folding = {"fc1": {"PE": 3, "SIMD": 4}, "fc2": {"PE": 1, "SIMD": 2}}
    build(network.path, folder / "build", BuildOptions("secded", folding=folding))
    with RtlTarget(folder / "build") as rtl, EngineTarget(folder / "build") as engine:
        pixels = network.images(20)
        yield rtl, engine, network, apply_edge(engine.manifest.io.pre, pixels).astype(np.int64)


def weights(target):
    return [memory for memory in target.manifest.memories if memory.role == "weight"]


def test_rows_are_codewords_of_all_their_lanes_and_compute_the_model(built):
    rtl, engine, network, images = built
    assert [memory.scheme for memory in weights(rtl)] == [Secded(4, 12), Secded(4, 2)]
    assert [memory.width for memory in weights(rtl)] == [48 + 7, 8 + 5]
    outputs = rtl.infer(images)
    assert np.array_equal(outputs, engine.infer(images))
    expected = run_qonnx(network.path, network.images(20))
    assert np.allclose(apply_edge(rtl.manifest.io.post, outputs), expected, atol=1e-5)


def test_every_single_upset_is_corrected_and_each_use_counted(built):
    rtl, engine, _, images = built
    golden = rtl.infer(images)
    rtl.counters()
    for memory in weights(rtl):
        for fault in every_fault(rtl.manifest, memory.name):
            rtl.inject(fault)
            rtl.infer(images[:1])  # rows read ahead before the upset are used up
            rtl.counters()
            assert np.array_equal(rtl.infer(images), golden), fault
            counts = rtl.counters()
            assert counts.pop(memory.name) == (len(images), 0)  # a dense layer uses each row once an image
            assert set(counts.values()) <= {(0, 0)}
            rtl.restore(fault)
            rtl.infer(images[:1])
            rtl.counters()
    assert rtl.infer(images).tolist() == golden.tolist()
    assert set(rtl.counters().values()) == {(0, 0)}


def test_two_and_three_upsets_of_a_row_do_on_the_rtl_what_the_engine_says(built):
    rtl, engine, _, images = built
    draw, changed = random.Random(1), 0
    golden = engine.infer(images)
    for trial in range(40):
        memory = weights(rtl)[trial % 2]
        word, count = draw.randrange(memory.depth), 2 + trial // 20
        faults = [Fault(memory.name, word, bit) for bit in draw.sample(range(memory.width), count)]
        for target in (rtl, engine):
            for fault in faults:
                target.inject(fault)
        outputs = rtl.infer(images)
        assert np.array_equal(outputs, engine.infer(images))
        changed += not np.array_equal(outputs, golden)
        rtl.counters()
        rtl.infer(images)
        corrected, detected = rtl.counters()[memory.name]
        assert {corrected, detected} == {0, len(images)}
        assert count == 3 or detected
        for target in (rtl, engine):
            for fault in faults:
                target.restore(fault)
    assert changed > 20
