# SPDX-License-Identifier: Apache-2.0
"""Faults: what is drawn is live, without repetition, the same for the same seed, and independent between strata."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from bitward.errors import FormatError, ManifestError
from bitward.faults import Fault, every_fault, single_bit_stratified
from bitward.formats import Int
from bitward.manifest import Axis, Hardware, Manifest, Memory
from bitward.schemes import Plain, Tmr

MSB = Memory(
    "conv1",
    "conv1",
    "conv1.weight",
    "weight",
    (50, 2),
    Int(4),
    Tmr(4, 1),
    Hardware(50, 14, 2, "block", 0, 4, (Axis(50, 1, 2),), (Axis(2, 1, 1),), 1),
)
SMALL = Memory("fc", "fc", "fc.weight", "weight", (3,), Int(8), Plain(8))
MANIFEST = Manifest("net", 1, "virtual", 200.0, (MSB, SMALL))


def stratum(fault):
    memory = MANIFEST.memory(fault.memory)
    return fault.memory, int(memory.locate(fault.word, fault.bit).stored_bit)


def test_a_fault_is_a_value():
    faults = {Fault("b", 0, 1), Fault("a", 2, 0), Fault("a", 1, 9), Fault("a", 1, 9)}
    assert sorted(faults) == [Fault("a", 1, 9), Fault("a", 2, 0), Fault("b", 0, 1)]


@pytest.mark.parametrize(
    "fault", [Fault("conv1", 0, 0), Fault("a:b", 12, 345), Fault("c", 1, 2, "stuck0"), Fault("c=1", 1, 2, "stuck1")]
)
def test_a_fault_is_a_text(fault):
    assert Fault.parse(str(fault)) == fault


@pytest.mark.parametrize("row", [0b000, 0b010, 0b111])
def test_what_a_fault_makes_of_a_row(row):
    bits = {kind: Fault("a", 0, 1, kind).hit(row) >> 1 & 1 for kind in ("flip", "stuck0", "stuck1")}
    assert bits == {"flip": 1 - (row >> 1 & 1), "stuck0": 0, "stuck1": 1}
    assert all(Fault("a", 0, 1, kind).hit(row) & 0b101 == row & 0b101 for kind in bits)


def test_each_stratum_gets_its_number_or_all_it_has():
    faults = single_bit_stratified(MANIFEST, 10, seed=7)
    assert len(set(faults)) == len(faults)
    expected = {("conv1", bit): 10 for bit in range(6)} | {("fc", bit): 3 for bit in range(8)}
    assert Counter(map(stratum, faults)) == expected


def test_the_seed_decides():
    assert single_bit_stratified(MANIFEST, 10, seed=7) == single_bit_stratified(MANIFEST, 10, seed=7)
    assert single_bit_stratified(MANIFEST, 10, seed=7) != single_bit_stratified(MANIFEST, 10, seed=8)


def test_the_draw_is_this_one_on_every_numpy():
    """Pinned: a board with another numpy must draw the same faults."""
    assert [
        str(fault) for fault in single_bit_stratified(MANIFEST, 2, seed=1, memories=["conv1"], bits=[0, 5])
    ] == PINNED


PINNED = ["conv1:1:2", "conv1:25:2", "conv1:34:8", "conv1:21:8"]  # also what numpy 1.26 draws


def test_strata_do_not_depend_on_each_other():
    everything = single_bit_stratified(MANIFEST, 10, seed=7)
    alone = single_bit_stratified(replace(MANIFEST, memories=(MSB,)), 10, seed=7, bits=[3])
    assert alone == [fault for fault in everything if stratum(fault) == ("conv1", 3)]
    first, second = ([fault.word for fault in everything if stratum(fault) == ("conv1", bit)] for bit in (0, 1))
    assert first != second


def test_a_smaller_draw_is_the_beginning_of_a_larger_one():
    small = single_bit_stratified(MANIFEST, 5, seed=7, bits=[2], memories=["conv1"])
    assert single_bit_stratified(MANIFEST, 20, seed=7, bits=[2], memories=["conv1"])[:5] == small


def test_every_member_is_drawn_equally_often():
    hits = Counter(fault for seed in range(300) for fault in single_bit_stratified(MANIFEST, 20, seed, ["conv1"], [3]))
    assert len(hits) == 100
    assert 30 < min(hits.values()) and max(hits.values()) < 95  # 60 expected, sigma 7


def test_every_fault_is_every_live_bit():
    faults = list(every_fault(MANIFEST, "conv1"))
    assert len(faults) == len(set(faults)) == MSB.population
    assert all(MSB.live(fault.word, fault.bit) for fault in faults)


def test_every_voted_bit_and_copy():
    faults = list(every_fault(MANIFEST, "conv1", MSB.scheme.masked_bits))
    assert len(faults) == 3 * 100
    assert {int(MSB.locate(fault.word, fault.bit).bit) for fault in faults} == {3}


def test_a_bit_that_only_some_memories_have_is_drawn_there():
    faults = single_bit_stratified(MANIFEST, 1, seed=0, bits={7})
    assert [fault.memory for fault in faults] == ["fc"]


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (
            lambda: Fault.parse("conv1:3"),
            FormatError,
            r"^a fault must be memory:word:bit, or memory:word:bit=0 or =1 where stuck, got 'conv1:3'; for example ",
        ),
        (lambda: Fault("a", 0, 0, "stuck"), FormatError, r"^a fault's kind must be one of flip, stuck0, stuck1, got "),
        (lambda: single_bit_stratified(MANIFEST, 0, 1), FormatError, r"^per_stratum must be at least 1, got 0;"),
        (lambda: single_bit_stratified(MANIFEST, 1, -1), FormatError, r"^seed must be 0 or more, got -1;"),
        (
            lambda: single_bit_stratified(MANIFEST, 1, 1, ["conv"]),
            ManifestError,
            r"^a memory must be one of design net, got 'conv'; did you mean 'conv1'\?$",
        ),
        (
            lambda: single_bit_stratified(MANIFEST, 1, 1, bits=[8]),
            FormatError,
            r"^bits must be 0 to 7 in the memories chosen, got 8;",
        ),
        (
            lambda: list(every_fault(MANIFEST, "conv1", [6])),
            FormatError,
            r"^bits must be 0 to 5 in the memories chosen, got 6;",
        ),
    ],
)
def test_refusals(call, error, match):
    with pytest.raises(error, match=match):
        call()
