# SPDX-License-Identifier: Apache-2.0
"""bitward_bias in Verilator against numpy and the engine: streams with stalls, random faults, AXI-Lite."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
from node_bench import PART, hardware_op
from rtl_bench import Bench
from stored_bench import AXILITE, RTL, StoredBench, init_file, packed, unpacked

from bitward.engine.datatypes import IntegerType
from bitward.engine.ops.stored_bias import StoredBias
from bitward.errors import ModelError
from bitward.formats import Int
from bitward.hardware.parameters import Parameter
from bitward.hardware.rtllib import library_root
from bitward.indexmap import Axis
from bitward.layout import BeatLayout
from bitward.manifest import Hardware, Memory
from bitward.schemes import Plain, Scheme, Secded, Tmr

FILES = ["bitward_voter", "bitward_disagree", "bitward_secded", "bitward_weights", "bitward_bias"]
MEMORY = [library_root() / "memstream/hdl" / name for name in ("memstream.sv", "memstream_axi.sv")]
AHEAD = 9  # rows that may have been read before a write


@dataclass(frozen=True)
class Unit:
    """One parameter set."""

    channels: int
    pe: int
    source: IntegerType
    scheme: Scheme
    result: IntegerType

    @property
    def layout(self):
        return BeatLayout(self.scheme, self.pe)

    @property
    def parameters(self):
        return {
            "Channels": self.channels, "Pe": self.pe, "InBits": self.source.bits, "InSigned": int(self.source.signed),
            "BiasBits": self.scheme.bits, "Voted": self.scheme.voted, "Secded": int(self.scheme.check_bits > 0),
            "OutBits": self.result.bits,
        }  # fmt: skip

    def memory(self):
        """The manifest's memory, its axes written by hand."""
        depth, layout = self.channels // self.pe, self.layout
        rows, lanes = (Axis(depth, 1, self.pe),), (Axis(self.pe, 1, 1),)
        hardware = Hardware(depth, layout.width, self.pe, "block", 0, 4 * layout.segments, rows, lanes, 1)
        form = Int(self.scheme.bits)
        return Memory("a.bias", "a", "b", "bias", (self.channels,), form, self.scheme, hardware)

    def op(self):
        """The engine's operator."""
        return StoredBias("a", self.channels, self.channels, self.source, self.result, self.memory(), self.channels)

    def biases(self, rng):
        low = -(1 << self.scheme.bits - 1)
        biases = rng.integers(low, -low, self.channels)
        biases[0] = low
        return biases

    def image(self, biases):
        return self.memory().image((biases & (1 << self.scheme.bits) - 1).astype(np.uint64))

    def elements(self, rng, pixels):
        """Elements as (pixels, channels), the extremes among them."""
        values = rng.integers(self.source.low, self.source.high + 1, (pixels, self.channels))
        values[0], values[1] = self.source.low, self.source.high
        return values

    def beats(self, elements):
        return [packed(lanes, self.source.bits) for lanes in elements.reshape(-1, self.pe)]

    def results(self, beats):
        lanes = [unpacked(beat, self.pe, self.result.bits, self.result.signed) for beat in beats]
        return np.array(lanes).reshape(-1, self.channels)


SIGNED = IntegerType(12, True)
UNITS = {
    "plain": Unit(6, 2, SIGNED, Plain(8), IntegerType(13, True)),
    "tmr": Unit(9, 3, IntegerType(4, False), Tmr(5, 5), IntegerType(6, True)),
    "tmr-one-lane": Unit(5, 1, IntegerType(20, True), Tmr(20, 20), IntegerType(21, True)),
    "one-row": Unit(3, 3, SIGNED, Tmr(2, 2), IntegerType(13, True)),
    "secded": Unit(8, 4, SIGNED, Secded(6, 4), IntegerType(13, True)),
    "wraps": Unit(4, 2, IntegerType(6, True), Tmr(6, 1), IntegerType(6, True)),
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory, verilated_runtime):
    """`bench(unit, image)`: the unit with that initial memory."""
    root = tmp_path_factory.mktemp("bias")
    count = iter(range(1000))

    def make(unit, image):
        folder = root / str(next(count))
        init = init_file(folder, image, unit.layout.width)
        files = [RTL / "bitward_weights.vlt", AXILITE, *MEMORY, *(RTL / f"{file}.sv" for file in FILES)]
        model = Bench(folder, verilated_runtime, files, "bitward_bias", {**unit.parameters, "InitFile": init})
        return StoredBench(model, unit.layout)

    return make


QUICK = ("plain", "tmr", "one-row")
PARAMETERS = [
    pytest.param(unit, id=name, marks=[] if name in QUICK else [pytest.mark.slow]) for name, unit in UNITS.items()
]


