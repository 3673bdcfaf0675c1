# SPDX-License-Identifier: Apache-2.0
"""Memories: every bit of a row is located, placed and counted as loops over the definition say."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from bitward.errors import FormatError, ManifestError
from bitward.formats import Float32, Int
from bitward.indexmap import Axis, mvau_axes, radix
from bitward.layout import BeatLayout
from bitward.manifest import Hardware, Memory, Stratum
from bitward.schemes import CHECK, Plain, Secded, Tmr
from bitward.words import beat_of, flip, segments_of


def dense(pe, simd, scheme, shape=(6, 4), name="fc.weight"):
    """A dense layer's weight memory, its parameter tensor (inputs, outputs)."""
    words, lanes = mvau_axes(radix(shape, (1,)), radix(shape, (0,)), pe, simd)
    depth = shape[0] * shape[1] // (pe * simd)
    width = BeatLayout(scheme, pe * simd).width
    stride = 4 << (-(-width // 32) - 1).bit_length()
    hardware = Hardware(depth, width, pe * simd, "block", 0x1000, stride, words, lanes, 2)
    return Memory(name, "fc", "fc.weight", "weight", shape, Int(scheme.bits), scheme, hardware)


def thresholds(scheme):
    """Two channels of 3 thresholds, copied over 2 lanes, row 3 of 4 empty, row 6 unused, rows 2 bits too wide."""
    layout = BeatLayout(scheme, 3)
    axes = (Axis(2, 4, 3), Axis(3, 1, 1)), (Axis(2, 1, 0),)
    hardware = Hardware(8, layout.width + 2, 3, "distributed", 0, 32, *axes, 1, (6,))
    return Memory("act", "act", "act.T", "threshold", (2, 3), Int(scheme.bits), scheme, hardware)


MEMORIES = [
    dense(2, 3, Plain(4)),
    dense(2, 3, Tmr(4, 1)),
    dense(1, 1, Tmr(4, 1)),  # one lane
    dense(4, 6, Tmr(4, 4)),  # DEPTH = 1
    thresholds(Plain(8)),
    thresholds(Tmr(24, 24)),
    Memory("soft", "conv", "conv.weight", "weight", (2, 3), Float32(), Tmr(32, 1)),
    dense(2, 3, Secded(4, 6)),
    dense(1, 1, Secded(8, 1)),
    thresholds(Secded(8, 3)),
    Memory("soft-code", "conv", "conv.weight", "weight", (2, 3), Float32(), Secded(32, 1)),
]
IDS = ["plain", "msb", "one-lane", "depth-1", "thresholds", "thresholds-tmr", "software"]
IDS += ["secded", "secded-one-lane", "secded-thresholds", "secded-software"]
every_memory = pytest.mark.parametrize("memory", MEMORIES, ids=IDS)


def random_words(memory, seed=0):
    return np.random.default_rng(seed).integers(0, 1 << memory.scheme.bits, memory.shape, dtype=np.uint64)


def upset(image, word, bit):
    struck = image.copy()
    struck[word] = segments_of(beat_of(image[word]) ^ 1 << bit, image.shape[1])
    return struck


@every_memory
def test_what_is_written_is_read(memory):
    words = random_words(memory)
    image = memory.image(words)
    assert image.shape == (memory.depth, memory.segments)
    expected = np.broadcast_to(memory.format.decode(words), (memory.map.replicas, *memory.shape))
    assert np.array_equal(memory.values(image), expected, equal_nan=True)


@every_memory
def test_every_bit_is_the_bit_that_locate_says(memory):
    """Flip each bit of each row in the image; exactly the located stored bit of the located parameter changes."""
    image = memory.image(random_words(memory))
    stored = memory.stored_words(image)
    live = 0
    for word, bit in itertools.product(range(memory.depth), range(memory.width)):
        found = memory.locate(word, bit)
        expected = stored.copy()
        if not found.dead and found.copy == CHECK:
            live += 1
            assert (found.index, found.replica) == (-1, -1)
            assert memory.scheme.origin(int(found.stored_bit)) == (CHECK, found.bit)
            assert [word, bit] in memory.members(int(found.stored_bit)).tolist()
        elif not found.dead:
            live += 1
            at = (found.replica, *np.unravel_index(found.index, memory.shape))
            expected[at] = flip(stored[at], memory.scheme.lane_bits, int(found.stored_bit))
            assert memory.scheme.origin(int(found.stored_bit)) == (found.copy, found.bit)
            place = memory.places(found.index)[found.replica, found.stored_bit]
            assert place.tolist() == [word, bit]
        elif not (memory.hardware and word in memory.hardware.unused_words):
            assert {found.index, found.copy, found.bit, found.replica, found.stored_bit} == {-1}
        else:
            continue  # written and read back, but no computation looks at it
        assert np.array_equal(memory.stored_words(upset(image, word, bit)), expected)
        assert memory.live(word, bit) == (not found.dead)
    assert live == memory.population


@every_memory
def test_locate_and_live_take_whole_arrays(memory):
    words, bits = np.indices((memory.depth, memory.width))
    found = memory.locate(words, bits)
    assert np.array_equal(memory.live(words, bits), found.stored_bit >= 0)
    for word, bit in [(0, 0), (memory.depth - 1, memory.width - 1)]:
        one = memory.locate(word, bit)
        assert one.index == found.index[word, bit]
        assert one.stored_bit == found.stored_bit[word, bit]


@every_memory
def test_strata_are_the_live_bits(memory):
    words, bits = np.indices((memory.depth, memory.width))
    stored_bit = memory.locate(words, bits).stored_bit
    assert sum(stratum.size for stratum in memory.strata) == memory.population
    for stratum in memory.strata:
        expected = np.argwhere(stored_bit == stratum.stored_bit)
        members = memory.members(stratum.stored_bit)
        assert stratum == Stratum(memory.name, stratum.stored_bit, len(expected))
        assert sorted(members.tolist()) == expected.tolist()
        assert memory.members(stratum.stored_bit, [1, 0]).tolist() == members[[1, 0]].tolist()


def test_places_of_several_parameters():
    memory = thresholds(Plain(8))
    assert memory.places([0, 5]).shape == (2, 2, 8, 2)
    assert memory.places([0, 5])[1, 1].tolist() == memory.places(5)[1].tolist()


def test_finn_s_formula_for_weights():
    """Weight (mw, mh) lies at word (mh//PE)*(MW//SIMD)+mw//SIMD, bit ((mh%PE)*SIMD+mw%SIMD)*bits."""
    memory = dense(2, 3, Plain(4))
    for mw, mh in itertools.product(range(6), range(4)):
        word, bit = memory.places(mw * 4 + mh)[0, 0]
        assert (word, bit) == ((mh // 2) * 2 + mw // 3, ((mh % 2) * 3 + mw % 3) * 4)


def test_dead_bits_are_not_in_the_population():
    memory = thresholds(Plain(8))
    assert memory.population == (6 - 1) * 2 * 8  # row 6 unused, two copies
    assert not memory.live(3, np.arange(26)).any()  # a hole
    assert not memory.live(6, np.arange(26)).any()  # unused
    assert not memory.live(0, np.arange(16, 26)).any()  # the third lane and the two bits of padding
    assert memory.live(0, np.arange(16)).all()


def test_a_copy_of_a_threshold_is_hit_alone():
    memory = thresholds(Plain(8))
    image = memory.image(np.zeros((2, 3), np.uint8))
    word, bit = memory.places(4)[1, 7]
    values = memory.values(upset(image, word, bit))
    assert values[0].tolist() == [[0, 0, 0], [0, 0, 0]]
    assert values[1].tolist() == [[0, 0, 0], [0, -128, 0]]


def test_any_voted_bit_is_masked_and_no_other():
    memory = dense(2, 3, Tmr(4, 1))
    image = memory.image(random_words(memory))
    golden = memory.values(image)
    for stored_bit in range(memory.scheme.stored_bits):
        for word, bit in memory.members(stored_bit).tolist():
            same = np.array_equal(memory.values(upset(image, word, bit)), golden)
            assert same == (stored_bit in memory.scheme.masked_bits)


@every_memory
def test_a_masked_upset_is_not_read_and_another_is(memory):
    """What the scheme promises of a stored bit holds in the memory: every live bit, one by one."""
    image = memory.image(random_words(memory))
    golden = memory.words(image)
    for stored_bit in range(memory.scheme.stored_bits):
        for word, bit in memory.members(stored_bit)[:12].tolist():
            same = np.array_equal(memory.words(upset(image, word, bit)), golden)
            assert same == (stored_bit in memory.scheme.masked_bits)


def test_check_bits_are_the_rows():
    memory = dense(2, 3, Secded(4, 6))
    assert (memory.depth, memory.width, memory.segments) == (4, 24 + 6, 1)
    assert memory.population == 4 * 30
    assert [stratum.size for stratum in memory.strata] == [24] * 4 + [4] * 6
    assert memory.members(4).tolist() == [[row, 24] for row in range(4)]
    assert memory.members(9, [2, 0]).tolist() == [[2, 29], [0, 29]]
    assert memory.places(0).shape == (1, 4, 2)
    found = memory.locate(1, [23, 24, 29])
    assert (found.index >= 0).tolist() == [True, False, False]
    assert (found.copy.tolist(), found.bit.tolist()) == ([0, CHECK, CHECK], [3, 0, 5])
    assert not found.dead.any()


def test_check_bits_of_rows_that_hold_nothing_are_dead():
    memory = thresholds(Secded(8, 3))
    check = memory.layout.check_position
    assert not memory.live(3, check).any()  # no threshold in this row
    assert not memory.live(6, check).any()  # an unused row
    assert memory.live(0, check).all()
    assert memory.population == 5 * 2 * 8 + 5 * len(check)


def test_a_wrong_index_map_reads_other_values():
    """The negative control of every comparison across targets."""
    memory = dense(2, 3, Plain(4))
    words, lanes = mvau_axes(radix((6, 4), (1,)), radix((6, 4), (0,)), 2, 3)
    wrong = replace(memory, hardware=replace(memory.hardware, lane_axes=(replace(lanes[0], step=1), Axis(3, 2, 4))))
    image = memory.image(random_words(memory))
    assert not np.array_equal(wrong.values(image), memory.values(image))


HARDWARE = dense(2, 3, Plain(4)).hardware
SOFT = MEMORIES[IDS.index("software")]


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (
            lambda: replace(HARDWARE, depth=0),
            r"^hardware must be depth >= 1, width >= 1, flush_images >= 0, got 0, 24, 2;",
        ),
        (
            lambda: replace(HARDWARE, base=2),
            r"^hardware must be at a base and word_stride of whole segments, 4 bytes or",
        ),
        (
            lambda: replace(HARDWARE, width=33),
            r"^hardware must be at a base and word_stride of whole segments, 8 bytes",
        ),
        (lambda: replace(HARDWARE, unused_words=(4,)), r"^unused_words must be 0 to 3, got \(4,\);"),
        (
            lambda: replace(dense(2, 3, Plain(4)), format=Int(8)),
            r"^memory fc\.weight: scheme must be of the format's 8 bits, got Plain\(bits=4\);",
        ),
        (
            lambda: replace(dense(2, 3, Plain(4)), hardware=replace(HARDWARE, width=23)),
            r"^memory fc\.weight: hardware\.width must be at least 24 for 6 lanes of Plain\(bits=4\), got 23;",
        ),
        (
            lambda: replace(dense(2, 3, Plain(4)), shape=(6, 5)),
            r"^memory fc\.weight: an index map must hold each parameter once per replica, got parameter 24 0 times;",
        ),
        (lambda: SOFT.locate(6, 0), r"^word must be 0 to 5 in memory soft, got 6; take faults from bitward\.faults$"),
        (lambda: SOFT.locate(0, [0, -1]), r"^bit must be 0 to 33 in memory soft, got -1;"),
        (lambda: SOFT.places(6), r"^index must be 0 to 5 in memory soft, got 6;"),
        (lambda: SOFT.image(np.zeros(6, np.uint32)), r"^memory soft: words must be of shape \(2, 3\), got \(6,\);"),
        (
            lambda: SOFT.stored_words(np.zeros((6, 1), np.uint32)),
            r"^memory soft: image must be uint32 of shape \(6, 2\), got uint32 of shape \(6, 1\);",
        ),
    ],
)
def test_refusals(call, match):
    with pytest.raises(ManifestError, match=match):
        call()


def test_a_stored_bit_that_is_not_there_is_refused():
    with pytest.raises(FormatError, match=r"^stored_bit must be 0 to 33 under Tmr\(bits=32, voted=1\), got 34;"):
        SOFT.members(34)
