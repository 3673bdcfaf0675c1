# SPDX-License-Identifier: Apache-2.0
"""Is the RTL the network? Its integer outputs against the QONNX graph executed by qonnx, image by image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitward.engine.graph import stream_ends
from bitward.hardware.simulate import Simulation
from bitward.manifest import EdgeOp, apply_edge

SAME = 0.01  # of one integer step at the output: QONNX sums floats, so it lands beside the integer, not on it


def run_qonnx(
    model_path: Path, images: NDArray[np.float32], progress: Callable[[int, int], None] = lambda done, total: None
) -> NDArray[Any]:
    """The outputs of the QONNX graph, as qonnx's executor has them (voters execute)."""
    from qonnx.core.modelwrapper import ModelWrapper

    from bitward.qonnx_ops.execute import execute_images

    return execute_images(ModelWrapper(str(model_path)), images, progress)


def equal_images(integers: NDArray[np.int64], expected: NDArray[Any], post: tuple[EdgeOp, ...]) -> NDArray[np.bool_]:
    """Per image: are the RTL's integers those behind the floats `expected`, in every output?"""
    got = np.asarray(apply_edge(post, integers), dtype=np.float64)
    step = np.abs(np.asarray(apply_edge(post, integers + 1), dtype=np.float64) - got)
    near = np.abs(got - expected.reshape(got.shape)) <= SAME * step
    return near.reshape(len(near), -1).all(axis=1)


def verify_build(build: Path, images: NDArray[np.float32], expected: NDArray[Any], stall: float) -> dict[str, Any]:
    """Every image through the RTL, without stalls and with random ones on both sides, against `expected`."""
    with Simulation(build) as simulation:
        io = stream_ends(simulation.manifest)
        integers = apply_edge(io.pre, images).astype(np.int64)
        smooth = simulation.infer(integers)
        stalled = simulation.infer(integers, stall, stall, seed=1)
        equal = equal_images(smooth.outputs, expected, io.post)
        equal_stalled = equal_images(stalled.outputs, expected, io.post)
        return {
            "equal": int(equal.sum()),
            "equal_with_stalls": int(equal_stalled.sum()),
            "equal_mask": (equal & equal_stalled).tolist(),
            "steady_cycles_per_image": smooth.steady_cycles(io.output.beats),
        }
