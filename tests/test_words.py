# SPDX-License-Identifier: Apache-2.0
"""Words against Python's own integers, at every kind of width."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitward import words
from bitward.errors import FormatError

WIDTHS = [1, 7, 8, 9, 32, 33, 34, 63, 64, 65, 72, 127, 128]


@given(st.data(), st.sampled_from(WIDTHS))
def test_extract_and_join_are_shifts_of_integers(data, bits):
    numbers = data.draw(st.lists(st.integers(0, (1 << bits) - 1), min_size=1, max_size=4))
    low = data.draw(st.integers(0, bits - 1))
    width = data.draw(st.integers(0, bits - low))
    packed = words.from_ints("numbers", numbers, bits)
    middle = words.extract(packed, bits, low, width)
    assert words.to_ints(middle, max(width, 1)) == [number >> low & (1 << width) - 1 for number in numbers]
    rest = bits - low - width
    parts = [words.extract(packed, bits, at, size) for at, size in ((0, low), (low, width), (low + width, rest))]
    joined = words.join(*zip(parts, (low, width, rest), strict=True))
    assert words.to_ints(joined, bits) == numbers
    assert joined.dtype == packed.dtype


@pytest.mark.parametrize("bits", WIDTHS)
def test_bits_and_back(bits):
    numbers = [0, (1 << bits) - 1, 1 << (bits - 1), 0x5A5A5A5A5A5A5A5A5A5A5A5A5A5A5A5A % (1 << bits)]
    packed = words.from_ints("numbers", numbers, bits)
    assert packed.shape == words.word_shape((4,), bits)
    planes = words.to_bits(packed, bits)
    assert planes.tolist() == [[number >> bit & 1 for bit in range(bits)] for number in numbers]
    assert np.array_equal(words.from_bits(planes), packed)
    for bit in range(bits):
        assert words.to_ints(words.flip(packed, bits, bit), bits) == [number ^ 1 << bit for number in numbers]


@pytest.mark.parametrize(("bits", "dtype"), [(1, "u1"), (8, "u1"), (9, "u2"), (17, "u4"), (34, "u8"), (72, "u8")])
def test_the_smallest_type_holds_a_word(bits, dtype):
    assert words.word_dtype(bits) == np.dtype(dtype)
    assert words.from_ints("numbers", [], bits).dtype == np.dtype(dtype)


def test_one_word_alone_is_a_word():
    assert words.as_words("word", np.uint8(5), 4) == 5
    assert words.extract(np.uint64(0xF0), 64, 4, 4) == 15
    assert words.to_bits(np.uint8(5), 4).tolist() == [1, 0, 1, 0]


def test_beats_are_segments_lowest_first():
    assert words.segments_of(0x1_0000_0002, 3).tolist() == [2, 1, 0]
    assert words.beat_of(np.array([2, 1, 0], np.uint32)) == 0x1_0000_0002


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: words.check_width("weights", 129), r"^weights must be 1 to 128 bits wide, got 129; split wider words"),
        (lambda: words.word_dtype(0), r"^a word must be 1 to 128 bits wide, got 0;"),
        (lambda: words.word_dtype(True), r"^a word must be 1 to 128 bits wide, got True;"),
        (
            lambda: words.as_words("weights", [0.5], 4),
            r"^weights must be unsigned integers, got float64; encode values",
        ),
        (lambda: words.as_words("weights", [3, 16], 4), r"^weights must be words of 4 bits, got 16;"),
        (lambda: words.as_words("weights", [-1, 3], 4), r"^weights must be words of 4 bits, got -1;"),
        (
            lambda: words.as_words("w", [1, 2], 72),
            r"^w must be uint64 limbs of shape \(\.\.\., 2\) for 72 bits, got int64",
        ),
        (
            lambda: words.as_words("w", np.array([[0, 256]], np.uint64), 72),
            r"^w must be words of 72 bits, got 256;",
        ),
        (lambda: words.from_ints("w", [1 << 72], 72), r"^w must be words of 72 bits, got 4722366482869645213696;"),
        (lambda: words.from_ints("w", [-1], 8), r"^w must be words of 8 bits, got -1;"),
        (lambda: words.all_words(25), r"^all_words must be given at most 24 bits, got 25;"),
        (lambda: words.flip(np.zeros(1, np.uint8), 4, 4), r"^bit must be 0 to 3, got 4;"),
        (lambda: words.segments_of(1 << 32, 1), r"^a beat must be 1 segments of 32 bits, got 0x100000000;"),
    ],
)
def test_refusals(call, match):
    with pytest.raises(FormatError, match=match):
        call()
