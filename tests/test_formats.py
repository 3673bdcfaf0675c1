# SPDX-License-Identifier: Apache-2.0
"""Formats: every word of up to 16 bits comes back; rounding and saturation against slow, obvious arithmetic."""

from __future__ import annotations

import struct
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitward.errors import FormatError
from bitward.formats import (
    BFloat16,
    Fixed,
    Float16,
    Float32,
    Format,
    Int,
    ShortBFloat16,
    ShortFloat16,
    ShortFloat32,
    UInt,
    format_from_dict,
)
from bitward.words import all_words

SHORT = [ShortFloat32(), ShortFloat16(), ShortBFloat16()]  # tested at the end
INTEGERS = [Int(1), Int(2), Int(4, 0.3), Int(8, 1e-3), Int(16), UInt(1), UInt(4, 0.1, 3), UInt(8, 2.0, 255), UInt(16)]
FIXED = [Fixed(8, 6), Fixed(4, 0), Fixed(4, -3), Fixed(16, 20)]
FLOATS = [Float16(), BFloat16()]


@pytest.mark.parametrize("fmt", INTEGERS + FIXED, ids=str)
def test_every_word_comes_back(fmt):
    words = all_words(fmt.bits)
    values = fmt.decode(words)
    assert np.array_equal(fmt.encode(values), words)
    assert len(np.unique(values)) == len(words)


@pytest.mark.parametrize("fmt", FLOATS, ids=str)
def test_every_word_of_a_float_that_is_a_number_comes_back(fmt):
    words = all_words(16)
    values = fmt.decode(words)
    numbers = ~np.isnan(values)
    assert values.dtype == np.float32
    assert np.array_equal(fmt.encode(values[numbers]), words[numbers])


def test_float16_is_what_struct_unpacks():
    words = all_words(16)
    expected = np.array(struct.unpack("<65536e", words.astype("<u2").tobytes()))
    assert np.array_equal(Float16().decode(words), expected, equal_nan=True)


@pytest.mark.parametrize("bits", [1, 3, 4, 8])
def test_int_is_two_s_complement(bits):
    expected = [word - (1 << bits) if word >> (bits - 1) else word for word in range(1 << bits)]
    assert Int(bits).decode(all_words(bits)).tolist() == expected


def test_fixed_8_6_has_the_range_of_its_name():
    values = Fixed(8, 6).decode(all_words(8))
    assert (values.min(), values.max()) == (-2.0, 1.984375)
    assert Fixed(8, 6).encode([-9.0, 9.0]).tolist() == [0x80, 0x7F]


@given(st.floats(-40, 40), st.sampled_from(INTEGERS + FIXED))
def test_encode_gives_the_nearest_value(value, fmt):
    word = int(fmt.encode(value))
    values = fmt.decode(all_words(fmt.bits))
    error = np.abs(values - value)
    assert error[word] <= error.min() * (1 + 1e-9) + 1e-12


@pytest.mark.parametrize(("value", "integer"), [(0.5, 0), (1.5, 2), (2.5, 2), (-0.5, 0), (-1.5, -2), (-2.5, -2)])
def test_halves_go_to_even(value, integer):
    assert Int(4).decode(Int(4).encode(value)) == integer
    assert Fixed(8, 0).decode(Fixed(8, 0).encode(value)) == integer


@given(st.floats(width=32, allow_nan=False, allow_infinity=False), st.sampled_from([Float32(), Float16(), BFloat16()]))
def test_floats_are_rounded_to_the_nearest_and_ties_to_even(value, fmt):
    word = int(fmt.encode(value))
    got = float(fmt.decode(np.array(word, dtype=f"u{fmt.bits // 8}")))
    if np.isinf(got):
        largest = {16: 65504.0}.get(fmt.bits) if isinstance(fmt, Float16) else 3.3895313892515355e38
        assert abs(value) > largest
        return
    neighbours = [word - 1, word + 1] if word & (1 << (fmt.bits - 1)) - 1 else [word + 1]
    exact = Fraction(value)
    for other in neighbours:
        there = float(fmt.decode(np.array(other, dtype=f"u{fmt.bits // 8}")))
        if np.isfinite(there):
            here_error, there_error = abs(Fraction(got) - exact), abs(Fraction(there) - exact)
            assert here_error < there_error or (here_error == there_error and word % 2 == 0)


def test_floats_overflow_to_infinity():
    assert Float16().decode(Float16().encode([1e6, -1e6])).tolist() == [np.inf, -np.inf]
    assert Float32().decode(Float32().encode(1e300)) == np.inf
    assert BFloat16().decode(BFloat16().encode(3.4e38)) == np.inf


def test_wide_integers_are_exact():
    fmt = Int(48)
    values = np.array([-(2**47), -1, 0, 2**47 - 1])
    assert fmt.decode(fmt.encode(values)).tolist() == values.tolist()
    assert UInt(24).encode(2**24 - 1) == 2**24 - 1


