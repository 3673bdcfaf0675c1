# SPDX-License-Identifier: Apache-2.0
"""Scrubbing: exact counts on every scheme, bit by bit; what it cannot mend; the same on engine, RTL and board."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from bitward_runtime.rows import read_rows
from bitward_runtime.scrub import Pass, Scrubbed, has_redundancy, scrub, scrub_pass
from bitward_runtime.upsets import Exposure, Upsets, expose

from bitward.cli import main
from bitward.errors import BoardError, ConfigError
from bitward.formats import Int
from bitward.layout import BeatLayout
from bitward.manifest import Axis, Hardware, Manifest, Memory
from bitward.schemes import Plain, Secded, Tmr
from bitward.targets.engine import EngineTarget
from bitward.targets.rtl import RtlTarget
from bitward.words import beat_of

DEPTH, LANES = 5, 3
IMAGES = np.zeros((4, 2), np.int64)


def memory(name: str, scheme: Plain | Tmr | Secded, spare_bits: int = 0) -> Memory:
    """15 weights in 5 rows of 3 lanes, rows wider than their layout by `spare_bits`."""
    hardware = Hardware(
        depth=DEPTH, width=BeatLayout(scheme, LANES).width + spare_bits, lanes=LANES, ram_style="block", base=0,
        word_stride=16, word_axes=(Axis(DEPTH, 1, LANES),), lane_axes=(Axis(LANES, 1, 1),), flush_images=0,
    )  # fmt: skip
    return Memory(name, "fc", f"{name}.weight", "weight", (DEPTH, LANES), Int(scheme.bits), scheme, hardware)


class Store:
    """Rows in a dictionary, and what was asked of them."""

    def __init__(self, *memories: Memory) -> None:
        placed = [replace(m, hardware=replace(m.hardware, base=0x1000 * at)) for at, m in enumerate(memories)]
        self.manifest = Manifest("store", 1, "virtual", 200.0, tuple(placed))
        random = np.random.default_rng(3)
        images = {m.name: m.image(random.integers(0, 1 << m.scheme.bits, m.shape, dtype=np.uint8)) for m in placed}
        self.gold = {(name, word): beat_of(row) for name, image in images.items() for word, row in enumerate(image)}
        self.rows = dict(self.gold)
        self.written: list[tuple[str, int]] = []

    def golden(self, memory: str, word: int) -> int:
        return self.gold[memory, word]

    def read(self, memory: str, word: int) -> int:
        return self.rows[memory, word]

    def write(self, memory: str, word: int, value: int) -> None:
        self.written.append((memory, word))
        self.rows[memory, word] = value

    def flip(self, memory: str, word: int, *bits: int) -> None:
        for bit in bits:
            self.rows[memory, word] ^= 1 << bit

    def is_golden(self) -> bool:
        return self.rows == self.gold


class BatchStore(Store):
    """Gives and takes rows of a memory in one call, and none by itself."""

    def read_rows(self, memory: str, rows: list[int]) -> np.ndarray:
        size = 4 * self.manifest.memory(memory).segments
        octets = b"".join(self.rows[memory, row].to_bytes(size, "little") for row in rows)
        return np.frombuffer(octets, "<u4").astype(np.uint32).reshape(len(rows), -1)

    def write_rows(self, memory: str, rows: list[int], words: np.ndarray) -> None:
        assert len(rows) == len(words) > 0
        for row, segments in zip(rows, words, strict=True):
            Store.write(self, memory, row, beat_of(segments))

    def read(self, memory: str, word: int) -> int:
        raise AssertionError("rows are to be read in one call")

    def write(self, memory: str, word: int, value: int) -> None:
        raise AssertionError("rows are to be written in one call")


SCHEMES = [Tmr(4, 1), Tmr(4, 4), Tmr(8, 2), Secded(4, LANES)]


@pytest.mark.parametrize("kind", [Store, BatchStore])
@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_every_single_upset_of_a_protected_bit_is_corrected_and_no_other(scheme, kind):
    """Every row, every bit: protected ones come back, the others stay, padding comes back and counts as nothing."""
    store = kind(memory("w", scheme, spare_bits=2))
    found = store.manifest.memory("w")
    for word in range(found.depth):
        for bit in range(found.width):
            where = found.locate(word, bit)
            is_protected = not where.dead and int(where.stored_bit) in scheme.masked_bits
            is_within = bit < found.layout.segments * 32
            store.flip("w", word, bit)
            total = scrub_pass(store).total
            expected = (1, 1, 0, 1) if is_protected else (int(bool(where.dead) and is_within), 0, 0, 0)
            assert (total.written, total.corrected, total.detected, total.bits) == expected, (word, bit)
            assert store.is_golden() == bool(is_protected or (where.dead and is_within))
            store.rows = dict(store.gold)


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_nothing_is_written_where_nothing_is_wrong(scheme):
    store = Store(memory("w", scheme))
    assert scrub_pass(store).memories == (Scrubbed("w", DEPTH, 0, 0, 0, 0),)
    assert store.written == []


def test_plain_memories_are_left_alone():
    store = Store(memory("plain", Plain(4)), memory("voted", Tmr(4, 1)))
    store.flip("plain", 2, 1)
    done = scrub_pass(store)
    assert [each.memory for each in done.memories] == ["voted"] and store.written == []
    assert not has_redundancy(store.manifest.memory("plain"))


def test_two_upsets_of_one_bits_copies_are_not_corrected():
    """Negative control: every pair of copies, every voted bit. The pass finds a majority, and it is the wrong one."""
    for scheme in (Tmr(4, 1), Tmr(4, 4)):
        store = Store(memory("w", scheme))
        layout = store.manifest.memory("w").layout
        for lane in range(LANES):
            for voted in range(scheme.voted):
                copies = layout.position[lane][
                    [scheme.bits - scheme.voted + voted, scheme.bits + voted, scheme.bits + scheme.voted + voted]
                ]
                for pair in combinations(copies.tolist(), 2):
                    store.flip("w", 1, *pair)
                    total = scrub_pass(store).total
                    assert (total.corrected, total.bits) == (1, 1) and not store.is_golden()
                    assert (store.rows["w", 1] ^ store.gold["w", 1]).bit_count() == 3  # now all copies agree
                    assert scrub_pass(store).total.corrected == 0
                    store.rows = dict(store.gold)


def test_two_upsets_of_a_codeword_are_counted_and_left():
    store = Store(memory("w", Secded(4, LANES)))
    for pair in combinations(range(store.manifest.memory("w").layout.width), 2):
        store.flip("w", 4, *pair)
        before = dict(store.rows)
        total = scrub_pass(store).total
        assert (total.corrected, total.detected, total.written, total.bits) == (0, 1, 0, 0)
        assert store.rows == before
        store.rows = dict(store.gold)


def test_upsets_in_lanes_of_one_row_are_words_of_their_own():
    store = Store(memory("w", Tmr(4, 4)))
    layout = store.manifest.memory("w").layout
    store.flip("w", 0, *(int(layout.position[lane][lane]) for lane in range(LANES)))
    assert scrub_pass(store).memories == (Scrubbed("w", DEPTH, 1, 3, 0, 3),) and store.is_golden()


# ---- upsets that arrive ----------------------------------------------------------------------------------------------


def word_of(store: Store, fault) -> tuple[str, int, int]:
    """What a fault hits: a lane's word under voting, a row under SEC-DED."""
    found = store.manifest.memory(fault.memory)
    lane = 0 if found.scheme.check_bits else int(found.layout.owner[fault.bit][0])
    return fault.memory, fault.word, lane


