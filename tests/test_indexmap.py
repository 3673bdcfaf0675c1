# SPDX-License-Identifier: Apache-2.0
"""Index maps against explicit loops over FINN's formula."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from bitward.errors import ManifestError
from bitward.indexmap import Axis, IndexMap, mvau_axes, radix, split_axes


def mvau_by_hand(matrix, pe, simd):
    """Flat parameter index per (word, lane), from FINN's formula; `matrix` is (MW, MH) of flat indices."""
    mw_count, mh_count = matrix.shape
    table = np.full((mw_count * mh_count // (pe * simd), pe * simd), -1)
    for mw, mh in itertools.product(range(mw_count), range(mh_count)):
        word = (mh // pe) * (mw_count // simd) + mw // simd
        table[word, (mh % pe) * simd + mw % simd] = matrix[mw, mh]
    return table


def mvau_map(outputs, inputs, pe, simd):
    count = math.prod(size for size, _ in outputs) * math.prod(size for size, _ in inputs)
    return IndexMap(count // (pe * simd), pe * simd, count, *mvau_axes(outputs, inputs, pe, simd))


def divisors(number):
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("mw", "mh"), [(1, 1), (1, 6), (8, 1), (6, 4), (12, 10)])
def test_a_dense_layer_at_every_folding(mw, mh, transposed):
    shape, ins, outs = ((mh, mw), 1, 0) if transposed else ((mw, mh), 0, 1)
    flat = np.arange(mw * mh).reshape(shape)
    matrix = flat.T if transposed else flat
    for pe, simd in itertools.product(divisors(mh), divisors(mw)):
        found = mvau_map(radix(shape, (outs,)), radix(shape, (ins,)), pe, simd)
        assert np.array_equal(found.index, mvau_by_hand(matrix, pe, simd))


@pytest.mark.parametrize("simd", [1, 2, 4, 12, 36])
def test_a_convolution_whose_rows_run_kh_kw_ic(simd):
    shape = (6, 4, 3, 3)
    matrix = np.arange(math.prod(shape)).reshape(shape).transpose(2, 3, 1, 0).reshape(36, 6)
    for pe in divisors(6):
        found = mvau_map(radix(shape, (0,)), radix(shape, (2, 3, 1)), pe, simd)
        assert np.array_equal(found.index, mvau_by_hand(matrix, pe, simd))


@pytest.mark.parametrize("simd", divisors(9))
def test_a_one_channel_convolution(simd):
    shape = (8, 1, 3, 3)
    matrix = np.arange(72).reshape(8, 9).T
    found = mvau_map(radix(shape, (0,)), radix(shape, (2, 3, 1)), 2, simd)
    assert np.array_equal(found.index, mvau_by_hand(matrix, 2, simd))


@pytest.mark.parametrize("simd", [1, 2, 8, 16, 32, 64])
def test_a_dense_layer_behind_a_flattened_map(simd):
    """NCHW is flattened by the exported graph, NHWC streams in hardware."""
    channels, height, width, outs = 16, 2, 2, 10
    shape = (channels, height, width, outs)
    matrix = np.arange(640).reshape(shape).transpose(1, 2, 0, 3).reshape(64, outs)
    found = mvau_map(radix(shape, (3,)), radix(shape, (1, 2, 0)), 5, simd)
    assert np.array_equal(found.index, mvau_by_hand(matrix, 5, simd))


@pytest.mark.parametrize("simd", [1, 2, 3, 9, 27])
def test_a_transposed_convolution_turns_its_kernel(simd):
    """Rows run (kh, kw, ic) over the kernel turned by 180 degrees: spatial digits count down."""
    shape = (3, 4, 3, 3)  # (inputs, outputs, height, width)
    matrix = np.arange(math.prod(shape)).reshape(shape)[:, :, ::-1, ::-1].transpose(2, 3, 0, 1).reshape(27, 4)
    turned = [(size, -stride) for size, stride in radix(shape, (2, 3))] + radix(shape, (0,))
    if simd == 2:
        with pytest.raises(ManifestError, match="^lanes must divide digits of sizes"):
            mvau_map(radix(shape, (1,)), turned, 2, simd)
        return
    found = mvau_map(radix(shape, (1,)), turned, 2, simd)
    assert np.array_equal(found.index, mvau_by_hand(matrix, 2, simd))


def test_copies_and_holes():
    """4 thresholds a row of 3 lanes, each lane a copy; every fourth row is a hole, and so is a fourth lane."""
    found = IndexMap(8, 4, 6, (Axis(2, 4, 3), Axis(3, 1, 1)), (Axis(3, 1, 0),))
    table = [[i, i, i, -1] for i in (0, 1, 2)] + [[-1] * 4] + [[i, i, i, -1] for i in (3, 4, 5)] + [[-1] * 4]
    assert found.index.tolist() == table
    assert found.replicas == 3
    assert found.replica[0].tolist() == [0, 1, 2, -1]
    for replica, index in itertools.product(range(3), range(6)):
        word, lane = found.slots[replica, index]
        assert (found.index[word, lane], found.replica[word, lane]) == (index, replica)


def test_copies_over_words_and_lanes():
    found = IndexMap(4, 2, 2, (Axis(2, 2, 0), Axis(2, 1, 1)), (Axis(2, 1, 0),))
    assert found.index.tolist() == [[0, 0], [1, 1], [0, 0], [1, 1]]
    assert found.replica.tolist() == [[0, 1], [0, 1], [2, 3], [2, 3]]


def test_one_word_and_one_lane():
    assert IndexMap(1, 1, 1, (), ()).index.tolist() == [[0]]
    deep_one = mvau_map([(2, 1)], [(3, 2)], 2, 3)
    assert deep_one.index.tolist() == [[0, 2, 4, 1, 3, 5]]


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: Axis(0, 1, 1), r"^an axis must be size >= 1, step >= 0, got Axis\(size=0,"),
        (lambda: Axis(1, -1, 1), r"^an axis must be size >= 1, step >= 0, got Axis\(size=1, step=-1"),
        (lambda: IndexMap(2, 1, 3, (Axis(3, 1, 1),), ()), r"^word_axes must stay below 2 words, got 2; check"),
        (lambda: IndexMap(1, 2, 3, (), (Axis(3, 1, 1),)), r"^lane_axes must stay below 2 lanes, got 2; check"),
        (
            lambda: IndexMap(4, 1, 4, (Axis(2, 1, 2), Axis(2, 1, 1)), ()),
            r"^word_axes must reach each word once, got one",
        ),
        (
            lambda: IndexMap(3, 1, 2, (Axis(3, 1, 1),), ()),
            r"^an index must be below 2, got 2; check the axes' strides$",
        ),
        (
            lambda: IndexMap(4, 1, 4, (Axis(2, 2, 1), Axis(2, 1, 1)), ()),
            r"^an index map must hold each parameter once per replica, got parameter 1 2 times;",
        ),
        (
            lambda: IndexMap(2, 1, 3, (Axis(2, 1, 1),), ()),
            r"^an index map must hold each parameter once per replica, got parameter 2 0 times;",
        ),
        (lambda: split_axes([(6, 1)], 4), r"^lanes must divide digits of sizes \[6\] from the last one up, got 4;"),
        (lambda: split_axes([(3, 3), (3, 1), (4, 9)], 6), r"^lanes must divide digits of sizes \[9, 4\] from the last"),
        (lambda: split_axes([(2, 1)], 4), r"^lanes must divide digits of sizes \[2\] from the last one up, got 4;"),
    ],
)
def test_refusals(call, match):
    with pytest.raises(ManifestError, match=match):
        call()
