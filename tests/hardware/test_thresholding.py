# SPDX-License-Identifier: Apache-2.0
"""bitward_thresholding in Verilator against numpy and the engine: streams with stalls, random faults, AXI-Lite."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
from node_bench import PART, hardware_op
from rtl_bench import Bench
from stored_bench import AXILITE, RTL, StoredBench, packed, unpacked

from bitward.engine.datatypes import IntegerType
from bitward.engine.ops.stored_thresholding import StoredThresholding
from bitward.errors import ModelError
from bitward.formats import Int, UInt
from bitward.hardware.parameters import Parameter
from bitward.indexmap import Axis
from bitward.layout import BeatLayout
from bitward.manifest import Hardware, Memory
from bitward.schemes import Plain, Secded, Tmr

FILES = [f"bitward_{name}" for name in ("voter", "disagree", "threshold_copy", "threshold_stage", "thresholding")]


@dataclass(frozen=True)
class Unit:
    """One parameter set; `lists` 1 means that all channels share one."""

    channels: int = 4
    pe: int = 2
    steps: int = 15
    source: IntegerType = IntegerType(12, True)
    threshold: IntegerType = IntegerType(12, True)
    result: IntegerType = IntegerType(4, False)
    bias: int = 0
    lists: int = 4
    voted: int = 0
    style: str = "auto"

    @property
    def folds(self):
        return self.channels // self.pe if self.lists > 1 else 1

    @property
    def scheme(self):
        return Tmr(self.threshold.bits, self.voted) if self.voted else Plain(self.threshold.bits)

    @property
    def layout(self):
        return BeatLayout(self.scheme, 1)

    @property
    def parameters(self):
        return {
            "Pe": self.pe, "Folds": self.folds, "Steps": self.steps, "InBits": self.source.bits,
            "InSigned": int(self.source.signed), "Bits": self.threshold.bits, "Signed": int(self.threshold.signed),
            "Voted": self.voted, "OutBits": self.result.bits, "Bias": self.bias, "RamStyle": f'"{self.style}"',
        }  # fmt: skip

    def memory(self):
        """The manifest's memory, its axes written by hand."""
        index, lane = self.steps.bit_length(), (self.pe - 1).bit_length()
        axes = (
            Axis(self.folds, 1 << index + lane, self.pe * self.steps),
            Axis(self.pe, 1 << index, self.steps if self.lists > 1 else 0),
            Axis(self.steps, 1, 1),
        )
        width = self.layout.width
        hardware = Hardware(self.folds << index + lane, width, 1, "mixed", 0, 4 * self.layout.segments, axes, (), 0)
        form = Int(self.threshold.bits) if self.threshold.signed else UInt(self.threshold.bits)
        return Memory("a.threshold", "a", "t", "threshold", (self.lists, self.steps), form, self.scheme, hardware)

    def op(self):
        """The engine's operator."""
        ends = (self.channels, self.channels, self.source, self.result)
        return StoredThresholding(
            "a", *ends, self.memory(), self.channels, self.pe, self.steps, self.bias, self.threshold
        )

    def sorted_lists(self, rng):
        """Thresholds over the range of the threshold's type, equal neighbours among them."""
        low, high = self.threshold.low, self.threshold.high
        return np.sort(rng.integers(low, high + 1, (self.lists, self.steps)), axis=1)

    def image(self, lists):
        return self.memory().image((lists & (1 << self.threshold.bits) - 1).astype(np.uint64))

    def write(self, folder, image):
        """The files of the arrays: of each stage and lane, list by list, the thresholds whose index ends as it asks."""
        folder.mkdir(parents=True, exist_ok=True)
        levels, lane_bits = self.steps.bit_length(), (self.pe - 1).bit_length()
        plain = self.layout.decode(image)[:, 0].tolist()
        for stage in range(levels):
            ending = "0" + "1" * (levels - 1 - stage)
            for lane in range(self.pe):
                held = [
                    plain[(fold << lane_bits | lane) << levels | index]
                    for fold in range(self.folds)
                    for index in range(1 << levels)
                    if f"{index:0{levels}b}".endswith(ending)
                ]
                lines = "".join(f"{word:x}\n" for word in held)
                (folder / f"thresholds_{stage}_{lane}.dat").write_text(lines)
        return f'"{folder / "thresholds"}"'

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