@pytest.mark.parametrize("scheme", [Tmr(4, 4), Secded(4, LANES)], ids=str)
def test_upsets_corrected_are_upsets_made_where_each_word_holds_at_most_one(scheme):
    """Exact, over seeds: equal where no word was hit twice; where one was, words corrected are fewer."""
    outcomes = Counter()
    for seed in range(300):
        store = Store(memory("a", scheme), memory("b", scheme))
        upsets = Upsets(store, store.manifest.memories, seed)
        made = upsets.strike(3)
        hits = Counter(word_of(store, fault) for fault in made)
        total = scrub_pass(store).total
        if max(hits.values()) == 1:
            assert total.corrected == total.bits == upsets.count == 3 and total.detected == 0
            assert store.is_golden() and upsets.left() == 0
        else:
            assert total.corrected < 3
        outcomes[max(hits.values()) == 1] += 1
    assert outcomes[True] > 50 and outcomes[False] > 10


def test_upsets_are_uniform_over_live_stored_bits():
    """Every live bit is hit, no dead one, and Pearson's statistic is an ordinary one."""
    store = Store(memory("w", Tmr(4, 1), spare_bits=3))
    found = store.manifest.memory("w")
    hits = Counter((fault.word, fault.bit) for fault in Upsets(store, [found], 1).strike(20_000))
    live = {(w, b) for w in range(found.depth) for b in range(found.width) if found.live(w, b)}
    assert set(hits) == live and len(live) == found.population
    mean = 20_000 / len(live)
    statistic = sum((hits[place] - mean) ** 2 / mean for place in live)
    assert 0.5 * len(live) < statistic < 1.7 * len(live)


