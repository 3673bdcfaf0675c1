# SPDX-License-Identifier: Apache-2.0
"""Decoders, disagreement and counters in Verilator: against bitward.schemes on whole beats, against plain counting."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from rtl_bench import Bench
from stored_bench import StoredBench, init_file, packed

from bitward.hardware.rtllib import MVAU_FILES, collect, library_root
from bitward.layout import BeatLayout
from bitward.schemes import Plain, Secded, Tmr
from bitward.words import beat_of, segments_of

RTL = Path(__file__).resolve().parents[2] / "hls" / "rtl"
SHAPES = [(lanes, bits) for lanes in (1, 2, 3, 8) for bits in range(2, 9)]
LAYOUTS = [
    *[BeatLayout(Secded(bits, lanes), lanes) for lanes, bits in [*SHAPES, (1, 1), (24, 4), (16, 8)]],
    *[BeatLayout(Tmr(bits, voted), lanes) for lanes, bits in SHAPES for voted in (1, bits)],
]


def names(layout: BeatLayout) -> tuple[str, str]:
    """The module that flags rows of the layout, with its parameters, and the ports of one instance."""
    scheme = layout.scheme
    if scheme.check_bits:
        return f"bitward_secded #(.NumWords({layout.lanes}), .Bits({scheme.bits}))", "word"
    return f"bitward_disagree #(.NumWords({layout.lanes}), .Bits({scheme.bits}), .Voted({scheme.voted}))", ""


@pytest.fixture(scope="module")
def flagged(tmp_path_factory, verilated_runtime):
    """Every instance of LAYOUTS side by side, on one input bus: one compilation."""
    folder = tmp_path_factory.mktemp("flagged")
    ports, cells = [], []
    for index, layout in enumerate(LAYOUTS):
        module, word = names(layout)
        ports.append(f"output logic corrected_{index}, output logic detected_{index}")
        joined = f".stored_i(stored[{layout.width - 1}:0]), .corrected_o(corrected_{index})"
        if word:
            ports.append(f"output logic [{layout.lanes * layout.scheme.bits - 1}:0] word_{index}")
            joined += f", .word_o(word_{index}), .detected_o(detected_{index})"
        cells.append(f"{module} i_{index} ({joined});")
    width = max(layout.width for layout in LAYOUTS)
    top = folder / "flagged.sv"
    top.write_text(
        f"module flagged (input logic [{width - 1}:0] stored, {', '.join(ports)});\n"
        + "\n".join(cells)
        + "\nendmodule\n"
    )
    sources = [top, RTL / "bitward_secded.sv", RTL / "bitward_disagree.sv"]
    return Bench(folder / "bench", verilated_runtime, sources, "flagged")


@pytest.mark.parametrize("index", range(len(LAYOUTS)), ids=[str(layout) for layout in LAYOUTS])
def test_rows_are_read_and_flagged_as_the_layout_says(flagged, index):
    """Codewords with no, one, two and more upsets, and noise."""
    layout, draw = LAYOUTS[index], random.Random(index)
    scheme = layout.scheme
    words = np.random.default_rng(index).integers(0, 2**scheme.bits, (96, layout.lanes), dtype=np.uint64)
    beats = [beat_of(row) for row in layout.encode(words)]
    for at in range(1, len(beats)):
        upsets = draw.sample(
            range(layout.width), min(layout.width, at % 4 if at < 80 else draw.randrange(layout.width))
        )
        beats[at] ^= sum(1 << bit for bit in upsets)
    rows = np.stack([segments_of(beat, layout.segments) for beat in beats])
    reading = layout.read(rows)
    for at, beat in enumerate(beats):
        flagged["stored"] = beat
        flagged.settle()
        assert flagged[f"corrected_{index}"] == reading.corrected[at]
        if scheme.check_bits:
            assert flagged[f"detected_{index}"] == reading.detected[at]
            assert flagged[f"word_{index}"] == packed(reading.words[at], scheme.bits)
    assert reading.corrected.any()


# ---- counters ------------------------------------------------------------------------------------------
OKAY, SLVERR = 0, 2


class Counters:
    """bitward_counters on the bench, and what it must hold."""

    def __init__(self, model: Bench, count: int, bits: int) -> None:
        self.model, self.highest = model, 2**bits - 1
        self.expected = [0] * (2 * count)
        for port in ("AWVALID", "WVALID", "ARVALID", "BREADY", "RREADY"):
            model[f"s_axilite_{port}"] = 0

    def event(self, corrected: int, detected: int) -> None:
        """One cycle with these flags."""
        self.model["corrected_i"], self.model["detected_i"] = corrected, detected
        for at in range(len(self.expected)):
            flag = (detected if at % 2 else corrected) >> at // 2 & 1
            self.expected[at] = min(self.highest, self.expected[at] + flag)
        self.model.tick()
        self.model["corrected_i"] = self.model["detected_i"] = 0

    def read(self, address: int, corrected: int = 0, detected: int = 0) -> tuple[int, int]:
        """The answer to a read that is taken in a cycle with these flags."""
        model = self.model
        model["s_axilite_ARVALID"], model["s_axilite_ARADDR"] = 1, address
        model.settle()
        assert model["s_axilite_ARREADY"] and not model["s_axilite_RVALID"]
        if address // 4 < len(self.expected):
            self.expected[address // 4] = 0
        self.event(corrected, detected)
        model["s_axilite_ARVALID"] = 0
        model.settle()
        assert model["s_axilite_RVALID"] and not model["s_axilite_ARREADY"]
        held = model["s_axilite_RDATA"], model["s_axilite_RRESP"]
        self.event(corrected, detected)  # the answer holds until it is taken
        assert (model["s_axilite_RDATA"], model["s_axilite_RRESP"]) == held
        model["s_axilite_RREADY"] = 1
        self.event(0, 0)
        model["s_axilite_RREADY"] = 0
        model.settle()
        assert not model["s_axilite_RVALID"]
        return held

    def write(self, address: int, value: int) -> int:
        """The response to a write."""
        model = self.model
        model["s_axilite_AWVALID"] = model["s_axilite_WVALID"] = 1
        model["s_axilite_AWADDR"], model["s_axilite_WDATA"] = address, value
        model.settle()
        assert model["s_axilite_AWREADY"] and model["s_axilite_WREADY"]
        self.event(0, 0)
        model["s_axilite_AWVALID"] = model["s_axilite_WVALID"] = 0
        model["s_axilite_BREADY"] = 1
        model.settle()
        assert model["s_axilite_BVALID"]
        response = model["s_axilite_BRESP"]
        self.event(0, 0)
        model["s_axilite_BREADY"] = 0
        return response


@pytest.mark.parametrize(("count", "bits"), [(1, 32), (3, 3)])
def test_counters_count_stop_and_are_cleared_by_their_own_read(count, bits, tmp_path, verilated_runtime):
    parameters = {"Num": count, "CountBits": bits}
    model = Bench(tmp_path, verilated_runtime, [RTL / "bitward_counters.sv"], "bitward_counters", parameters)
    counters, draw = Counters(model, count, bits), random.Random(count)
    stopped = False
    for _ in range(400):
        what = draw.random()
        corrected, detected = draw.getrandbits(count), draw.getrandbits(count)
        if what < 0.7:
            counters.event(corrected, detected)
        elif what < 0.75:
            assert counters.write(4 * draw.randrange(2 * count), draw.getrandbits(32)) == SLVERR
        else:
            at = draw.randrange(2 * count)
            expected = counters.expected[at]
            stopped |= expected == counters.highest
            assert counters.read(4 * at, corrected, detected) == (expected, OKAY)
    assert stopped == (bits == 3)
    while 4 * len(counters.expected) < 8 << (count - 1).bit_length():  # the window is a power of two
        before = list(counters.expected)
        assert counters.read(4 * len(before)) == (0, SLVERR)
        assert counters.expected == before
        break


# ---- a matrix unit -------------------------------------------------------------------------------------
MW, MH, PE, SIMD, BITS = 6, 4, 2, 3, 4
LANES, DEPTH = PE * SIMD, (MW // SIMD) * (MH // PE)


@pytest.fixture(scope="module")
def mvau(tmp_path_factory, verilated_runtime):
    """`mvau(scheme)`: a matrix unit with random weights stored so, its layout and its weights (rows, lanes)."""
    root = tmp_path_factory.mktemp("mvau")
    library = root / "finn-rtllib"  # the name that the waivers know
    library.mkdir()
    finn = [library / name for name in collect([library_root() / file for file in MVAU_FILES], library)]
    ours = [RTL / "bitward_weights.vlt"]
    ours += [RTL / f"bitward_{name}.sv" for name in ("voter", "disagree", "secded", "weights", "mvau")]

    def make(scheme):
        layout, folder = BeatLayout(scheme.over(LANES), LANES), root / str(scheme)
        words = np.random.default_rng(5).integers(0, 2**BITS, (DEPTH, LANES)).astype(np.uint8)
        parameters = {
            **{"Mw": MW, "Mh": MH, "Pe": PE, "Simd": SIMD, "WeightBits": BITS, "ActBits": 4, "AccBits": 12},
            **{"Voted": scheme.voted, "Secded": int(scheme.check_bits > 0)},
            "InitFile": init_file(folder, layout.encode(words), layout.width),
        }
        return StoredBench(Bench(folder, verilated_runtime, [*finn, *ours], "bitward_mvau", parameters), layout), words

    return make


def products(words: np.ndarray, vectors: np.ndarray) -> list[int]:
    """The beats that a matrix unit with these words gives."""
    numbers = words.astype(int) - 16 * (words >> 3)
    matrix = numbers.reshape(MH // PE, MW // SIMD, PE, SIMD).transpose(1, 3, 0, 2).reshape(MW, MH)
    return [packed(beat, 12) for row in vectors @ matrix for beat in row.reshape(-1, PE)]


@pytest.mark.parametrize("scheme", [Plain(BITS), Tmr(BITS, 1), Tmr(BITS, BITS), Secded(BITS, 1)], ids=str)
def test_a_matrix_unit_counts_each_use_of_a_bad_row_once(scheme, mvau):
    """Upset rows are read and flagged as the layout says, under random stalls: one flag for each vector."""
    bench, words = mvau(scheme)
    vectors = np.random.default_rng(6).integers(0, 16, (12, MW))
    beats = [packed(part, 4) for vector in vectors for part in vector.reshape(-1, SIMD)]
    golden = bench.layout.encode(words)
    out_beats = len(vectors) * MH // PE
    draw = random.Random(7)
    clean = bench.stream(beats, 0.3, count=out_beats)
    assert (clean.beats, clean.corrected, clean.detected) == (products(words, vectors), 0, 0)
    for upsets in ([(0, 1)], [(1, 1)], [(2, 1), (3, 1)], [(1, 2)], [(0, 1), (2, 2)], [(3, 3)]):
        stored = golden.copy()
        for row, count in upsets:
            flips = sum(1 << bit for bit in draw.sample(range(bench.layout.width), count))
            stored[row] = segments_of(beat_of(stored[row]) ^ flips, bench.layout.segments)
        for row in range(DEPTH):
            bench.write(row, beat_of(stored[row]))
        bench.stream(beats, 0.0, count=out_beats)  # rows that were read ahead are used up
        reading = bench.layout.read(stored)
        outcome = bench.stream(beats, 0.3, count=out_beats)
        assert outcome.beats == products(reading.words, vectors)
        assert outcome.corrected == len(vectors) * reading.corrected.sum()
        assert outcome.detected == len(vectors) * reading.detected.sum()
