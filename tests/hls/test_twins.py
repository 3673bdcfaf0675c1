# SPDX-License-Identifier: Apache-2.0
"""The HLS twins, compiled by g++ against open ap_types headers, against bitward.schemes: every word, and upsets."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from bitward import tools
from bitward.errors import ToolError
from bitward.layout import BeatLayout
from bitward.schemes import Tmr

FLAGS = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]
FLAGS += ["-Wno-uninitialized", "-Wno-maybe-uninitialized"]  # in the headers' own templates
SCHEMES = [Tmr(bits, voted) for bits in range(2, 9) for voted in sorted({0, 1, 2, bits})]
MOST_STORED = 15  # bits of a stored word up to which all of them are tried by default
ADD = (6, 3, 14, 12, 15)  # channels, channels a beat, bits of accumulators, biases and sums


def compiled(source: str, target: Path, *defines: str) -> Path:
    """The testbench of that name in hls/src."""
    headers, folder = tools.find_hls_headers(), tools.resource("hls/src")
    command = [tools.require_tool("c++"), *FLAGS, *defines, "-isystem", headers, "-I", folder, folder / source]
    tools.run([*command, "-o", target], timeout_s=300)
    return target


@pytest.fixture(scope="module")
def voter(tmp_path_factory) -> Path:
    """The testbench of the voter."""
    return compiled("voter_tb.cpp", tmp_path_factory.mktemp("hls") / "voter_tb")


def vote(program: Path, folder: Path, layout: BeatLayout, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the kernel reads from rows of segments: words, shape (rows, lanes), and whether copies disagreed."""
    source, sink = folder / "in.bin", folder / "out.bin"
    rows.astype("<u4").tofile(source)
    scheme = layout.scheme
    tools.run([program, *map(str, (layout.lanes, scheme.bits, scheme.voted)), source, sink])
    found = np.fromfile(sink, "<u4").reshape(len(rows), -1)
    assert (found[:, -1] <= 1).all()
    beats = np.unpackbits(found[:, :-1].copy().view(np.uint8), axis=1, bitorder="little")
    beats = beats[:, : layout.lanes * scheme.bits].reshape(len(rows), layout.lanes, scheme.bits)
    return (beats.astype(np.int64) << np.arange(scheme.bits)).sum(axis=-1), found[:, -1].astype(bool)


def expect_equal(program: Path, folder: Path, layout: BeatLayout, stored: np.ndarray) -> None:
    """The kernel reads these stored words, shape (rows, lanes), as the scheme does."""
    words, flags = vote(program, folder, layout, layout.pack(stored))
    assert np.array_equal(words, layout.scheme.decode(stored))
    assert np.array_equal(flags, layout.scheme.corrected(stored).any(axis=1))


def upsets(scheme: Tmr) -> np.ndarray:
    """Every word with no upset, with each single and each double one."""
    words = scheme.encode(np.arange(2**scheme.bits, dtype=np.uint32))
    flips = [0, *(1 << bit for bit in range(scheme.stored_bits))]
    flips += [1 << one | 1 << two for one, two in combinations(range(scheme.stored_bits), 2)]
    return (words[:, None] ^ np.array(flips, dtype=words.dtype)).reshape(-1, 1)


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_every_stored_word_is_read_as_the_scheme_reads_it(voter, tmp_path, scheme):
    """All of them up to 15 bits; wider ones: every word, with every single and every double upset."""
    stored = upsets(scheme)
    if scheme.stored_bits <= MOST_STORED:
        stored = np.arange(2**scheme.stored_bits, dtype=np.uint32)[:, None]
    expect_equal(voter, tmp_path, BeatLayout(scheme, 1), stored)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", [Tmr(6, 6), Tmr(7, 7)], ids=str)
def test_every_stored_word_of_wide_full_tmr_is_read_as_the_scheme_reads_it(voter, tmp_path, scheme):
    stored = np.arange(2**scheme.stored_bits, dtype=np.uint32)[:, None]
    expect_equal(voter, tmp_path, BeatLayout(scheme, 1), stored)


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_beats_of_three_words_are_read_as_the_layout_reads_them(voter, tmp_path, scheme):
    random = np.random.default_rng(scheme.bits * 10 + scheme.voted)
    stored = random.integers(0, 2**scheme.stored_bits, (500, 3), dtype=np.uint32)
    expect_equal(voter, tmp_path, BeatLayout(scheme, 3), stored)