def test_their_number_is_a_poisson_one():
    store = Store(memory("w", Tmr(4, 4)))
    upsets = Upsets(store, store.manifest.memories, 2)
    counts = np.array([len(upsets.strike_at(0.02)) for _ in range(3000)])
    mean = 0.02 * upsets.stored_bits
    assert counts.mean() == pytest.approx(mean, rel=0.05) and counts.var() == pytest.approx(mean, rel=0.1)
    assert upsets.count == counts.sum()


def test_the_same_seed_gives_the_same_upsets_and_all_can_be_taken_back():
    first, second = Store(memory("w", Tmr(4, 1))), BatchStore(memory("w", Tmr(4, 1)))
    made = [Upsets(store, store.manifest.memories, 9) for store in (first, second)]
    assert made[0].strike(40) == made[1].strike(40) and first.rows == second.rows
    assert 0 < made[0].left() <= 40
    made[0].restore()
    assert first.is_golden() and made[0].left() == 0 and not second.is_golden()
    with pytest.raises(ConfigError, match="^upsets must be 0 or more, got -1: they only add up$"):
        made[0].strike(-1)


class Inferring(Store):
    """Answers how many bits are wrong: what a network sees."""

    def infer(self, images: np.ndarray) -> np.ndarray:
        wrong = sum((self.rows[row] ^ self.gold[row]).bit_count() for row in self.rows)
        return np.full(len(images), wrong)


