# SPDX-License-Identifier: Apache-2.0
"""Schemes, exhaustively: every word, every upset, and the pair of upsets that must defeat the vote."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from bitward.errors import FormatError
from bitward.formats import Float32
from bitward.schemes import CHECK, InPlaceSecded, Plain, Scheme, Secded, Tmr, scheme_from_dict
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


# ---- SEC-DED: whole beats -----------------------------------------------------------------------------------
CODES = [Secded(bits, lanes) for bits in (1, 2, 3, 4, 8) for lanes in (1, 2, 3, 8)] + [Secded(100, 1), Secded(70, 2)]
WIDE_CODES = [Secded(8, 30), Secded(8, 144)]


def hamming(data):
    """The beat by the book, from a list of data bits: places numbered from 1, check bits at powers of two, parity."""
    place, places, left = 1, {}, list(data)
    while left:
        places[place] = 0 if place & place - 1 == 0 else left.pop(0)
        place += 1
    checks = {at: 0 for at in places if at & at - 1 == 0}
    for at in checks:
        checks[at] = sum(bit for number, bit in places.items() if number & at) % 2
    beat = [*data, *checks.values()]
    return [*beat, sum(beat) % 2]


def beats_of(scheme, count=4):
    """Some rows of words, and the beats that store them."""
    pool = sample(scheme.bits)
    shape = (scheme.lanes, *pool.shape[1:])
    words = np.stack([np.resize(np.roll(pool, shift, axis=0), shape) for shift in range(count)])
    return words, scheme.encode(words)


@pytest.mark.parametrize("scheme", [*CODES, *WIDE_CODES], ids=str)
def test_a_beat_is_the_books_extended_hamming_code(scheme):
    words, beats = beats_of(scheme)
    data = to_bits(words, scheme.bits).reshape(len(words), -1)
    assert beats.tolist() == [hamming(row.tolist()) for row in data]
    assert beats.shape[1] == scheme.data_bits + scheme.check_bits
    assert np.array_equal(scheme.decode(beats), words)
    assert scheme.decode(beats).dtype == words.dtype
    assert not scheme.corrected(beats).any() and not scheme.detected(beats).any()


@pytest.mark.parametrize("scheme", CODES, ids=str)
def test_any_one_upset_is_corrected_and_flagged(scheme):
    words, beats = beats_of(scheme)
    for at in range(beats.shape[1]):
        struck = beats.copy()
        struck[:, at] ^= 1
        assert np.array_equal(scheme.decode(struck), words)
        assert scheme.corrected(struck).all() and not scheme.detected(struck).any()


@pytest.mark.parametrize("scheme", CODES, ids=str)
def test_any_two_upsets_are_detected_and_left_as_they_are(scheme):
    words, beats = beats_of(scheme, 1)
    data = to_bits(words, scheme.bits).reshape(1, -1)
    for pair in itertools.combinations(range(beats.shape[1]), 2):
        struck = beats.copy()
        struck[:, pair] ^= 1
        assert scheme.detected(struck).all() and not scheme.corrected(struck).any()
        read = to_bits(scheme.decode(struck), scheme.bits).reshape(1, -1)
        assert np.flatnonzero((read ^ data)[0]).tolist() == [at for at in pair if at < scheme.data_bits]


def test_three_upsets_can_be_taken_for_one():
    """The limit of the code, as it must be: three upsets of distance 4 look like one other."""
    scheme = Secded(4, 1)
    beat = scheme.encode(np.array([0], np.uint8))
    beat[:3] ^= 1  # numbers 3, 5, 6: their exclusive or is 0, the parity bit's
    assert scheme.corrected(beat) and not scheme.detected(beat)
    assert scheme.decode(beat).tolist() == [0b0111]


def test_numbers_that_no_bit_answers_for_are_detected():
    """Three upsets that point behind the last number of a shortened code."""
    scheme = Secded(2, 4)  # 8 data bits: numbers 3 to 12 of 15
    beat = scheme.encode(np.zeros(4, np.uint8))
    beat[[0, 7, 8]] ^= 1  # 3 ^ 12 ^ 1 = 14
    assert scheme.detected(beat) and not scheme.corrected(beat)


def test_the_bits_of_a_beat_have_their_names():
    scheme = Secded(4, 6)
    assert (scheme.data_bits, scheme.check_bits, scheme.stored_bits, scheme.lane_bits) == (24, 6, 10, 4)
    assert scheme.masked_bits == tuple(range(10))
    assert [scheme.origin(bit) for bit in (0, 3, 4, 9)] == [(0, 0), (0, 3), (CHECK, 0), (CHECK, 5)]
    assert (Tmr(4, 1).check_bits, Tmr(4, 1).lane_bits) == (0, 6)
    assert (Tmr(4, 1).over(6), scheme.over(2)) == (Tmr(4, 1), Secded(4, 2))


@pytest.mark.parametrize(
    "scheme", [Plain(4), Tmr(4, 1), Tmr(24, 24), Tmr(40, 40), Secded(4, 3), Secded(70, 3)], ids=str
)
def test_beats_are_what_words_are(scheme):
    words = np.stack([sample(scheme.bits)[:3], sample(scheme.bits)[3:6]])
    beats = scheme.to_beats(words)
    assert beats.shape == (2, 3 * scheme.lane_bits + scheme.check_bits)
    if not scheme.check_bits:
        assert np.array_equal(beats, to_bits(scheme.encode(words), scheme.stored_bits).reshape(2, -1))
    assert np.array_equal(scheme.from_beats(beats).words, words)
    beats[1, scheme.bits - 1] ^= 1  # the top bit of lane 0
    reading = scheme.from_beats(beats)
    assert np.array_equal(reading.words, words) == (scheme != Plain(4))
    assert reading.corrected.tolist() == [False, scheme != Plain(4)]
    assert reading.detected.tolist() == [False, False]


@pytest.mark.parametrize("scheme", [Plain(4), Tmr(4, 1), Secded(4, 6)], ids=str)
def test_json_round_trip(scheme):
    assert scheme_from_dict(scheme.to_dict()) == scheme
    assert set(Scheme.kinds) == {"plain", "tmr", "secded", "in-place-secded"}


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
        (lambda: Secded(0, 1), r"^Secded must be 1 to 128 bits wide, got 0;"),
        (lambda: Secded(4, 0), r"^Secded\.lanes must be a whole number from 1, got 0; a beat holds PE\*SIMD words$"),
        (lambda: Secded(4, True), r"^Secded\.lanes must be a whole number from 1, got True;"),
        (
            lambda: Secded(4, 2).encode([1, 2, 3]),
            r"^words must be of shape \(\.\.\., 2\) under Secded\(.*, got \(3,\);",
        ),
        (lambda: Secded(4, 2).encode([1, 16]), r"^words must be words of 4 bits, got 16;"),
        (
            lambda: Secded(4, 2).decode(np.zeros(12, np.uint8)),
            r"^beats must be uint8 bits of shape \(\.\.\., 13\) under Secded\(.*, got uint8 of shape \(12,\);",
        ),
        (
            lambda: Secded(4, 2).decode(np.full(13, 2, np.uint8)),
            r"^beats must be uint8 bits of shape \(\.\.\., 13\) under",
        ),
        (lambda: Secded(4, 2).origin(9), r"^stored_bit must be 0 to 8 under Secded\(bits=4, lanes=2\), got 9;"),
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


def values_of(scheme):
    """Values that the scheme can store, as words: all of a few bits, telling ones of many."""
    top = 1 << (scheme.data_bits - 1)
    numbers = range(-top, top) if scheme.data_bits <= 8 else [0, 1, -1, top - 1, -top, 12345 % top, -(98765 % top)]
    return from_ints("values", [number & (1 << scheme.bits) - 1 for number in numbers], scheme.bits)


@pytest.mark.parametrize("bits", [5, 6, 8, 12, 16, 32, 64])
def test_check_bits_in_place_take_no_memory_and_correct_one_upset(bits):
    scheme = InPlaceSecded(bits)
    words = values_of(scheme)
    stored = scheme.encode(words)
    assert scheme.stored_bits == scheme.bits == bits
    assert stored.dtype == words.dtype
    assert np.array_equal(scheme.decode(stored), words)
    assert not scheme.corrected(stored).any() and not scheme.detected(stored).any()
    used = scheme.data_bits + Secded(scheme.data_bits, 1).check_bits
    assert scheme.masked_bits == tuple(range(bits)) and used <= bits
    for bit in range(bits):
        struck = flip(stored, bits, bit)
        assert np.array_equal(scheme.decode(struck), words)
        assert scheme.corrected(struck).tolist() == [bit < used] * len(words)
        assert not scheme.detected(struck).any()
        assert scheme.origin(bit) == ((0, bit) if bit < scheme.data_bits else (CHECK, bit - scheme.data_bits))
    for first, second in itertools.combinations(range(used), 2):
        struck = flip(flip(stored, bits, first), bits, second)
        assert scheme.detected(struck).all() and not scheme.corrected(struck).any()


def test_26_bits_of_32_are_all_that_fits():
    """FACTS: 26 data bits, 5 Hamming check bits, a parity bit; any two stored words differ in 4 bits or more."""
    scheme = InPlaceSecded(32)
    assert scheme.data_bits == 26 and 26 + 5 + 1 <= 2**5 < 27 + 5 + 1
    small = InPlaceSecded(8)
    stored = [int(word) for word in small.encode(values_of(small))]
    assert min(bin(a ^ b).count("1") for a, b in itertools.combinations(stored, 2)) == 4


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: InPlaceSecded(4), r"^InPlaceSecded\.bits must be 5 to 64, got 4;"),
        (lambda: InPlaceSecded(65), r"^InPlaceSecded\.bits must be 5 to 64, got 65;"),
        (
            lambda: InPlaceSecded(32).encode([1 << 25]),
            r"^words must be values of at most 26 bits under .* got 33554432:",
        ),
        (lambda: InPlaceSecded(32).encode([0xFDFFFFFF]), r"^words must be values of at most 26 bits .* got -33554433:"),
    ],
)
def test_values_that_leave_no_room_are_refused(make, match):
    with pytest.raises(FormatError, match=match):
        make()


def test_in_place_check_bits_in_a_memory():
    """Any layout and beat: `over` and `to_beats` as for a word that has no check bits of a beat."""
    scheme = InPlaceSecded(16)
    words = scheme.encode([[1, 0xFFFF, 5]])
    assert scheme.over(3) == scheme and scheme.check_bits == 0
    beats = scheme.to_beats([[1, 0xFFFF, 5]])
    assert beats.shape == (1, 48) and np.array_equal(to_bits(words, 16).reshape(1, -1), beats)
    beats[0, [3, 20, 47]] ^= 1  # one upset in each word
    reading = scheme.from_beats(beats)
    assert reading.words.tolist() == [[1, 0xFFFF, 5]] and reading.corrected.tolist() == [True]
    assert scheme_from_dict(scheme.to_dict()) == scheme