def test_saturation_survives_a_tiny_scale():
    assert Int(4, 1e-300).encode([1e300, -1e300]).tolist() == [7, 8]


@pytest.mark.parametrize("fmt", [*INTEGERS, *FIXED, *FLOATS, Float32(), *SHORT], ids=str)
def test_json_round_trip(fmt):
    assert format_from_dict(fmt.to_dict()) == fmt


def test_every_format_is_tested():
    tested = {type(fmt).name for fmt in [*INTEGERS, *FIXED, *FLOATS, Float32(), *SHORT]}
    assert set(Format.kinds) == tested


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: Int(4).encode([0.0, np.nan]), r"^Int values must be numbers, got NaN;"),
        (lambda: Float16().encode(np.nan), r"^Float16 values must be numbers, got NaN;"),
        (lambda: BFloat16().encode(np.nan), r"^BFloat16 values must be numbers, got NaN;"),
        (lambda: Fixed(8, 6).encode(np.inf), r"^Fixed values must be finite, got an infinity;"),
        (lambda: Int(4).encode(["1"]), r"^Int values must be real numbers, got <U1;"),
        (lambda: Int(0), r"^Int\.bits must be 1 to 48, got 0;"),
        (lambda: UInt(49), r"^UInt\.bits must be 1 to 48, got 49;"),
        (lambda: Int(4, -0.5), r"^Int\.scale must be finite and above 0, got -0\.5; fold signs into the weights$"),
        (lambda: UInt(4, float("nan")), r"^UInt\.scale must be finite and above 0, got nan;"),
        (lambda: UInt(4, 1.0, 16), r"^UInt\.zero_point must be 0 to 15, got 16;"),
        (lambda: Fixed(8, 300), r"^Fixed\.frac_bits must be -256 to 256, got 300;"),
        (lambda: Int(4).decode([16]), r"^Int words must be words of 4 bits, got 16;"),
        (
            lambda: format_from_dict({"name": "itn", "bits": 4}),
            r"^format\.name must be a known name, got 'itn'; did you",
        ),
        (lambda: format_from_dict({"name": "int"}), r"^format must have the key 'bits', got \[\];"),
    ],
)
def test_refusals(call, match):
    with pytest.raises(FormatError, match=match):
        call()


@pytest.mark.parametrize("form", [Float32(), Float16(), BFloat16()], ids=str)
def test_bounds_of_floating_point_keep_the_top_bit_of_the_exponent_zero(form):
    lowest, highest = form.bounds
    words = form.encode([lowest, highest, 2.0, -2.0, 0.1, np.nextafter(np.float32(highest), np.float32(0))])
    assert form.decode(words[:2]).tolist() == [lowest, highest], "both are values of the format"
    assert (words >> form.exponent_msb & 1).tolist() == [0, 0, 1, 1, 0, 0]
    assert int(words[1]) + 1 == int(words[2]), "2 is the next value"


@pytest.mark.parametrize("form", [Fixed(8, 6), Fixed(5, 7), Int(4, 0.3), UInt(3, 0.5, 2)], ids=str)
def test_bounds_of_integers_are_their_least_and_their_largest_value(form):
    values = form.decode(np.arange(1 << form.bits, dtype=np.uint8))
    assert form.bounds == (values.min(), values.max()) and form.exponent_msb is None


@pytest.mark.parametrize("form", [ShortFloat16(), ShortBFloat16()], ids=str)
def test_every_word_of_a_short_format_is_a_value_within_2(form):
    words = np.arange(1 << 15, dtype=np.uint16)
    values = form.decode(words)
    assert (np.abs(values) < 2).all() and np.array_equal(form.encode(values), words)
    whole = np.arange(1 << 16, dtype=np.uint16)
    known = form.whole.decode(whole[whole >> 14 & 1 == 0])
    assert np.array_equal(np.sort(values), np.sort(known)), "all values of the whole format that are below 2"
    assert form.decode(form.encode([5.0, -2.0, np.inf])).tolist() == [form.bounds[1], form.bounds[0], form.bounds[1]]
    assert format_from_dict(form.to_dict()) == form


def test_short_single_precision_is_single_precision_within_2():
    form, random = ShortFloat32(), np.random.default_rng(0)
    words = random.integers(0, 1 << 31, 100_000).astype(np.uint32)
    values = form.decode(words)
    assert (np.abs(values) < 2).all() and np.array_equal(form.encode(values), words)
    assert np.array_equal(form.decode(form.encode(values)), values) and int(words.max()) > 1 << 30
    assert np.array_equal(Float32().encode(values) & 0x3FFFFFFF, words & 0x3FFFFFFF)
    assert form.decode(form.encode([2.0, -9.0])).tolist() == list(form.bounds)[::-1]


@pytest.mark.parametrize("form", SHORT, ids=str)
def test_short_formats_refuse_what_is_no_number(form):
    with pytest.raises(FormatError, match=rf"^{type(form).__name__} values must be numbers, got NaN; look for"):
        form.encode([0.1, np.nan])