def test_another_layout_is_told_apart(voter, tmp_path):
    """The comparison can fail: words packed with one voted bit are not read as words with two."""
    packed, read = BeatLayout(Tmr(4, 1), 3), BeatLayout(Tmr(4, 2), 3)
    stored = np.arange(64, dtype=np.uint32)[:, None].repeat(3, axis=1)
    rows = np.zeros((64, read.segments), np.uint32)
    rows[:, : packed.segments] = packed.pack(stored)
    words, _ = vote(voter, tmp_path, read, rows)
    assert not np.array_equal(words, packed.scheme.decode(stored))


def test_widths_that_are_not_compiled_in_are_refused(voter, tmp_path):
    with pytest.raises(ToolError, match=r"voter_tb must be given 1 or 3 words of 2 to 8 bits, got 2 of 4, 1 voted"):
        tools.run([voter, "2", "4", "1", tmp_path / "in", tmp_path / "out"])


def adder_of(shape: tuple[int, ...], folder: Path) -> Path:
    """The testbench of the triplicated bias."""
    names = ("CHANNELS", "LANES", "ACC_BITS", "BIAS_BITS", "SUM_BITS")
    defines = [f"-D{name}={value}" for name, value in zip(names, shape, strict=True)]
    return compiled("bias_tmr_tb.cpp", folder / "bias_tmr_tb", *defines)


@pytest.fixture(scope="module")
def adder(tmp_path_factory) -> Path:
    """The testbench at the widths of `ADD`."""
    return adder_of(ADD, tmp_path_factory.mktemp("hls"))