BASE = Unit()
UNITS = {
    "base": BASE,
    "tmr": replace(BASE, voted=12),
    "odd": Unit(9, 3, 7, IntegerType(8, False), IntegerType(9, True), IntegerType(3, True), -4, 9, 9),
    "one-lane": Unit(5, 1, 3, IntegerType(6, True), IntegerType(4, True), IntegerType(2, False), 0, 5),
    "narrow-tmr": Unit(2, 2, 3, IntegerType(3, False), IntegerType(3, False), IntegerType(2, False), 0, 2, 3),
    "shared": Unit(6, 2, 15, IntegerType(10, True), IntegerType(10, True), IntegerType(4, True), -8, 1, 10),
    "not-a-power": Unit(6, 2, 5, IntegerType(8, True), IntegerType(8, True), IntegerType(4, False), 2, 6, 8),
    "wide": Unit(2, 1, 255, IntegerType(24, True), IntegerType(24, True), IntegerType(8, False), 0, 2, 24),
    "widest": Unit(2, 2, 6, IntegerType(32, True), IntegerType(32, True), IntegerType(3, False), 0, 2, 32, "block"),
    "one-step": Unit(3, 3, 1, IntegerType(5, False), IntegerType(6, False), IntegerType(1, False), 0, 3),
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory, verilated_runtime):
    """`bench(unit, image)`: the unit with that initial memory."""
    root = tmp_path_factory.mktemp("thresholding")
    count = iter(range(1000))

    def make(unit, image):
        folder = root / str(next(count))
        init = unit.write(folder, image)
        files = [AXILITE, *(RTL / f"{file}.sv" for file in FILES)]
        model = Bench(folder, verilated_runtime, files, "bitward_thresholding", {**unit.parameters, "InitFile": init})
        return StoredBench(model, unit.layout)

    return make


QUICK = ("tmr", "odd", "narrow-tmr", "shared", "not-a-power")
PARAMETERS = [
    pytest.param(unit, id=name, marks=[] if name in QUICK else [pytest.mark.slow]) for name, unit in UNITS.items()
]


@pytest.mark.parametrize("unit", PARAMETERS)
def test_it_counts_thresholds_and_searches_as_the_engine_does_under_faults(unit, bench):
    rng = np.random.default_rng(unit.steps)
    lists = unit.sorted_lists(rng)
    image = unit.image(lists)
    model = bench(unit, image)
    elements = unit.elements(rng, 40)
    expected = (lists <= elements[:, :, None]).sum(axis=2) + unit.bias
    for stall in (0.4, 0.0):
        got = model.stream(unit.beats(elements), stall)
        assert np.array_equal(unit.results(got.beats), expected)
        assert got.corrected == got.detected == 0
    image = _upset(model, unit, image, rng)
    op = unit.op()
    got = model.stream(unit.beats(elements), 0.3, rows=range(0, len(image), 3))
    assert np.array_equal(unit.results(got.beats), op.run(elements, op.parameters(image)).reshape(expected.shape))
    assert not np.array_equal(unit.results(got.beats), expected), "many upsets in all copies must show"


def _upset(model, unit, image, rng):
    """Every live row of the memory holds random bits; the image."""
    live = unit.memory().map.live[:, 0]
    image = image.copy()
    for row in np.flatnonzero(live):
        beat = int.from_bytes(rng.bytes(16), "little") & _stored_bits(unit)
        model.write(int(row), beat)
        assert model.read(int(row)) == beat
        image[row] = [beat >> 32 * s & 0xFFFFFFFF for s in range(image.shape[1])]
    return image


def _stored_bits(unit):
    """The bits of a row that are no padding."""
    return sum(1 << int(bit) for bit in np.flatnonzero(unit.layout.owner[:, 0] >= 0))


def _rows_read(unit, lists, elements):
    """The rows that the search of each beat reads, by loops: a set for each beat."""
    index_bits, lane_bits = unit.steps.bit_length(), (unit.pe - 1).bit_length()
    beats = []
    for at, lanes in enumerate(elements.reshape(-1, unit.pe)):
        fold, rows = at % unit.folds, set()
        for lane, element in enumerate(lanes):
            found = 0
            for level in reversed(range(index_bits)):
                index = found + (1 << level) - 1
                if index < unit.steps:
                    rows.add((fold << lane_bits | lane) << index_bits | index)
                    found += (1 << level) * int(lists[(fold * unit.pe + lane) % len(lists), index] <= element)
        beats.append(rows)
    return beats


@pytest.fixture(scope="module")
def voted(bench):
    """A triplicated unit with one threshold a level to spare, its bench, lists and elements."""
    unit, rng = replace(BASE, voted=12, steps=13), np.random.default_rng(3)
    lists = unit.sorted_lists(rng)
    return unit, bench(unit, unit.image(lists)), lists, unit.elements(rng, 12)


def test_any_one_upset_of_a_stored_threshold_is_masked_and_counted_by_the_beats_that_read_it(voted):
    unit, model, lists, elements = voted
    image, rng = unit.image(lists), np.random.default_rng(4)
    expected = (lists <= elements[:, :, None]).sum(axis=2)
    read = _rows_read(unit, lists, elements)
    live = np.flatnonzero(unit.memory().map.live[:, 0])
    for bit in range(unit.layout.width):
        row = int(rng.choice(live))
        golden = sum(int(segment) << 32 * s for s, segment in enumerate(image[row]))
        model.write(row, golden ^ 1 << bit)
        got = model.stream(unit.beats(elements), 0.2)
        model.write(row, golden)
        assert np.array_equal(unit.results(got.beats), expected)
        assert got.corrected == sum(row in rows for rows in read)
        assert got.detected == 0


