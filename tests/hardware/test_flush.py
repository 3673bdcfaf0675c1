# SPDX-License-Identifier: Apache-2.0
"""After a write, memories serve words they read ahead: as many images see them as the manifest's flush count says."""

from __future__ import annotations

import numpy as np
import pytest

from bitward.faults import every_fault
from bitward.hardware.build import BuildOptions, build
from bitward.targets.engine import EngineTarget
from bitward.targets.rtl import RtlTarget

FOLDING = {"fc1": {"PE": 1, "SIMD": 8}, "fc2": {"PE": 16, "SIMD": 8}, "fc3": {"PE": 10, "SIMD": 32}}


@pytest.fixture(scope="module", params=["none", "msb"])
def built(request, repository, tmp_path_factory):
    out = tmp_path_factory.mktemp("flush") / request.param
    options = BuildOptions(protect=request.param, target_fps=1e6, folding=FOLDING)
    return out, build(repository / "onnx_models" / "digits_mlp.onnx", out, options)


def test_depth_1_reads_ahead_eight_words_and_the_voter_one_more(built):
    _, manifest = built
    protected = manifest.memory("fc3.weight").scheme.voted > 0
    assert manifest.memory("fc3.weight").depth == 1
    assert manifest.memory("fc2.weight").depth == 8
    assert manifest.memory("fc3.weight").hardware.flush_images == (9 if protected else 8)
    assert manifest.memory("fc2.weight").hardware.flush_images == (2 if protected else 1)


def test_as_many_images_are_stale_as_the_manifest_says(built):
    out, manifest = built
    images = np.random.default_rng(0).integers(0, 256, (32, *manifest.io.input.shape))
    with RtlTarget(out) as rtl, EngineTarget(out) as engine:
        for name in ("fc1.weight", "fc2.weight", "fc3.weight"):
            assert (
                _stale_images(rtl, engine, manifest.memory(name), images) == manifest.memory(name).hardware.flush_images
            )


def _stale_images(rtl, engine, memory, images):
    """The most images after a write that any of some faults left wrong; found by streaming without the flush."""
    io, seen = rtl.manifest.io, 0
    unvoted = range(memory.scheme.bits - memory.scheme.voted)
    first_row = [
        fault for fault in every_fault(rtl.manifest, memory.name, unvoted) if fault.word == 0
    ]  # read ahead most
    for fault in first_row[::37][:16]:
        engine.inject(fault)
        expected = engine.infer(images)
        engine.restore(fault)
        rtl.inject(fault)
        rtl._set_images_per_transfer(len(images))
        unflushed = io.output.unpack(rtl._transfer(io.input.pack(images), len(images) * io.output.image_bytes))
        wrong = np.flatnonzero((unflushed != expected).any(axis=1))
        seen = max(seen, int(wrong.max()) + 1 if len(wrong) else 0)
        rtl.restore(fault)
        rtl.infer(images)  # the next write starts from a flushed memory
    return seen
