# SPDX-License-Identifier: Apache-2.0
"""Parameters: the hardware's matrix from the exported tensor, by digits."""

from __future__ import annotations

import numpy as np

from bitward.hardware.parameters import Parameter
from bitward.indexmap import radix


def parameter(values: np.ndarray, rows, columns) -> Parameter:
    """A weight of those digits."""
    return Parameter("a.weight", "a", "a.weight", "weight", values, 8, True, np.ones((), np.float32), rows, columns)


def test_a_convolutions_rows_run_over_height_width_and_inputs():
    values = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    found = parameter(values, tuple(radix(values.shape, (2, 3, 1))), tuple(radix(values.shape, (0,)))).matrix
    assert np.array_equal(found, values.transpose(2, 3, 1, 0).reshape(60, 2))


def test_negative_strides_turn_a_kernel():
    values = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    turned = tuple((size, -stride) for size, stride in radix(values.shape, (2, 3)))
    found = parameter(values, (*turned, *radix(values.shape, (0,))), tuple(radix(values.shape, (1,)))).matrix
    assert np.array_equal(found, values[:, :, ::-1, ::-1].transpose(2, 3, 0, 1).reshape(40, 3))


def test_columns_of_stride_zero_share_a_list():
    found = parameter(np.array([[1, 5, 9]]), ((3, 1),), ((4, 0),)).matrix
    assert found.tolist() == [[1] * 4, [5] * 4, [9] * 4]


def test_no_digits_are_one_number():
    assert parameter(np.array([7]), (), ()).matrix.tolist() == [[7]]