def packed(integers: np.ndarray, bits: int) -> np.ndarray:
    """Integers, shape (beats, lanes), as beats of two's complement words, in whole segments."""
    parts = (integers[..., None] >> np.arange(bits) & 1).astype(np.uint8).reshape(len(integers), -1)
    rows = np.zeros((len(parts), -(-parts.shape[1] // 32) * 32), np.uint8)
    rows[:, : parts.shape[1]] = parts
    return np.packbits(rows, axis=1, bitorder="little").view("<u4")


def add(
    program: Path, folder: Path, memory: np.ndarray, accumulators: np.ndarray, shape: tuple[int, ...] = ADD
) -> tuple[np.ndarray, int]:
    """The sums, shape (rows, channels), and how often copies disagreed."""
    channels, lanes, acc_bits, _, sum_bits = shape
    files = [folder / name for name in ("memory.bin", "in.bin", "out.bin")]
    memory.astype("<u4").tofile(files[0])
    packed(accumulators.reshape(-1, lanes), acc_bits).tofile(files[1])
    tools.run([program, *files])
    found = np.fromfile(files[2], "<u4")
    beats = np.unpackbits(found[:-1].reshape(-1, -(-lanes * sum_bits // 32)).view(np.uint8), axis=1, bitorder="little")
    words = beats[:, : lanes * sum_bits].reshape(-1, sum_bits).astype(np.int64)
    words = (words << np.arange(sum_bits)).sum(axis=1)
    return np.where(words >> (sum_bits - 1), words - (1 << sum_bits), words).reshape(-1, channels), int(found[-1])


def bias_memory(biases: np.ndarray) -> tuple[BeatLayout, np.ndarray]:
    """The layout, and the rows that hold these biases three times."""
    _, lanes, _, bias_bits, _ = ADD
    layout = BeatLayout(Tmr(bias_bits, bias_bits), lanes)
    return layout, layout.encode((biases & (1 << bias_bits) - 1).astype(np.uint64).reshape(-1, lanes))


def accumulators(rows: int) -> np.ndarray:
    """Random ones, and all the corners."""
    channels, _, acc_bits, _, _ = ADD
    high = 1 << acc_bits - 1
    random = np.random.default_rng(0).integers(-high, high, (rows, channels))
    random[:4] = np.array([-high, high - 1, 0, -1])[:, None]
    return random


CORNERS = [-2048, 2047, 0, -1, 1, -2047]


@pytest.mark.parametrize("biases", [CORNERS, [5, -700, 1234, -2048, 77, 2047]], ids=["corners", "sampled"])
def test_sums_are_those_of_the_biases_that_the_scheme_reads(adder, tmp_path, biases):
    """No upset, then each single one: the sums stay, and reads of that beat are counted."""
    given = accumulators(16)
    layout, memory = bias_memory(np.array(biases))
    sums, disagreed = add(adder, tmp_path, memory, given)
    assert np.array_equal(sums, given + biases) and disagreed == 0
    for bit in range(0, layout.width, 1 if biases == CORNERS else 9):
        upset = memory.copy()
        upset[1, bit // 32] ^= np.uint32(1 << bit % 32)
        sums, disagreed = add(adder, tmp_path, upset, given)
        assert np.array_equal(sums, given + biases) and disagreed == len(given), bit


WIDTHS = [pytest.param(bits, marks=[] if bits in (7, 13) else [pytest.mark.slow]) for bits in (*range(2, 14), 15, 18)]


@pytest.mark.parametrize("bits", WIDTHS)
def test_every_bias_is_read_with_each_single_upset(tmp_path, bits):
    """A channel for every bias of that width, all of them upset in the same bit at once."""
    shape = (1 << bits, 1, bits, bits, bits + 1)
    program = adder_of(shape, tmp_path)
    biases = np.arange(1 << bits) - (1 << bits - 1)
    layout = BeatLayout(Tmr(bits, bits), 1)
    memory = layout.encode((biases & (1 << bits) - 1).astype(np.uint64)[:, None])
    given = np.random.default_rng(bits).integers(-(1 << bits - 1), 1 << bits - 1, (1, 1 << bits))
    for bit in (None, *layout.position[0].tolist()):
        upset = memory.copy()
        if bit is not None:
            upset[:, bit // 32] ^= np.uint32(1 << bit % 32)
        sums, disagreed = add(program, tmp_path, upset, given, shape)
        assert np.array_equal(sums, given + biases)
        assert disagreed == (0 if bit is None else 1 << bits)


def test_any_memory_is_read_as_the_scheme_reads_it(adder, tmp_path):
    """Random stored bits, with majorities that nobody wrote."""
    given = accumulators(8)
    layout, memory = bias_memory(np.zeros(ADD[0], dtype=np.int64))
    random = np.random.default_rng(1)
    for _ in range(20):
        memory = random.integers(0, 2**32, memory.shape, dtype=np.uint32)
        memory[:, -1] &= np.uint32((1 << (layout.width - 1) % 32 + 1) - 1)
        words = layout.decode(memory).astype(np.int64).reshape(-1)
        biases = np.where(words >> ADD[3] - 1, words - (1 << ADD[3]), words)
        sums, disagreed = add(adder, tmp_path, memory, given)
        assert np.array_equal(sums, given + biases)
        assert disagreed == len(given) * int(layout.corrected(memory).sum())


def test_two_upsets_in_copies_of_one_bit_defeat_the_voter(adder, tmp_path):
    """As they must: the comparison can fail."""
    given = accumulators(4)
    layout, memory = bias_memory(np.zeros(ADD[0], dtype=np.int64))
    for copy in (0, 1):
        bit = int(layout.position[2, copy * ADD[3] + 4])
        memory[0, bit // 32] ^= np.uint32(1 << bit % 32)
    sums, _ = add(adder, tmp_path, memory, given)
    assert np.array_equal(sums - given, np.tile([0, 0, 16, 0, 0, 0], (4, 1)))


def test_missing_headers_are_said(monkeypatch):
    monkeypatch.setattr(tools, "find_spec", lambda name: None)
    with pytest.raises(ToolError, match=r"^this environment must hold the PyPI package hls4ml, .*: run make setup$"):
        tools.find_hls_headers()


def test_a_damaged_command_line_is_refused(adder):
    with pytest.raises(ToolError, match=r"bias_tmr_tb must be given MEMORY IN OUT"):
        tools.run([adder])


@pytest.mark.parametrize("top", ["voter.cpp", "bias_tmr.cpp"])
def test_top_functions_compile_alone(tmp_path, top):
    folder = tools.resource("hls/src")
    command = [tools.require_tool("c++"), *FLAGS, "-isystem", tools.find_hls_headers(), "-fsyntax-only", folder / top]
    tools.run(command)
