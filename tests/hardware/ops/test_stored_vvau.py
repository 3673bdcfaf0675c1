# SPDX-License-Identifier: Apache-2.0
"""The depthwise unit: RTL, back end and engine against sums in numpy, with upsets and redundancy."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from node_bench import PART, RTL, NodeBench, beats, engine_op, hardware_op, unpack

from bitward.errors import ModelError
from bitward.formats import Int
from bitward.hardware.memories import row_stride
from bitward.hardware.parameters import Parameter
from bitward.hardware.rtllib import collect, library_root
from bitward.manifest import Hardware, Memory
from bitward.schemes import Plain, Secded, Tmr
from bitward.words import beat_of, segments_of

IMAGES = 4
FINN = ("axi/hdl/axilite.sv", "memstream/hdl/memstream.sv", "memstream/hdl/memstream_axi.sv")
CASES = {  # kernel, channels, PE, SIMD, scheme, activation, windows an image
    "one_lane": ((3, 3), 3, 1, 1, Plain(4), "UINT4", (1, 2)),
    "odd_channels": ((3, 2), 5, 5, 1, Tmr(3, 1), "UINT3", (2, 1)),
    "folded": ((3, 3), 6, 2, 3, Tmr(4, 4), "INT4", (1, 2)),
    "all_taps": ((3, 3), 4, 2, 9, Secded(8, 18), "UINT8", (2, 2)),
    "one_row": ((2, 2), 3, 3, 4, Plain(2), "INT8", (2, 2)),
    "one_tap": ((1, 1), 4, 2, 1, Secded(5, 2), "UINT2", (1, 3)),
    "odd_tree": ((5, 1), 2, 1, 5, Plain(8), "INT2", (1, 2)),
}


def vvau(kernel, channels, pe, simd, scheme, act, windows, **changed):
    bound = 1 + math.prod(kernel) * 2 ** (scheme.bits - 1) * 2 ** int(act.strip("UINT"))
    given = {
        "Kernel": list(kernel), "Channels": channels, "PE": pe, "SIMD": simd, "Dim": list(windows),
        "inputDataType": act, "weightDataType": f"INT{scheme.bits}", "outputDataType": f"INT{bound.bit_length() + 1}",
        "noActivation": 1, "mem_mode": "internal_decoupled", "ram_style": "block",
        "scheme": json.dumps(scheme.to_dict()),
    }  # fmt: skip
    return hardware_op("StoredVVAU_rtl", stored="dut.weight", **(given | changed))


def parameter(op, values):
    """The weight tensor (channels, 1, kernel height, kernel width) as the hardware's matrix (taps, channels)."""
    channels, taps, bits = values.shape[0], math.prod(values.shape[2:]), op.scheme().bits
    scale = np.ones(1, np.float32)
    return Parameter("dut.weight", "dut", "w", "weight", values, bits, True, scale, ((taps, 1),), ((channels, taps),))


def memory(op, values):
    layout, (word_axes, lane_axes) = op.layout(), op.axes(parameter(op, values))
    stride = row_stride(layout.width)
    hardware = Hardware(op.depth(), layout.width, layout.lanes, "block", 0, stride, word_axes, lane_axes, 0)
    return Memory("dut.weight", "dut", "w", "weight", values.shape, Int(op.scheme().bits), layout.scheme, hardware)


def drawn(rng, kernel, channels, scheme):
    """Random weights, the least and the greatest among them."""
    low = -(2 ** (scheme.bits - 1))
    values = rng.integers(low, -low, (channels, 1, *kernel))
    values[0, 0, 0, 0] = low
    values[-1, 0, -1, -1] = -low - 1
    return values


def windows_of(rng, label):
    """Windows of activations, shape (images, windows, taps, channels)."""
    kernel, channels, *_, act, windows = CASES[label]
    datatype = vvau(*CASES[label]).get_input_datatype(0)
    low, high = int(datatype.min()), int(datatype.max())
    drawn = rng.integers(low, high + 1, (IMAGES, math.prod(windows), math.prod(kernel), channels))
    drawn[0, 0], drawn[-1, -1] = low, high
    return drawn