def test_an_exposure_with_scrubbing_has_the_same_upsets_and_fewer_left():
    """Every step's sums hold together; upsets are there when images run, and gone after the pass."""
    lives = {}
    for every in (None, 1, 3):
        store = Inferring(memory("a", Tmr(4, 4)), memory("b", Plain(4)))
        lives[every] = list(expose(store, IMAGES, Exposure(rate=0.02, steps=30, every=every), seed=6))
        assert store.is_golden()
    for moments in zip(*lives.values(), strict=True):
        never, always, _ = moments
        assert len({each.upsets for each in moments}) == 1
        assert (never.outputs == never.left).all() and never.corrected == never.passes == 0
        assert (always.outputs >= always.left).all() and always.left <= never.left
    assert [each.passes for each in lives[3]] == [step // 3 for step in range(1, 31)]
    assert lives[1][-1].left < lives[None][-1].left and lives[1][-1].corrected > lives[3][-1].corrected > 0


def test_memories_are_golden_where_an_exposure_is_broken_off():
    store = Inferring(memory("a", Tmr(4, 4)))
    life = expose(store, IMAGES, Exposure(rate=0.1), seed=1)
    next(life)
    assert store.is_golden()  # scrubbed
    life = expose(store, IMAGES, Exposure(rate=0.1, every=None), seed=1)
    next(life)
    assert not store.is_golden()
    life.close()
    assert store.is_golden()


@pytest.mark.parametrize("wrong", [{"rate": -1.0}, {"step_h": 0.0}, {"steps": 0}, {"every": 0}, {"rate": float("nan")}])
def test_an_exposure_is_checked(wrong):
    with pytest.raises(
        ConfigError, match=r"^an exposure must be of rate >= 0, step_h > 0, steps >= 1 and every >= 1 or "
    ):
        Exposure(**wrong)


def test_doubles_between_passes_are_as_many_as_the_rate_says():
    """Two upsets of a voted bit's three copies in a period: 3 p^2 for each bit, to first order."""
    p, passes, wrong = 0.02, 600, 0
    store = Store(memory("a", Tmr(4, 4)))
    upsets = Upsets(store, store.manifest.memories, seed=3)
    bits = DEPTH * LANES * 4
    for _ in range(passes):
        upsets.strike_at(p)
        scrub_pass(store)
        wrong += upsets.left() // 3
        upsets.restore()
    expected = bits * passes * 3 * p**2 * (1 - 2 * p)
    assert wrong == pytest.approx(expected, abs=5 * np.sqrt(expected))


# ---- passes ----------------------------------------------------------------------------------------------------------


def test_passes_begin_as_often_as_asked_and_each_is_told():
    store = Store(memory("w", Tmr(4, 4)))
    told: list[tuple[int, Pass]] = []
    done = scrub(store, 3, 0.05, before=lambda: store.flip("w", 0, 0), each=lambda *found: told.append(found))
    assert [number for number, _ in told] == [1, 2, 3] and tuple(found for _, found in told) == done
    assert [each.total.corrected for each in done] == [1, 1, 1]
    assert all(each.seconds < 0.05 for each in done)


@pytest.mark.parametrize(("passes", "every_s"), [(0, 0.0), (1, -1.0), (1, float("nan"))])
def test_passes_are_checked(passes, every_s):
    with pytest.raises(ConfigError, match=r"^scrubbing must be 1 pass or more, every 0 s or more, got "):
        scrub(Store(memory("w", Tmr(4, 4))), passes, every_s)


def test_a_design_without_redundancy_is_refused():
    sentence = "^design store must have memories with redundancy to be scrubbed, got none: build it with --protect "
    with pytest.raises(ConfigError, match=sentence):
        scrub(Store(memory("w", Plain(4))), 1)


def test_rows_of_another_shape_are_refused():
    store = BatchStore(memory("w", Tmr(4, 4)))
    store.read_rows = lambda name, rows: np.zeros((DEPTH + 1, 2), np.uint32)
    with pytest.raises(
        BoardError, match=r"^rows of memory w must be uint32 of shape \(5, 2\), got uint32 of shape \(6, "
    ):
        read_rows(store, store.manifest.memory("w"))


# ---- real builds -----------------------------------------------------------------------------------------------------


def test_engine_and_rtl_count_and_hold_the_same(mlp_run):
    """The same upsets, the same scrubbing; counts, rows and outputs agree, and the RTL's counters then stay at 0."""
    build = mlp_run.build("hardened")
    with EngineTarget(build) as engine, RtlTarget(build) as rtl:
        memories = [each for each in rtl.manifest.memories if has_redundancy(each)]
        upsets = [Upsets(target, memories, 4) for target in (engine, rtl)]
        assert upsets[0].strike(60) == upsets[1].strike(60)
        ours, theirs = scrub_pass(engine), scrub_pass(rtl)
        assert ours.memories == theirs.memories and 5 < ours.total.corrected < 60
        assert upsets[0].left() == upsets[1].left() > 0  # bits that MSB voting leaves unprotected
        rows = [(each.name, word) for each in memories for word in range(each.depth)]
        assert [engine.read(*row) for row in rows] == [rtl.read(*row) for row in rows]
        images = np.random.default_rng(0).integers(0, 17, (4, *rtl.manifest.io.input.shape))
        rtl.infer(images)
        rtl.counters()
        assert np.array_equal(engine.infer(images), rtl.infer(images))
        assert set(rtl.counters().values()) == {(0, 0)}


@pytest.mark.parametrize("on", ["engine", "board"])
def test_the_command_counts_what_it_made(mlp_run, capsys, on):
    given = ["--on", on, "--passes", "2", "--upsets", "5", "--seed", "1"]
    assert main(["scrub", str(mlp_run.build("hardened")), *given]) == 0
    out = capsys.readouterr().out
    corrected = [int(count) for count in re.findall(r"^pass \d: (\d+) words corrected", out, re.MULTILINE)]
    made, left = map(int, re.search(r"^upsets: (\d+) made, (\d+) stored bits still differ", out, re.MULTILINE).groups())
    assert len(corrected) == 2 and made == 10 and sum(corrected) + left == 10


def test_the_command_refuses_a_plain_build(mlp_run, capsys):
    given = ["--on", "engine", "--upsets", "3"]
    assert main(["scrub", str(mlp_run.build("plain")), *given]) == 1
    assert capsys.readouterr().err.startswith("bitward: design digits_mlp must have memories with redundancy to be ")
