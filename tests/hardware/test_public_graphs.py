# SPDX-License-Identifier: Apache-2.0
"""Graphs in other people's styles: built, and equal to QONNX on every image, or refused with the reason."""

from __future__ import annotations

import numpy as np
import public_graphs
import pytest
from qonnx.core.modelwrapper import ModelWrapper

from bitward.engine import HardwareEngine
from bitward.errors import ModelError
from bitward.flow.verify import equal_images, run_qonnx, verify_build
from bitward.hardware.build import build
from bitward.hardware.declare import BuildOptions
from bitward.manifest import apply_edge

IMAGES = 100


def images_of(path, count: int = IMAGES) -> np.ndarray:
    """Random images over the whole range of the graph's input type."""
    model = ModelWrapper(str(path))
    source = model.graph.input[0].name
    kind, shape = model.get_tensor_datatype(source), model.get_tensor_shape(source)
    random = np.random.default_rng(5)
    return random.integers(int(kind.min()), int(kind.max()) + 1, (count, *shape[1:])).astype(np.float32)


@pytest.mark.parametrize("write", public_graphs.BUILT, ids=lambda write: write.__name__)
def test_the_engine_computes_it(write, tmp_path):
    """The build but for Verilator: its hardware graph answers as QONNX does."""
    path = write(tmp_path / "model.onnx")
    images = images_of(path)
    expected = run_qonnx(path, images)
    assert len(np.unique(expected, axis=0)) > IMAGES // 2
    manifest = build(path, tmp_path / "build", BuildOptions("msb", simulate=False))
    integers = apply_edge(manifest.io.pre, images).astype(np.int64)
    found = HardwareEngine.load(tmp_path / "build").infer(integers)
    assert equal_images(found, expected, manifest.io.post).all()


@pytest.mark.slow
@pytest.mark.parametrize("protect", ["none", "msb"])
@pytest.mark.parametrize("write", public_graphs.BUILT, ids=lambda write: write.__name__)
def test_the_rtl_computes_it(write, protect, tmp_path):
    path = write(tmp_path / "model.onnx")
    images = images_of(path)
    build(path, tmp_path / "build", BuildOptions(protect, target_fps=400_000))
    found = verify_build(tmp_path / "build", images, run_qonnx(path, images), 0.3)
    assert (found["equal"], found["equal_with_stalls"]) == (IMAGES, IMAGES)


@pytest.mark.parametrize("write", public_graphs.REFUSED, ids=lambda write: write.__name__)
def test_what_cannot_be_built_is_refused_by_name(write, tmp_path):
    path = write(tmp_path / "model.onnx")
    with pytest.raises(ModelError, match=public_graphs.REFUSED[write]):
        build(path, tmp_path / "build", BuildOptions("none"))
    assert not (tmp_path / "build").exists()
