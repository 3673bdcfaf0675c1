# SPDX-License-Identifier: Apache-2.0
"""The engine as a whole: faults, the prefix cache, the target; and that it reads places, not maps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from engine_graphs import graph, manifest, mvau, node, scrambled, thresholding, thresholds, weights, words_of

from bitward.engine import HardwareEngine, load_images
from bitward.engine.graph import load_graph, read_graph
from bitward.errors import ConfigError, ManifestError, ModelError
from bitward.faults import Fault, every_fault, single_bit_stratified
from bitward.schemes import Plain, Tmr
from bitward.targets.engine import EngineTarget

SCHEME = Tmr(4, 1)
ENDS = (((6,), "UINT4"), ((4,), "INT12"))


def parts():
    """Matrix, thresholds, matrix with nodes between: the units and their memories."""
    units = [
        mvau("a", 6, 8, 2, 3, outputDataType="INT12"),
        node("StreamingFIFO_rtl", "f"),
        thresholding("b", 8, 4, 7, inputDataType="INT12", weightDataType="INT13"),
        mvau("c", 8, 4, 4, 8, outputDataType="INT12"),  # DEPTH = 1
    ]
    memories = [
        weights("a", 6, 8, 2, 3, SCHEME),
        thresholds("b", 8, 4, 7, 13, True, 8),
        weights("c", 8, 4, 4, 8, SCHEME),
    ]
    return units, memories


def golden_images(memories):
    rng = np.random.default_rng(7)
    tensors = {
        "a.weight": rng.integers(-8, 8, (6, 8)),  # -8, which has no negative, among them
        "b.threshold": np.sort(rng.integers(-100, 100, (8, 7)), axis=1),
        "c.weight": rng.integers(-8, 8, (8, 4)),
    }
    return tensors, {m.name: m.image(words_of(tensors[m.name], m.format.bits)) for m in memories}


@pytest.fixture
def engine():
    units, memories = parts()
    return HardwareEngine(graph(units), manifest(memories, *ENDS), golden_images(memories)[1])


@pytest.fixture
def images():
    return np.random.default_rng(8).integers(0, 16, (20, 6))


def fresh(engine):
    """An engine that is golden with what the other one has stored now: no cache, no faults."""
    units, _ = parts()
    stored = {}
    for memory in engine.manifest.memories:
        beats = [engine.read(memory.name, word) for word in range(memory.depth)]
        rows = [[beat >> 32 * s & 0xFFFFFFFF for s in range(memory.segments)] for beat in beats]
        stored[memory.name] = np.array(rows, np.uint32)
    return HardwareEngine(graph(units), engine.manifest, stored)


def test_without_faults_it_computes_the_network(engine, images):
    tensors, _ = golden_images(engine.manifest.memories)
    sums = images @ tensors["a.weight"]
    active = (tensors["b.threshold"] <= sums[:, :, None]).sum(axis=2)
    assert np.array_equal(engine.infer(images), active @ tensors["c.weight"])


def test_the_prefix_cache_is_exact(engine, images):
    """Every single fault, one after the other, equals an engine without a cache; restoring gives the golden output."""
    golden, changed = engine.infer(images), 0
    for memory in engine.manifest.memories:
        for fault in every_fault(engine.manifest, memory.name):
            engine.inject(fault)
            faulty = engine.infer(images)
            assert np.array_equal(faulty, fresh(engine).infer(images)), fault
            if memory.role == "weight" and memory.locate(fault.word, fault.bit).stored_bit in SCHEME.masked_bits:
                assert np.array_equal(faulty, golden), fault
            changed += not np.array_equal(faulty, golden)
            engine.restore(fault)
            assert np.array_equal(engine.infer(images), golden), fault
    assert changed > 300


def test_many_faults_at_once_are_exact(engine, images):
    faults = single_bit_stratified(engine.manifest, 3, seed=1)
    golden = engine.infer(images)
    for count in (2, 5, len(faults)):
        for fault in faults[:count]:
            engine.inject(fault)
        assert np.array_equal(engine.infer(images), fresh(engine).infer(images))
        for fault in faults[:count]:
            engine.restore(fault)
        assert np.array_equal(engine.infer(images), golden)


def test_scrambled_memories_are_exact(engine, images):
    rng = np.random.default_rng(9)
    engine.infer(images)
    for memory in engine.manifest.memories:
        for word, row in enumerate(scrambled(memory, rng)):
            engine.write(memory.name, word, sum(int(segment) << 32 * s for s, segment in enumerate(row)))
    assert np.array_equal(engine.infer(images), fresh(engine).infer(images))


def test_another_batch_under_faults_is_exact(engine, images):
    fault = Fault("a.weight", 0, 10)
    engine.inject(fault)
    for batch in (images[:5], images[5:], images[:0], images):
        assert np.array_equal(engine.infer(batch), fresh(engine).infer(batch))


def test_restoring_is_of_one_bit_and_twice_is_once(engine):
    first, second = Fault("c.weight", 0, 3), Fault("c.weight", 0, 90)
    golden = engine.read("c.weight", 0)
    engine.inject(first)
    engine.inject(second)
    assert engine.read("c.weight", 0) == golden ^ 1 << 3 ^ 1 << 90
    engine.restore(first)
    engine.restore(first)
    assert engine.read("c.weight", 0) == golden ^ 1 << 90
    engine.restore(second)
    assert engine.read("c.weight", 0) == golden == engine.golden("c.weight", 0)


def test_places_and_the_index_map_agree():
    """Weights decoded by their place equal those decoded through the manifest's map; with a wrong map they do not."""
    units, memories = parts()
    rng = np.random.default_rng(10)
    steps = read_graph(graph(units), manifest(memories, *ENDS)).steps
    ops = {step.op.node: step.op for step in steps}
    for memory in memories:
        image = scrambled(memory, rng)
        by_map = memory.values(image)[0].astype(int)
        by_place = ops[memory.layer].parameters(image)
        assert np.array_equal(by_map, by_place[:, : by_map.shape[1]])
    first = memories[0]
    lanes, inputs = first.hardware.lane_axes  # of 2 outputs and 3 inputs: simd*p + s; wrong would be p + pe*s
    wrong = replace(first.hardware, lane_axes=(replace(lanes, step=1), replace(inputs, step=2)))
    image = scrambled(first, rng)
    assert not np.array_equal(replace(first, hardware=wrong).values(image)[0], ops["a"].parameters(image))


