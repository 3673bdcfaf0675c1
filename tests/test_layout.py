# SPDX-License-Identifier: Apache-2.0
"""Layouts against the rule written out slot by slot, as the RTL voter has it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from bitward.errors import FormatError
from bitward.layout import MIN_COPY_DISTANCE, BeatLayout, WordLayout
from bitward.schemes import Plain, Secded, Tmr
from bitward.words import beat_of, flip, from_bits, to_ints

SCHEMES = [
    Plain(1),
    Plain(4),
    Tmr(4, 0),
    Tmr(1, 1),
    Tmr(4, 1),
    Tmr(4, 2),
    Tmr(4, 4),
    Tmr(8, 3),
    Tmr(24, 24),
    Tmr(32, 1),
]
LAYOUTS = [BeatLayout(scheme, lanes) for scheme in SCHEMES for lanes in (1, 2, 3, 4, 5, 8, 27)]
CODES = [BeatLayout(Secded(bits, lanes), lanes) for bits, lanes in [(1, 1), (4, 1), (4, 6), (8, 27), (3, 5)]]


def beat_by_hand(layout):
    """(lane, stored bit) of each beat bit, None for padding: the rule, one slot after the other."""
    bits, voted, lanes = layout.scheme.bits, layout.scheme.voted, layout.lanes
    others = [(lane, bit) for lane in range(lanes) for bit in range(bits - voted)]
    if voted == 0:
        return others + [(-1, bits + check) for check in range(layout.scheme.check_bits)]
    gap = max(0, 4 - lanes * voted)
    starts = (bits - voted, bits, bits + voted)
    beat = []
    for copy, start in enumerate(starts):
        beat += [(lane, start + v) for lane in range(lanes) for v in range(voted)]
        if copy < 2:
            beat += [others.pop(0) if others else None for _ in range(gap)]
    return beat + others


@pytest.mark.parametrize("layout", [*LAYOUTS, *CODES], ids=str)
def test_every_bit_lies_where_the_rule_says(layout):
    beat = beat_by_hand(layout)
    assert layout.width == len(beat)
    assert [None if bit < 0 else (lane, bit) for lane, bit in layout.owner.tolist()] == beat
    assert layout.dead.tolist() == [at for at, slot in enumerate(beat) if slot is None]
    for at, slot in enumerate(beat):
        lane, bit = slot or (-1, -1)
        assert lane < 0 or layout.position[slot] == at
        assert lane >= 0 or bit < 0 or layout.check_position[bit - layout.scheme.lane_bits] == at


@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if layout.scheme.voted], ids=str)
def test_copies_of_a_bit_stand_at_least_four_bits_apart(layout):
    for lane in range(layout.lanes):
        for bit in range(layout.scheme.bits - layout.scheme.voted, layout.scheme.bits):
            copies = [at for at in range(layout.scheme.stored_bits) if layout.scheme.origin(at)[1] == bit]
            for first, second in itertools.combinations(copies, 2):
                assert abs(layout.position[lane, first] - layout.position[lane, second]) >= MIN_COPY_DISTANCE


@pytest.mark.parametrize("layout", [*LAYOUTS, WordLayout(Tmr(4, 1)), WordLayout(Tmr(24, 24))], ids=str)
def test_pack_and_unpack(layout):
    scheme = layout.scheme
    rng = np.random.default_rng(0)
    stored = from_bits(rng.integers(0, 2, (3, layout.lanes, scheme.stored_bits)))
    segments = layout.pack(stored)
    assert segments.shape == (3, -(-layout.width // 32))
    assert np.array_equal(layout.unpack(segments), stored)
    for row in range(3):
        expected = sum(
            (word >> bit & 1) << int(layout.position[lane, bit])
            for lane, word in enumerate(to_ints(stored[row], scheme.stored_bits))
            for bit in range(scheme.stored_bits)
        )
        assert beat_of(segments[row]) == expected


@pytest.mark.parametrize("bits", [*range(1, 9), 12, 16, 24, 32])
@pytest.mark.parametrize("lanes", [1, 2, 3, 4, 7, 16])
def test_no_burst_of_four_meets_two_copies_of_a_bit(bits, lanes):
    """Weights, biases and thresholds (a row is one threshold: one lane), the top bit, some and all bits voted."""
    for voted in {1, 2, bits // 2, bits} & set(range(1, bits + 1)):
        layout = BeatLayout(Tmr(bits, voted), lanes)
        lane, bit = layout.owner[:, 0], np.array([layout.scheme.origin(max(b, 0))[1] for b in layout.owner[:, 1]])
        for start in range(max(1, layout.width - MIN_COPY_DISTANCE + 1)):
            live = [at for at in range(start, min(start + MIN_COPY_DISTANCE, layout.width)) if lane[at] >= 0]
            hit = [(lane[at], bit[at]) for at in live]
            assert len(set(hit)) == len(hit)


@pytest.mark.parametrize("layout", [*LAYOUTS, *CODES, WordLayout(Tmr(4, 1)), WordLayout(Secded(4, 1))], ids=str)
def test_rows_are_encoded_and_read(layout):
    scheme = layout.scheme
    rng = np.random.default_rng(0)
    words = from_bits(rng.integers(0, 2, (3, layout.lanes, scheme.bits)))
    rows = layout.encode(words)
    assert rows.shape == (3, layout.segments)
    assert np.array_equal(layout.decode(rows), words)
    assert not layout.corrected(rows).any() and not layout.detected(rows).any()
    if not scheme.check_bits:
        assert np.array_equal(rows, layout.pack(scheme.encode(words)))
    for at in range(layout.width):
        struck = rows.copy()
        struck[1, at // 32] ^= np.uint32(1 << at % 32)
        lane, stored_bit = layout.owner[at].tolist()
        masked = stored_bit < 0 or stored_bit in scheme.masked_bits
        expected = words.copy()
        if not masked:
            expected[1, lane] = flip(words[1, lane], scheme.bits, stored_bit)
        assert np.array_equal(layout.decode(struck), expected)
        assert layout.corrected(struck).tolist() == [False, masked and stored_bit >= 0, False]
        assert not layout.detected(struck).any()


def test_two_upsets_of_a_code_are_detected_in_their_row_alone():
    layout = BeatLayout(Secded(4, 6), 6)
    rows = layout.encode(np.full((3, 6), 9, np.uint8))
    rows[2, 0] ^= np.uint32(0b11)
    assert layout.detected(rows).tolist() == [False, False, True]
    assert not layout.corrected(rows).any()
    assert layout.decode(rows)[2].tolist() == [9 ^ 0b11, 9, 9, 9, 9, 9]


def test_a_plain_beat_is_finn_s():
    assert BeatLayout(Plain(4), 3).pack(np.array([[1, 2, 3]], np.uint8)).tolist() == [[0x321]]


def test_one_lane_of_msb_voting_fills_its_gaps():
    layout = BeatLayout(Tmr(4, 1), 1)
    assert (layout.width, layout.gap, layout.dead.tolist()) == (9, 3, [5, 6, 7])
    assert layout.position.tolist() == [[1, 2, 3, 0, 4, 8]]


@pytest.mark.parametrize("layout", [BeatLayout(Tmr(4, 1), 4), BeatLayout(Tmr(4, 1), 1), BeatLayout(Tmr(4, 4), 3)])
def test_a_burst_of_four_neighbours_never_reaches_a_voted_bit(layout):
    scheme = layout.scheme
    words = np.arange(layout.lanes, dtype=np.uint8) * 5 % 16
    beat = layout.pack(scheme.encode(words)[None])
    for start in range(layout.width - 3):
        struck = beat.copy()
        for at in range(start, start + 4):
            struck[0, at // 32] ^= np.uint32(1 << at % 32)
        read = scheme.decode(layout.unpack(struck))[0]
        assert not np.any((read ^ words) >> (scheme.bits - scheme.voted))


def test_padding_is_ignored():
    layout = BeatLayout(Tmr(4, 1), 1)
    beat = layout.pack(np.array([[5]], np.uint8))
    struck = flip(beat, 32, int(layout.dead[0]))
    assert np.array_equal(layout.unpack(struck), layout.unpack(beat))


def test_a_software_word_is_numbered_as_its_scheme_numbers_it():
    layout = WordLayout(Tmr(4, 1))
    assert layout.width == 6
    assert layout.position.tolist() == [[0, 1, 2, 3, 4, 5]]
    assert layout.dead.size == 0


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: BeatLayout(Plain(4), 0), r"^lanes must be a whole number from 1, got 0;"),
        (lambda: BeatLayout(Plain(4), 1.5), r"^lanes must be a whole number from 1, got 1\.5;"),
        (
            lambda: BeatLayout(Secded(4, 3), 2),
            r"^lanes must be those that the scheme checks together, 3, got 2; take scheme\.over\(lanes\)$",
        ),
        (lambda: WordLayout(Secded(4, 3)), r"^lanes must be those that the scheme checks together, 3, got 1;"),
        (
            lambda: BeatLayout(Secded(4, 2), 2).pack(np.zeros((1, 2), np.uint8)),
            r"^a scheme must have no check bits to pack its words, got Secded\(bits=4, lanes=2\); use encode$",
        ),
        (
            lambda: BeatLayout(Plain(4), 2).encode(np.zeros((1, 3), np.uint8)),
            r"^words must have shape \(rows, 2\), got \(1, 3\);",
        ),
        (lambda: WordLayout(Plain(4), 2), r"^lanes must be 1 in a software-only memory, got 2;"),
        (
            lambda: BeatLayout(Plain(4), 2).pack(np.zeros((1, 3), np.uint8)),
            r"^stored words must have shape \(rows, 2\), got \(1, 3\);",
        ),
        (
            lambda: BeatLayout(Plain(4), 2).unpack(np.zeros((1, 2), np.uint32)),
            r"^segments must be uint32 of shape \(rows, 1\), got uint32 of shape \(1, 2\);",
        ),
        (
            lambda: BeatLayout(Plain(4), 2).unpack(np.zeros((1, 1), np.int64)),
            r"^segments must be uint32 of shape \(rows, 1\), got int64 of shape \(1, 1\);",
        ),
    ],
)
def test_refusals(call, match):
    with pytest.raises(FormatError, match=match):
        call()
