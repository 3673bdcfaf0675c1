# SPDX-License-Identifier: Apache-2.0
"""Schemes, exhaustively: every word, every upset, and the pair of upsets that must defeat the vote."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from bitward.errors import FormatError
from bitward.formats import Float32
from bitward.schemes import Plain, Scheme, Tmr, scheme_from_dict
from bitward.words import all_words, flip, from_ints, to_bits, to_ints

SMALL = [Tmr(bits, voted) for bits in range(1, 7) for voted in range(bits + 1)] + [Tmr(8, 2), Tmr(8, 8)]
WIDE = [Tmr(32, 1), Tmr(24, 24), Tmr(64, 1), Tmr(64, 32), Tmr(65, 2), Tmr(72, 0), Tmr(126, 1), Tmr(40, 40)]


def sample(bits):
    """Words of any width: all of a small one, telling ones of a wide one."""
    if bits <= 8:
        return all_words(bits)
    mask = (1 << bits) - 1
    numbers = [0, mask, 1, 1 << (bits - 1), 0xAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA & mask]
    return from_ints("sample", numbers + [pow(3, 90, 1 << bits)], bits)


def majority(scheme, stored):
    """The word read, by the definition alone: bit by bit, on Python integers."""
    rest = scheme.bits - scheme.voted
    top = 0
    for v in range(scheme.voted):
        copies = [stored >> at + v & 1 for at in (rest, scheme.bits, scheme.bits + scheme.voted)]
        top |= (sum(copies) >= 2) << v
    return stored & (1 << rest) - 1 | top << rest


@pytest.mark.parametrize("scheme", [*SMALL, *WIDE, Plain(4), Plain(128)], ids=str)
def test_without_upsets_every_word_is_read_as_written(scheme):
    words = sample(scheme.bits)
    stored = scheme.encode(words)
    assert np.array_equal(scheme.decode(stored), words)
    assert scheme.decode(stored).dtype == words.dtype
    assert not scheme.corrected(stored).any()
    assert not scheme.detected(stored).any()
    assert scheme.corrected(stored).shape == (len(words),)


@pytest.mark.parametrize("scheme", [*SMALL, *WIDE], ids=str)
def test_one_upset_never_reaches_a_voted_bit_and_passes_an_unvoted_one(scheme):
    words = sample(scheme.bits)
    stored = scheme.encode(words)
    for stored_bit in range(scheme.stored_bits):
        struck = flip(stored, scheme.stored_bits, stored_bit)
        copy, bit = scheme.origin(stored_bit)
        masked = bit >= scheme.bits - scheme.voted
        expected = words if masked else flip(words, scheme.bits, bit)
        assert np.array_equal(scheme.decode(struck), expected)
        assert np.all(scheme.corrected(struck) == masked)
        assert not scheme.detected(struck).any()
        assert masked == (stored_bit in scheme.masked_bits)
        assert copy == 0 or masked


@pytest.mark.parametrize("scheme", [scheme for scheme in SMALL if scheme.stored_bits <= 18], ids=str)
def test_every_stored_word_is_read_by_majority(scheme):
    stored = all_words(scheme.stored_bits)
    some = stored if len(stored) <= 4096 else stored[:: len(stored) // 4096]
    assert to_ints(scheme.decode(some), scheme.bits) == [majority(scheme, int(word)) for word in some]


@pytest.mark.parametrize("scheme", [scheme for scheme in [*SMALL, *WIDE] if scheme.voted], ids=str)
def test_two_upset_copies_of_a_bit_defeat_the_vote(scheme):
    """The negative control: were it to pass, the tests above would prove nothing."""
    words = sample(scheme.bits)
    stored = scheme.encode(words)
    for bit in range(scheme.bits - scheme.voted, scheme.bits):
        copies = [at for at in range(scheme.stored_bits) if scheme.origin(at)[1] == bit]
        assert len(copies) == 3
        for first, second in itertools.combinations(copies, 2):
            struck = flip(flip(stored, scheme.stored_bits, first), scheme.stored_bits, second)
            assert np.array_equal(scheme.decode(struck), flip(words, scheme.bits, bit))
            assert scheme.corrected(struck).all()  # it saw a disagreement and settled it, wrongly


@pytest.mark.parametrize("scheme", [*SMALL, *WIDE, Plain(4)], ids=str)
def test_origin_tells_where_each_stored_bit_comes_from(scheme):
    words = sample(scheme.bits)
    plain, stored = to_bits(words, scheme.bits), to_bits(scheme.encode(words), scheme.stored_bits)
    origins = [scheme.origin(stored_bit) for stored_bit in range(scheme.stored_bits)]
    assert len(set(origins)) == scheme.stored_bits
    for stored_bit, (_, bit) in enumerate(origins):
        assert np.array_equal(stored[:, stored_bit], plain[:, bit])


def test_float32_with_one_voted_bit_is_34_bits():
    stored = Tmr(32, 1).encode(Float32().encode([-1.0]))
    assert stored.dtype == np.uint64
    assert to_ints(stored, 34) == [0b11 << 32 | 0xBF800000]


def test_a_threshold_in_triplicate_is_72_bits_in_limbs():
    stored = Tmr(24, 24).encode(np.array([0xABCDEF], np.uint32))
    assert stored.shape == (1, 2)
    assert to_ints(stored, 72) == [0xABCDEF_ABCDEF_ABCDEF]


def test_words_keep_their_shape():
    words = np.zeros((2, 3), np.uint8)
    assert Tmr(4, 1).encode(words).shape == (2, 3)
    assert Tmr(40, 40).encode(np.zeros((2, 3), np.uint64)).shape == (2, 3, 2)
    assert Tmr(4, 1).encode(np.uint8(8)) == 0b11_1000


@pytest.mark.parametrize("scheme", [Plain(4), Tmr(4, 1)], ids=str)
def test_json_round_trip(scheme):
    assert scheme_from_dict(scheme.to_dict()) == scheme
    assert set(Scheme.kinds) == {"plain", "tmr"}


def test_json_is_what_the_contract_says():
    assert Tmr(4, 1).to_dict() == {"name": "tmr", "bits": 4, "voted": 1}


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: Plain(0), r"^Plain must be 1 to 128 bits wide, got 0;"),
        (lambda: Tmr(4, 5), r"^Tmr\.voted must be 0 to 4 of 4 bits, got 5;"),
        (lambda: Tmr(4, -1), r"^Tmr\.voted must be 0 to 4 of 4 bits, got -1;"),
        (lambda: Tmr(64, 33), r"^the stored word of Tmr\(64, 33\) must be 1 to 128 bits wide, got 130;"),
        (lambda: Tmr(4, 1).encode([16]), r"^words must be words of 4 bits, got 16;"),
        (lambda: Tmr(4, 1).decode([64]), r"^stored words must be words of 6 bits, got 64;"),
        (lambda: Plain(4).decode([16]), r"^stored words must be words of 4 bits, got 16;"),
        (lambda: Tmr(4, 1).origin(6), r"^stored_bit must be 0 to 5 under Tmr\(bits=4, voted=1\), got 6;"),
        (lambda: Plain(4).origin(-1), r"^stored_bit must be 0 to 3 under Plain\(bits=4\), got -1;"),
        (lambda: scheme_from_dict({"name": "tmr", "bits": 4}), r"^scheme must have the key 'voted', got \['bits'\];"),
        (
            lambda: scheme_from_dict({"name": "tnr"}),
            r"^scheme\.name must be a known name, got 'tnr'; did you mean 'tmr'",
        ),
    ],
)
def test_refusals(call, match):
    with pytest.raises(FormatError, match=match):
        call()