def test_a_list_for_all_channels_is_one_per_lane():
    """A per-tensor list has a copy per PE; a fault in one of them reaches the channels of that lane alone."""
    memory = thresholds("b", 8, 4, 7, 13, True, 1)
    unit = thresholding("b", 8, 4, 7, inputDataType="INT12", weightDataType="INT13")
    stored = {memory.name: memory.image(words_of(np.arange(7)[None] * 10, 13))}
    engine = HardwareEngine(graph([unit]), manifest([memory], ((8,), "INT12"), ((8,), "UINT4")), stored)
    images = np.full((1, 8), 35)
    assert engine.infer(images).tolist() == [[4] * 8]
    word, bit = memory.places(3)[2, 12]  # the list of lane 2, threshold 3, its sign
    engine.inject(Fault(memory.name, int(word), int(bit)))
    engine.inject(Fault(memory.name, int(memory.places(3)[1, 6][0]), 6))
    got = engine.infer(images)[0]
    assert got[[1, 5]].tolist() == [3, 3] and got[[0, 2, 3, 4, 6, 7]].tolist() == [4] * 6


def test_dead_rows_change_nothing(engine, images):
    golden = engine.infer(images)
    memory = engine.manifest.memory("b.threshold")
    dead = [word for word in range(memory.depth) if not memory.live(word, 0)]
    assert len(dead) == 8  # 7 thresholds in 8 places
    for word in dead:
        engine.write("b.threshold", word, (1 << memory.width) - 1)
    assert np.array_equal(engine.infer(images), golden)


# -- build directories and the target --------------------------------------------------------------------------------


@pytest.fixture
def build_dir(tmp_path):
    units, memories = parts()
    onnx.save(graph(units), tmp_path / "hardware.onnx")
    manifest(memories, *ENDS).save(tmp_path / "manifest.json")
    np.savez(tmp_path / "memories.npz", **golden_images(memories)[1])
    return tmp_path