@pytest.mark.parametrize("unit", PARAMETERS)
def test_it_adds_biases_and_what_the_engine_reads_under_faults(unit, bench):
    rng = np.random.default_rng(unit.channels)
    biases = unit.biases(rng)
    image = unit.image(biases)
    model, op = bench(unit, image), unit.op()
    elements = unit.elements(rng, 40)
    expected = unit.result.wrap(elements + biases)
    for stall in (0.4, 0.0):
        got = model.stream(unit.beats(elements), stall)
        assert np.array_equal(unit.results(got.beats), expected)
        assert got.corrected == got.detected == 0
    assert np.diff(got.at).tolist() == [1] * (len(got.at) - 1)
    owned = sum(1 << int(bit) for bit in np.flatnonzero(unit.layout.owner[:, 1] >= 0))
    for row in range(len(image)):
        beat = int.from_bytes(rng.bytes(64), "little") & owned
        model.write(row, beat)
        assert model.read(row) == beat
        image[row] = [beat >> 32 * s & 0xFFFFFFFF for s in range(image.shape[1])]
    flush = -(-AHEAD // len(image))
    model.stream(unit.beats(elements[:flush]))
    got = model.stream(unit.beats(elements), 0.3, rows=range(0, len(image), 3))
    assert np.array_equal(unit.results(got.beats), op.run(elements, op.parameters(image)).reshape(expected.shape))
    assert not np.array_equal(unit.results(got.beats), expected), "many upsets in all copies must show"


def test_any_one_upset_of_a_stored_bias_is_masked_and_counted(bench):
    unit, rng = UNITS["tmr"], np.random.default_rng(6)
    biases, elements = unit.biases(rng), unit.elements(rng, 5)
    image = unit.image(biases)
    model, expected = bench(unit, image), elements + biases
    for bit in range(unit.layout.width):
        row = int(rng.integers(len(image)))
        golden = sum(int(segment) << 32 * s for s, segment in enumerate(image[row]))
        for upset, masked in ((1 << bit, True), (1 << bit | 1 << (bit + 15) % 45, False)):  # the next copy lies 15 on
            model.write(row, golden ^ upset)
            model.stream(unit.beats(elements[:3]))
            got = model.stream(unit.beats(elements), 0.2)
            assert np.array_equal(unit.results(got.beats), expected) == masked
            assert got.corrected == len(elements)
        model.write(row, golden)
        model.stream(unit.beats(elements[:3]))


# -- the back end ------------------------------------------------------------------------------------------------------


def node_of(unit, **changed):
    """The unit as a node of a hardware graph."""
    shape = [1, 3, 2, unit.channels]
    given = {
        "lhs_shape": shape, "rhs_shape": [unit.channels], "out_shape": shape, "lhs_style": "input", "PE": unit.pe,
        "rhs_style": "const", "lhs_dtype": str(unit.source), "rhs_dtype": f"INT{unit.scheme.bits}",
        "out_dtype": str(unit.result), "scheme": json.dumps(unit.scheme.to_dict()), "ram_style": "block",
    }  # fmt: skip
    return hardware_op("StoredBias_rtl", stored="a.bias", **(given | changed))


@pytest.mark.parametrize("unit", UNITS.values(), ids=UNITS)
def test_the_back_end_lays_memory_out_and_instantiates_as_the_module_does(unit):
    op, memory = node_of(unit), unit.memory()
    values = np.zeros(unit.channels, np.int64)
    biases = Parameter("a.bias", "a", "b", "bias", values, unit.scheme.bits, True, np.ones(()), ((1, 0),),
                       ((unit.channels, 1),))  # fmt: skip
    rows, lanes = op.axes(biases)
    made = replace(memory, hardware=replace(memory.hardware, word_axes=rows, lane_axes=lanes, depth=op.depth()))
    assert np.array_equal(made.map.index, memory.map.index)
    assert op.layout() == unit.layout
    assert op.parameters(PART) == {**unit.parameters, "InitFile": "a.bias.dat", "RamStyle": "block"}
    assert unit.pe in op.foldings(biases)["PE"]
    assert op.rows_per_image() == 6 * unit.channels // unit.pe
    assert (op.minimize_weight_bit_width(None), op.minimize_accumulator_width(None)) == (None, op.out_dtype)
    assert op.rhs_dtype.name == f"INT{unit.scheme.bits}"


def test_the_back_end_adds_as_the_engine_does():
    unit, rng = UNITS["tmr"], np.random.default_rng(2)
    biases, elements = unit.biases(rng), unit.elements(rng, 6).reshape(1, 3, 2, -1)
    op = node_of(unit)
    context = {op.onnx_node.input[0]: elements.astype(np.float32), "a.bias": biases.astype(np.float32)}
    op.execute_node(context, None)
    got = context[op.onnx_node.output[0]].reshape(6, -1)
    assert np.array_equal(got, unit.op().run(elements.reshape(6, -1), biases))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (
            {"rhs_shape": [1]},
            r"^node dut \(StoredBias_rtl\) must add one bias for each of its 6 channels to a stream, go",
        ),
        ({"rhs_style": "input"}, "must add one bias for each of its 6 channels to a stream, got .* .input."),
        ({"rhs_dtype": "UINT8"}, "must have signed biases, got UINT8: quantize them as signed"),
    ],
    ids=["scalar", "stream", "unsigned"],
)
def test_what_the_module_has_not_is_refused(changed, says):
    with pytest.raises(ModelError, match=says):
        node_of(UNITS["plain"], **changed).parameters(PART)
