# SPDX-License-Identifier: Apache-2.0
"""Defects of FINN's matrix-vector unit that builds must not have: each with what happens where its cure is left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from node_bench import RTL, Labelled, NodeBench, beats, hardware_op, unpack

from bitward.hardware import rtllib
from bitward.hardware.addresses import row_stride
from bitward.hardware.rtllib import MVAU_FILES, collect, library_root
from bitward.words import segments_of

IMAGES = 6
BLOCKED = 60  # cycles in which nothing is taken: long enough to fill every queue of the unit
CASES = {  # inputs, outputs, PE, SIMD
    "one_beat": (27, 4, 4, 27),  # a dot product is one beat (SIMD = MW)
    "one_beat_odd": (5, 6, 2, 5),
    "packed": (8, 8, 8, 4),  # several weights share a DSP slice
    "large": (1024, 20, 1, 1),  # 80 KiB of AXI-Lite addresses
}


def unit(inputs, outputs, pe, simd):
    return hardware_op(
        "StoredMVAU_rtl", stored="dut.weight", MW=inputs, MH=outputs, PE=pe, SIMD=simd, inputDataType="UINT4",
        weightDataType="INT4", outputDataType="INT18", accDataType="INT18", noActivation=1, numInputVectors=[1],
        mem_mode="internal_decoupled", ram_style="block",
    )  # fmt: skip


def rows_of(weights, pe, simd):
    """The rows of a weight matrix (inputs, outputs): outputs in folds of PE, in each the inputs in folds of SIMD."""
    inputs, outputs = weights.shape
    lanes = weights.reshape(inputs // simd, simd, outputs // pe, pe).transpose(2, 0, 3, 1).reshape(-1, pe * simd)
    return [sum(int(word) % 16 << 4 * lane for lane, word in enumerate(row)) for row in lanes]


def bench_of(folder: Path, runtime: Path, labels, sources) -> tuple[NodeBench, dict]:
    rng = np.random.default_rng(2)
    weights = {label: rng.integers(-7, 8, CASES[label][:2]) for label in labels}
    ops = {label: unit(*CASES[label]) for label in labels}
    images = {
        label: np.array([segments_of(row, op.layout().segments) for row in rows_of(weights[label], *CASES[label][2:])])
        for label, op in ops.items()
    }
    below = [
        RTL / "bitward_weights.vlt",
        *sources,
        *(RTL / f"bitward_{name}.sv" for name in ("voter", "disagree", "secded", "weights")),
    ]
    return NodeBench(folder, runtime, ops, images, below), weights


def finn(folder: Path) -> list[Path]:
    folder.mkdir(parents=True)
    return [folder / name for name in collect([library_root() / file for file in MVAU_FILES], folder)]


@pytest.fixture(scope="module")
def mended(tmp_path_factory, verilated_runtime):
    folder = tmp_path_factory.mktemp("mended")
    return bench_of(folder, verilated_runtime, CASES, finn(folder / "finn-rtllib"))


def computed(bench, label, activations, stall):
    """What the unit gives for activations (images, inputs)."""
    inputs, outputs, pe, simd = CASES[label]
    given = beats(activations, [inputs // simd, simd], 4)
    outcome = bench.stored(label).stream(given, stall, count=len(activations) * outputs // pe)
    lanes = [value for beat in outcome.beats for value in unpack(beat % 2 ** (18 * pe), pe, 18, signed=True)]
    return np.array(lanes).reshape(len(activations), outputs)


def activations_for(label, images=IMAGES):
    return np.random.default_rng(5).integers(0, 16, (images, CASES[label][0]))


@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize("label", ["one_beat", "one_beat_odd", "packed"])
def test_every_dot_product_comes_out(mended, label, stall):
    bench, weights = mended
    activations = activations_for(label, 40)
    assert np.array_equal(computed(bench, label, activations, stall), activations @ weights[label])


def after_a_jam(bench, label, activations):
    """What the unit gives that always has input, where nothing is taken for BLOCKED cycles after its first result."""
    inputs, outputs, pe, simd = CASES[label]
    ports, given = Labelled(bench.model, label), beats(activations, [inputs // simd, simd], 4)
    taken, sent, jam = [], 0, 0
    for _ in range(20 * len(given) + 2 * BLOCKED):
        ports["in0_V_TVALID"] = int(sent < len(given))
        ports["in0_V_TDATA"] = given[min(sent, len(given) - 1)]
        ports["out0_V_TREADY"] = int(not taken or jam >= BLOCKED)
        jam += bool(taken)
        ports.settle()
        if ports["out0_V_TVALID"] and ports["out0_V_TREADY"]:
            taken.append(ports["out0_V_TDATA"] % 2 ** (18 * pe))
        sent += ports["in0_V_TVALID"] and ports["in0_V_TREADY"]
        ports.tick()
    lanes = [value for beat in taken for value in unpack(beat, pe, 18, signed=True)]
    return np.array(lanes).reshape(-1, outputs)


@pytest.mark.parametrize("label", ["one_beat", "one_beat_odd", "packed"])
def test_no_result_is_lost_in_a_jam(mended, label):
    bench, weights = mended
    activations = activations_for(label, 60)
    assert np.array_equal(after_a_jam(bench, label, activations), activations @ weights[label])


def test_without_the_mend_a_jam_overflows_a_unit_of_one_beat(tmp_path, verilated_runtime, monkeypatch):
    others = tuple(mend for mend in rtllib.MENDS if mend.file != "mvu/mvu_vvu_axi.sv")
    assert len(others) == len(rtllib.MENDS) - 1
    monkeypatch.setattr(rtllib, "MENDS", others)
    bench, _ = bench_of(tmp_path, verilated_runtime, ["one_beat"], finn(tmp_path / "finn-rtllib"))
    with pytest.raises(AssertionError, match="^an assertion of the RTL failed"):
        after_a_jam(bench, "one_beat", activations_for("one_beat", 60))


def lowered(bench, weights, label):
    """The unit's weights with some at -2^(b-1), written over AXI-Lite, as a flip would leave them."""
    changed = weights[label].copy()
    changed[::2, ::3] = -8
    for row, beat in enumerate(rows_of(changed, *CASES[label][2:])):
        bench.stored(label).write(row, beat)
    bench.stored(label).stream(beats(activations_for(label, 12), [2, 4], 4), count=12)  # what was read ahead is used up
    return changed