def test_the_target_runs_a_build_directory(build_dir, engine, images):
    fault = Fault("a.weight", 3, 5)
    target = EngineTarget(build_dir)
    with target:
        assert target.manifest == engine.manifest
        golden = target.infer(images)
        assert np.array_equal(golden, engine.infer(images))
        target.inject(fault)
        engine.inject(fault)
        assert target.read("a.weight", 3) == engine.read("a.weight", 3) != target.golden("a.weight", 3)
        assert np.array_equal(target.infer(images), engine.infer(images))
        target.restore(fault)
        target.write("a.weight", 2, target.read("a.weight", 2))
        assert np.array_equal(target.infer(images), golden)
    target.close()
    with pytest.raises(ConfigError, match=r"^the engine of .* must be open, got a closed one; call open\(\) first$"):
        target.read("a.weight", 3)


def test_a_folder_that_is_no_build_is_refused(tmp_path):
    with pytest.raises(ManifestError, match=r"manifest\.json must be a manifest, got "):
        EngineTarget(tmp_path).open()
    with pytest.raises(ModelError, match=r"^.*hardware\.onnx must be an ONNX model, got "):
        load_graph(tmp_path / "hardware.onnx")
    for name in ("hardware.onnx", "memories.npz"):
        (tmp_path / name).write_bytes(b"\xffnot what it says")
    with pytest.raises(ModelError, match=r"^.*hardware\.onnx must be an ONNX model, got "):
        load_graph(tmp_path / "hardware.onnx")
    with pytest.raises(ManifestError, match=r"^.*memories\.npz must hold memory images, got "):
        load_images(tmp_path / "memories.npz")


# -- refusals --------------------------------------------------------------------------------------------------------


def test_images_of_another_shape_or_range_are_refused(engine):
    with pytest.raises(
        ManifestError, match=r"^images must be integers of shape \(n, 6\), got int64 of shape \(2, 5\); "
    ):
        engine.infer(np.zeros((2, 5), np.int64))
    with pytest.raises(
        ManifestError, match=r"^images must be integers of shape \(n, 6\), got float64 of shape \(2, 6\)"
    ):
        engine.infer(np.zeros((2, 6)))
    for wrong in (-1, 16):
        with pytest.raises(
            ManifestError, match=rf"^images must be UINT4, got {wrong}; quantize them as the model does$"
        ):
            engine.infer(np.full((2, 6), wrong))


def test_places_that_do_not_exist_are_refused(engine):
    with pytest.raises(
        ManifestError, match=r"^a memory must be one of the design's, got 'a\.wait'; did you mean 'a\.wei"
    ):
        engine.read("a.wait", 0)
    with pytest.raises(ManifestError, match=r"^word must be 0 to 7 in memory a\.weight, got 8; "):
        engine.read("a.weight", 8)
    with pytest.raises(ManifestError, match=r"^bit must be 0 to 35 in memory a\.weight, got 36; "):
        engine.inject(Fault("a.weight", 0, 36))
    with pytest.raises(ManifestError, match=r"^a beat of memory a\.weight must be 36 bits, got 0x1000000000; mask it$"):
        engine.write("a.weight", 0, 1 << 36)


def test_images_of_another_design_are_refused():
    units, memories = parts()
    design, (_, good) = manifest(memories, *ENDS), golden_images(memories)
    for stored, message in (
        (
            {**good, "a.weight": good["a.weight"][1:]},
            r"^the image of memory a\.weight must be uint32 of shape \(8, 2\), g",
        ),
        ({}, r"^the image of memory a\.weight must be uint32 of shape \(8, 2\), got none; "),
        (
            {**good, "d.weight": good["a.weight"]},
            r"^an image must be of a memory in the manifest, got 'd\.weight'; did",
        ),
    ):
        with pytest.raises(ManifestError, match=message):
            HardwareEngine(graph(units), design, stored)


def test_a_manifest_of_another_graph_is_refused():
    units, memories = parts()
    _, good = golden_images(memories)
    extra = weights("d", 2, 2, 1, 1, Plain(4))
    for design, message in (
        (manifest([*memories, extra], *ENDS), r"^memory d\.weight must be read by one node, got 0; "),
        (manifest(memories[1:], *ENDS), r"^a memory must be one of design toy, got 'a\.weight'; "),
        (
            manifest(memories, ENDS[0], ((4,), "INT13")),
            r"^io\.output must be 4 elements of INT12 as node c gives them, ",
        ),
        (replace(manifest(memories, *ENDS), io=None), r"^io must be in the manifest of design toy, got none; "),
    ):
        with pytest.raises(ManifestError, match=message):
            HardwareEngine(graph(units), design, good)
