# SPDX-License-Identifier: Apache-2.0
"""Exponent protection against its definition, written down bit by bit."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitward.errors import ConfigError
from bitward.rewrites import PROTECTION_TARGETS, at_risk, protect_exponents

SIX_ONES = {0x3F, 0x5F, 0x6F, 0x77, 0x7B, 0x7D}


def word_of(value: float) -> int:
    return int(struct.unpack("<I", struct.pack("<f", value))[0])


def value_of(sign: int, exponent: int, mantissa: int) -> float:
    return float(struct.unpack("<f", struct.pack("<I", sign << 31 | exponent << 23 | mantissa))[0])


def ones(exponent: int) -> int:
    return bin(exponent & 0x7F).count("1")


def expected(word: int, lower: float, upper: float) -> int:
    """The paper's rule: down to all ones, up to none, only to an exponent with fewer ones below its leading zero."""
    sign, exponent, mantissa = word >> 31, word >> 23 & 0xFF, word & 0x7FFFFF
    if exponent in SIX_ONES | {0x7F}:
        size = 1 + mantissa / 2**23
        if size <= lower:
            return sign << 31 | (exponent - 1) << 23 | 0x7FFFFF
        if size >= upper and exponent + 1 < 0x80 and ones(exponent + 1) < ones(exponent):
            return sign << 31 | (exponent + 1) << 23
    return word


@pytest.mark.parametrize("name", PROTECTION_TARGETS)
@pytest.mark.parametrize("sign", [0, 1])
def test_every_exponent_at_the_ends_and_the_middle_of_its_mantissas(name, sign):
    target = PROTECTION_TARGETS[name]
    near = [round((at - 1) * 2**23) for at in (target.lower, target.upper)]
    mantissas = {0, 1, 1 << 22, 0x7FFFFE, 0x7FFFFF} | {each + step for each in near for step in (-1, 0, 1)}
    words = [sign << 31 | exponent << 23 | m for exponent in range(0xFF) for m in sorted(mantissas)]
    values = np.array(words, dtype=np.uint32).view(np.float32)
    found, changed = protect_exponents(values, target.lower, target.upper)
    wanted = [expected(word, target.lower, target.upper) for word in words]
    assert found.view(np.uint32).tolist() == wanted
    assert changed.tolist() == [a != b for a, b in zip(words, wanted, strict=True)]
    assert {word >> 23 & 0xFF for word, flag in zip(words, changed, strict=True) if flag} == SIX_ONES | {0x7F}
    assert not at_risk(found[changed & ((values.view(np.uint32) >> 23 & 0xFF) != 0x7F)]).any()


@pytest.mark.parametrize(
    ("exponent", "mantissa", "wanted"),
    [
        (0x3F, 0, (0x3E, 0x7FFFFF)),
        (0x3F, 0x7FFFFF, (0x40, 0)),
        (0x5F, 0, (0x5E, 0x7FFFFF)),
        (0x7D, 0x7FFFFF, (0x7D, 0x7FFFFF)),
        (0x7E, 0, (0x7E, 0)),
        (0x7F, 0, (0x7E, 0x7FFFFF)),
        (0x7F, 0x7FFFFF, (0x7F, 0x7FFFFF)),
    ],
)
def test_known_words(exponent, mantissa, wanted):
    """A leading zero stays one: 5e-20 (0x3F) moves by a part in ten million, not to 0.5."""
    value = value_of(0, exponent, mantissa)
    found, changed = protect_exponents(np.float32([value]), 1.001, 1.999)
    assert found[0] == value_of(0, *wanted)
    assert changed[0] == (wanted != (exponent, mantissa))


@given(
    st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=50), st.sampled_from(sorted(PROTECTION_TARGETS))
)
def test_a_value_moves_by_no_more_than_its_target_says(values, name):
    target = PROTECTION_TARGETS[name]
    given_values = np.array(values, dtype=np.float32)
    found, changed = protect_exponents(given_values, target.lower, target.upper)
    most = max(target.lower - 1, 2 / target.upper - 1) + 2.0**-23
    assert np.array_equal(found[~changed], given_values[~changed])
    moved = np.abs(found[changed].astype(np.float64) / given_values[changed] - 1)
    assert (moved <= most).all()
    again, none = protect_exponents(found, target.lower, target.upper)
    assert not none.any() and np.array_equal(again, found)


def test_an_upset_of_a_protected_value_does_less():
    """1.0 and one upset of its exponent: infinite before, finite after."""
    before = np.float32([1.0]).view(np.uint32) ^ np.uint32(1 << 30)
    assert np.isinf(before.view(np.float32)[0])
    found, _ = protect_exponents([1.0], 1.001, 1.999)
    assert np.isfinite((found.view(np.uint32) ^ np.uint32(1 << 30)).view(np.float32)[0])


@pytest.mark.parametrize(("lower", "upper"), [(0.9, 1.9), (1.9, 1.1), (1.5, 1.5), (1.1, 2.1), (float("nan"), 1.9)])
def test_limits_are_checked(lower, upper):
    with pytest.raises(ConfigError, match=r"^lower and upper must be 1 <= lower < upper <= 2, got .*: PT1 is"):
        protect_exponents([1.0], lower, upper)