def test_two_copies_of_one_bit_outvote_the_third(voted):
    """Negative control: the same comparison sees what is not masked."""
    unit, model, lists, elements = voted
    image, row = unit.image(lists), 7  # the first threshold that lane 0 looks at
    golden = sum(int(segment) << 32 * s for s, segment in enumerate(image[row]))
    top, _, copy = (int(bit) for bit in np.flatnonzero(unit.layout.owner[:, 1] % 12 == 11)[[0, 1, 2]])
    model.write(row, golden ^ (1 << top | 1 << copy))
    got = model.stream(unit.beats(elements))
    model.write(row, golden)
    assert not np.array_equal(unit.results(got.beats), (lists <= elements[:, :, None]).sum(axis=2))


def test_a_beat_leaves_every_cycle_and_a_row_read_costs_one(voted):
    unit, model, lists, elements = voted
    beats = unit.beats(np.tile(elements, (6, 1)))
    free = model.stream(beats)
    assert np.diff(free.at).tolist() == [1] * (len(beats) - 1)
    assert free.at[0] == 2 * 4 + 2  # two cycles a stage, one for the queue, one for the output register
    reads = 9
    busy = model.stream(beats, rows=[0] * reads)
    assert busy.beats == free.beats
    assert busy.at[-1] <= free.at[-1] + reads


def test_rows_without_a_threshold_read_as_zero_and_ignore_writes(bench):
    unit = UNITS["odd"]  # three lanes of four, seven thresholds of eight rows
    rng = np.random.default_rng(5)
    model = bench(unit, unit.image(unit.sorted_lists(rng)))
    for row in np.flatnonzero(~unit.memory().map.live[:, 0]):
        model.write(int(row), (1 << unit.layout.width) - 1)
        assert model.read(int(row)) == 0


# -- the back end ------------------------------------------------------------------------------------------------------


class Initializers:
    """As much of a model as generating a node needs."""

    def __init__(self, lists):
        self.lists = lists

    def get_initializer(self, name):
        assert name == "a.threshold"
        return self.lists


def node_of(unit, **changed):
    """The unit as a node of a hardware graph, generated."""
    given = {
        "NumChannels": unit.channels, "PE": unit.pe, "numSteps": unit.steps, "ActVal": unit.bias,
        "inputDataType": str(unit.source), "weightDataType": str(unit.threshold), "outputDataType": str(unit.result),
        "numInputVectors": [1, 3, 2], "ram_style": unit.style,
    }  # fmt: skip
    if unit.voted:
        given["scheme"] = json.dumps(unit.scheme.to_dict())
    op = hardware_op("StoredThresholding_rtl", stored="a.threshold", **(given | changed))
    op.generate_hdl(Initializers(np.zeros((unit.lists, unit.steps))), PART, 5.0)
    return op


@pytest.mark.parametrize("unit", UNITS.values(), ids=UNITS)
def test_the_back_end_lays_memory_out_and_instantiates_as_the_module_does(unit):
    op, memory = node_of(unit), unit.memory()
    shape, columns = (unit.lists, unit.steps), ((unit.channels, unit.steps if unit.lists > 1 else 0),)
    thresholds = Parameter(
        "a.threshold", "a", "t", "threshold", np.zeros(shape, np.int64), unit.threshold.bits, unit.threshold.signed,
        np.ones(()), ((unit.steps, 1),), columns,
    )  # fmt: skip
    rows, lanes = op.axes(thresholds)
    made = replace(memory, hardware=replace(memory.hardware, word_axes=rows, lane_axes=lanes, depth=op.depth()))
    assert np.array_equal(made.map.index, memory.map.index) and np.array_equal(made.map.replica, memory.map.replica)
    assert (op.layout(), op.lanes(), op.read_ahead()) == (unit.layout, 1, 0)
    assert op.parameters(PART) == {
        **{name: str(value).strip('"') if name == "RamStyle" else value for name, value in unit.parameters.items()},
        "InitFile": "a.threshold",
    }
    assert unit.pe in op.foldings(thresholds)["PE"]
    assert op.rows_per_image() == 6 * unit.channels // unit.pe == op.get_exp_cycles()


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (
            {"ActVal": 1},
            r"^node dut \(StoredThresholding_rtl\) must have results 1 to 16 in its type, got UINT4: widen",
        ),
        ({"outputDataType": "FLOAT32"}, "must have results 0 to 15 in its type, got FLOAT32: widen it"),
        (
            {"scheme": json.dumps(Tmr(12, 1).to_dict())},
            "must store thresholds plain or with all their bits voted, got ",
        ),
        (
            {"scheme": json.dumps(Secded(12, 1).to_dict())},
            "must store thresholds plain or with all their bits voted, g",
        ),
    ],
    ids=["range", "float", "msb", "secded"],
)
def test_what_the_module_has_not_is_refused(changed, says):
    with pytest.raises(ModelError, match=says):
        node_of(BASE, **changed).parameters(PART)
