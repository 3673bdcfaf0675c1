# SPDX-License-Identifier: Apache-2.0
"""After a write, memories serve words they read ahead: as many images see them as the manifest's flush count says."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest
import small_networks

from bitward.faults import Fault
from bitward.hardware.build import build
from bitward.hardware.declare import BuildOptions
from bitward.manifest import Manifest, Memory
from bitward.targets.engine import EngineTarget
from bitward.targets.rtl import RtlTarget

FOLDING = {"fc1": {"PE": 6, "SIMD": 12}, "fc2": {"PE": 1, "SIMD": 2}}
ROWS = {"fc1.weight": 1, "fc2.weight": 12}  # each read once an image
UPSETS = 16  # tried of each memory
BUILDS = {  # options, and the images after a write that may be wrong: 8 rows are read ahead, a decoder holds one more
    "plain": ({"protect": "none"}, {"fc1.weight": 8, "fc2.weight": 1}),
    "voted": ({"protect": "msb", "bias": "tmr"}, {"fc1.weight": 9, "fc2.weight": 1}),
    "secded": (
        {"protect": "secded", "bias": "tmr", "bias_as": "add", "folding": {**FOLDING, "fc1.bias": {"PE": 6}}},
        {"fc1.weight": 9, "fc2.weight": 1, "fc1.bias": 9},
    ),
    "some lanes": (
        {"protect": "tmr", "folding": {**FOLDING, "fc2": {"PE": 1, "SIMD": 3}}},  # fc2: 8 rows, and a ninth is held
        {"fc1.weight": 9, "fc2.weight": 2},
    ),
}


@pytest.fixture(scope="module", params=BUILDS)
def built(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("flush")
    network = small_networks.export(small_networks.dense(), folder / "dense.onnx", seed=3)
    given, stale = BUILDS[request.param]
    options = BuildOptions(**{"target_fps": 1e6, "folding": FOLDING, "fifos": "safe", **given})
    return folder / "build", build(network.path, folder / "build", options), stale


def test_rows_read_ahead_and_a_decoder_decide_and_thresholds_are_never_late(built):
    _, manifest, stale = built
    rows = {name: manifest.memory(name).depth for name in ROWS}
    assert rows == (ROWS if stale["fc2.weight"] == 1 else {**ROWS, "fc2.weight": 8})
    thresholds = {memory.name: 0 for memory in manifest.memories if memory.role == "threshold"}
    assert thresholds
    assert {memory.name: memory.hardware.flush_images for memory in manifest.memories} == stale | thresholds


def test_as_many_images_are_stale_as_the_manifest_says(built):
    out, manifest, _ = built
    images = np.random.default_rng(0).integers(0, 256, (64, *manifest.io.input.shape))
    with RtlTarget(out) as rtl, EngineTarget(out) as engine:
        golden = engine.infer(images)
        for memory in manifest.memories:
            assert stale_images(rtl, engine, memory, images, golden) == memory.hardware.flush_images, memory.name


def stale_images(rtl: RtlTarget, engine: EngineTarget, memory: Memory, images: np.ndarray, golden: np.ndarray) -> int:
    """The most images after a write that any of some upsets left wrong; found by streaming without the flush."""
    io, seen, told = rtl.manifest.io, 0, 0
    for faults in islice(unmasked(engine.manifest, memory), UPSETS):
        for fault in faults:
            engine.inject(fault)
        expected = engine.infer(images)
        for fault in faults:
            engine.restore(fault)
        if not (differs := (expected != golden).any(axis=1)).any():
            continue
        for fault in faults:
            rtl.inject(fault)
        order = np.argsort(~differs, kind="stable")  # those first in which a stale word shows
        rtl._set_images_per_transfer(len(images))
        sent = io.input.pack(images[order])
        unflushed = io.output.unpack(rtl._transfer(sent, len(images) * io.output.image_bytes))
        wrong = np.flatnonzero((unflushed != expected[order]).any(axis=1))
        seen, told = max(seen, int(wrong.max()) + 1 if len(wrong) else 0), max(told, np.count_nonzero(differs))
        for fault in faults:
            rtl.restore(fault)
        rtl.infer(images)  # the next write starts from a flushed memory
    assert told > memory.hardware.flush_images, memory.name
    return seen


def unmasked(manifest: Manifest, memory: Memory) -> Iterator[list[Fault]]:
    """Upsets that redundancy does not mask, spread over a memory: of weights and biases over its first row alone.

    That row is read ahead most. A voted bit needs two of its copies, a codeword two of its bits.
    """
    rows = range(memory.depth) if memory.role == "threshold" else [0]
    places = [(row, bit) for row in rows for bit in range(memory.width) if manifest.memory(memory.name).live(row, bit)]
    copies = defaultdict(list)
    for row, bit in places:
        at = memory.locate(row, bit)
        if at.copy >= 0:
            copies[int(at.index), int(at.replica), int(at.bit)].append(Fault(memory.name, row, bit))
    groups = [found[: 2 if len(found) == 3 else 1] for _, found in sorted(copies.items())]
    if memory.scheme.check_bits:
        groups = [first + second for first, second in zip(groups, groups[1:], strict=False)]
    yield from groups[:: len(groups) // UPSETS | 1]  # odd: not the same bit every time
