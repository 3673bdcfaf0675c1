# SPDX-License-Identifier: Apache-2.0
"""A matrix times the windows of images of which only few pixels differ from the golden ones."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from bitward.engine.datatypes import Stream
from bitward.engine.graph import Step
from bitward.engine.ops.matrix import Matrix
from bitward.engine.ops.window import Window, positions

FEW = 0.3  # share of pixels up to which their own contributions are quicker than all windows (measured)


def pairs(steps: Sequence[Step]) -> dict[int, tuple[Window, Matrix, int]]:
    """By step that cuts windows: itself, the matrix that takes them tap by tap, and the step of that."""
    takers = {name: at for at, step in enumerate(steps) for name in step.inputs}
    found = {}
    for at, step in enumerate(steps):
        if isinstance(step.op, Window) and step.outputs[0] in takers:
            window, taker = step.op, takers[step.outputs[0]]
            op, taps = steps[taker].op, window.kernel[0] * window.kernel[1]
            is_plain = window.lanes == window.shape[2]
            if is_plain and isinstance(op, Matrix) and op.rows == taps * window.shape[2]:
                found[at] = window, op, taker
    return found


def few_pixels(
    window: Window, matrix: Matrix, ready: Any, source: Stream, golden: Stream, result: Stream
) -> Stream | None:
    """The matrix's result for windows of `source`, shape (rows, inputs of the window); None where many pixels differ.

    `golden` is the source without the differences and `result` what the matrix makes of that. Each pixel that differs
    adds its difference times the weights of one tap to each window that it is in.
    """
    shape = (len(source), *window.shape)
    differs = _differing(source.reshape(shape), golden.reshape(shape))
    if np.count_nonzero(differs) > FEW * differs.size:
        return None
    row, y, x = np.nonzero(differs)
    kind, taps = matrix.exact_type(2), list(product(*map(range, window.kernel)))
    moved = source.reshape(shape)[row, y, x].astype(kind) - golden.reshape(shape)[row, y, x]
    weights = ready.reshape(len(taps), window.shape[2], matrix.columns).astype(kind)
    height, width = (
        positions(*each) for each in zip(window.shape[:2], window.kernel, window.stride, window.dilation, strict=True)
    )
    sums = np.zeros((len(source) * height * width, matrix.columns), kind)
    for tap, weight in zip(taps, weights, strict=True):
        top, is_row = _window_of(y - tap[0] * window.dilation[0], window.stride[0], height)
        left, is_column = _window_of(x - tap[1] * window.dilation[1], window.stride[1], width)
        at = np.flatnonzero(is_row & is_column)
        sums[(row[at] * height + top[at]) * width + left[at]] += moved[at] @ weight  # each window once for a tap
    return matrix.plus(result, sums)


def _differing(images: Stream, golden: Stream) -> npt.NDArray[np.bool_]:
    """Which pixels differ, shape (rows, height, width); eight bytes of channels at a time where there are as many."""
    if images.shape[3] * images.itemsize % 8 == 0:
        images, golden = (np.ascontiguousarray(each).view(np.uint64) for each in (images, golden))
    unequal = images != golden
    return unequal[..., 0] if unequal.shape[3] == 1 else unequal.any(axis=3)


def _window_of(first: Any, stride: int, count: int) -> tuple[Any, Any]:
    """The number of the window that begins at `first`, along one axis, and whether there is one."""
    if stride == 1:
        return first, (first >= 0) & (first < count)
    number = first // stride
    return number, (first % stride == 0) & (number >= 0) & (number < count)