def as_sent(windows, pe):
    """The order of FINN's depthwise generator: all taps of PE channels, then those of the next."""
    images, count, taps, channels = windows.shape
    return windows.reshape(images, count, taps, channels // pe, pe).transpose(0, 1, 3, 2, 4).reshape(images, -1)


def sums(windows, values):
    """What must leave: for each window and channel the products summed over the taps, shape (images, sums)."""
    taps = values.reshape(values.shape[0], -1).T
    return (windows * taps).sum(axis=2).reshape(len(windows), -1)


@pytest.fixture(scope="module")
def weights():
    rng = np.random.default_rng(1)
    return {label: drawn(rng, case[0], case[1], case[4]) for label, case in CASES.items()}


@pytest.fixture(scope="module")
def bench(tmp_path_factory, verilated_runtime, weights):
    folder = tmp_path_factory.mktemp("vvau")
    ops = {label: vvau(*case) for label, case in CASES.items()}
    images = {}
    for label, op in ops.items():
        bits = op.scheme().bits
        images[label] = memory(op, weights[label]).image((weights[label] & (2**bits - 1)).astype(np.uint64))
    finn = [folder / name for name in collect([library_root() / file for file in FINN], folder)]
    ours = [RTL / f"bitward_{name}.sv" for name in ("voter", "disagree", "secded", "weights")]
    waivers = [RTL / "bitward_weights.vlt"]
    return NodeBench(folder, verilated_runtime, ops, images, [*waivers, *finn, *ours])


def through(bench, label, windows, stall=0.0, flush=False, rows=()):
    """(sums, outcome) of the RTL; with `flush`, images go before that take all rows read ahead; `rows` are read."""
    op, stored = bench.ops[label], bench.stored(label)
    shape, bits, result = op.get_folded_input_shape(0), op.get_input_datatype(0).bitwidth(), op.get_output_datatype()
    beats_out = math.prod(op.get_folded_output_shape()[:-1])
    if flush:
        ahead = math.ceil(op.read_ahead() / op.rows_per_image())
        zeros = np.zeros((ahead, math.prod(shape)), np.int64)
        stored.stream(beats(zeros, shape, bits), count=ahead * beats_out)
    given = beats(as_sent(windows, CASES[label][2]), shape, bits)
    outcome = stored.stream(given, stall, rows, count=len(windows) * beats_out)
    sent = [unpack(beat, CASES[label][2], result.bitwidth(), True) for beat in outcome.beats]
    return np.array(sent).reshape(len(windows), -1), outcome


@pytest.mark.parametrize("label", CASES)
def test_each_channel_is_its_own_dot_product_under_stalls_and_reads(bench, weights, label):
    op, windows = bench.ops[label], windows_of(np.random.default_rng(3), label)
    wanted = sums(windows, weights[label])
    got, outcome = through(bench, label, windows, stall=0.4, rows=range(op.depth()))
    assert np.array_equal(got, wanted)
    assert (outcome.corrected, outcome.detected) == (0, 0)
    modelled = engine_op(op, memory(op, weights[label]))
    parameters = modelled.parameters(bench.images[label])
    assert np.array_equal(parameters, parameter(op, weights[label]).matrix)
    assert np.array_equal(modelled.run(as_sent(windows, CASES[label][2]), parameters), wanted)


@pytest.mark.parametrize("label", CASES)
def test_a_beat_is_taken_every_cycle_also_between_images(bench, label):
    op, windows = bench.ops[label], windows_of(np.random.default_rng(4), label)
    _, outcome = through(bench, label, windows)
    last = outcome.at[len(outcome.at) // IMAGES - 1 :: len(outcome.at) // IMAGES]
    assert np.diff(last).tolist() == [op.get_exp_cycles()] * (IMAGES - 1)
    sums_a_beat = math.prod(CASES[label][0]) // CASES[label][3]
    assert set(np.diff(outcome.at).tolist()) == {sums_a_beat}


@pytest.mark.parametrize("label", CASES)
def test_engine_and_rtl_agree_on_any_upset_and_flags_are_counted(bench, weights, label):
    """Two rows with one and two upset bits each: the same sums, and as many raised flags as rows were read."""
    op, windows = bench.ops[label], windows_of(np.random.default_rng(5), label)
    rng, stored = np.random.default_rng(6), bench.stored(label)
    layout, image = op.layout(), bench.images[label].copy()
    modelled = engine_op(op, memory(op, weights[label]))
    for count in (1, 2, 1, 3):
        faulty = image.copy()
        row = int(rng.integers(op.depth()))
        upset = sum(1 << int(bit) for bit in rng.choice(layout.width, count, replace=False))
        beat = beat_of(faulty[row]) ^ upset
        faulty[row] = segments_of(beat, layout.segments)
        stored.write(row, beat)
        assert stored.read(row) == beat
        got, outcome = through(bench, label, windows, flush=True)
        wanted = modelled.run(as_sent(windows, CASES[label][2]), modelled.parameters(faulty))
        assert np.array_equal(got, wanted)
        reads = IMAGES * op.rows_per_image() // op.depth()
        assert outcome.corrected == reads * int(layout.corrected(faulty).sum())
        assert outcome.detected == reads * int(layout.detected(faulty).sum())
        stored.write(row, beat_of(image[row]))
    got, _ = through(bench, label, windows, flush=True)
    assert np.array_equal(got, sums(windows, weights[label]))


def test_sums_wrap_as_the_engine_says(bench, weights):
    """A result too narrow for its sums keeps the low bits; the back end refuses it (below), the model does not."""
    op = vvau(*CASES["one_lane"], outputDataType="INT6")
    windows = windows_of(np.random.default_rng(7), "one_lane")
    modelled = engine_op(op, memory(op, weights["one_lane"]))
    got = modelled.run(as_sent(windows, 1), modelled.parameters(bench.images["one_lane"]))
    assert np.array_equal(got, (sums(windows, weights["one_lane"]) + 32) % 64 - 32)


def test_channels_swapped_would_be_seen(bench, weights):
    windows = windows_of(np.random.default_rng(8), "folded")
    got, _ = through(bench, "folded", windows)
    assert not np.array_equal(got, sums(windows[..., ::-1], weights["folded"]))
    assert not np.array_equal(got, sums(windows, weights["folded"].transpose(0, 1, 3, 2)))


@pytest.mark.parametrize("label", CASES)
def test_engine_and_back_end_agree_on_counts_and_types(label, weights):
    op = vvau(*CASES[label])
    modelled = engine_op(op, memory(op, weights[label]))
    source, result = op.get_input_datatype(0), op.get_output_datatype()
    assert (modelled.inputs, str(modelled.source)) == (math.prod(op.get_normal_input_shape()), source.name)
    assert (modelled.outputs, str(modelled.result)) == (math.prod(op.get_normal_output_shape()), result.name)
    assert op.rows_per_image() == op.get_exp_cycles()


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"SIMD": 2}, r"must have a SIMD that divides 9 taps, got 2: fold by a divisor\."),
        ({"PE": 2}, r"must have a PE that divides 3 channels, got 2: fold by a divisor\."),
        ({"noActivation": 0}, r"must have no thresholds of its own, got noActivation=0: keep them apart\."),
        ({"weightDataType": "UINT4"}, r"must have signed weights, got UINT4: quantize them so\."),
        (
            {"outputDataType": "INT11"},
            r"must have an output type for sums of any weights, -1080 to 945, got INT11: widen it\.",
        ),
    ],
)
def test_what_the_module_has_not_is_refused(changed, says):
    op = vvau(*CASES["one_lane"], **changed)
    with pytest.raises(ModelError, match=rf"^node dut \(StoredVVAU_rtl\) {says}$"):
        op.parameters(PART)


def test_the_widest_sum_just_fits():
    assert vvau(*CASES["one_lane"], outputDataType="INT12").parameters(PART)["AccBits"] == 12