def test_a_weight_flipped_to_the_least_value_counts(mended):
    bench, weights = mended
    changed, activations = lowered(bench, weights, "packed"), activations_for("packed", 40)
    assert np.array_equal(computed(bench, "packed", activations, 0.2), activations @ changed)


def test_units_are_never_told_that_weights_are_narrow():
    """Told so, FINN's unit packs weights closer, and -2^(b-1) spoils its neighbours."""
    text = (RTL / "bitward_mvau.sv").read_text()
    assert text.count("NARROW_WEIGHTS") == text.count(".NARROW_WEIGHTS(0)") == 1


def test_a_memory_of_more_than_64_kib_is_reached_to_its_last_row(mended):
    bench, weights = mended
    inputs, outputs, pe, simd = CASES["large"]
    assert bench.ops["large"].address_bits() == 17
    assert bench.ops["large"].depth() * row_stride(4) == 80 * 1024
    rows, stored = rows_of(weights["large"], pe, simd), bench.stored("large")
    for row in (0, 16 * 1024 - 1, 16 * 1024, len(rows) - 1):
        assert stored.read(row) == rows[row]
    first, last = rows[0], weights["large"][-1, -1]
    stored.write(len(rows) - 1, (int(last) ^ 7) % 16)
    assert stored.read(len(rows) - 1) == (int(last) ^ 7) % 16 and stored.read(0) == first
    changed = weights["large"].copy()
    changed[-1, -1] = (int(last) ^ 7) % 16 - 16 * ((int(last) ^ 7) % 16 >= 8)
    activations = activations_for("large", 1)
    assert np.array_equal(computed(bench, "large", activations, 0.0), activations @ changed)
