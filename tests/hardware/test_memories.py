# SPDX-License-Identifier: Apache-2.0
"""Where parameters lie in hardware: against FINN's own formulas, written out naively."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from bitward.errors import ModelError
from bitward.hardware import memories as mem
from bitward.hardware.lower import Layer
from bitward.hardware.stitch import Window
from bitward.manifest import Memory
from bitward.schemes import Plain, Scheme, Tmr


def layer_of(shape: tuple[int, ...], out_first: bool, flattened: tuple[int, int, int] | None = None) -> Layer:
    weights = np.arange(np.prod(shape)).reshape(shape) % 15 - 7
    return Layer("layer", "layer.weight", weights, 4, np.array(0.5, np.float32), out_first, flattened)


class FakeUnit:
    """As much of a StoredMVAU_rtl as a memory is made from."""

    def __init__(self, layer: Layer, pe: int, simd: int, scheme: Scheme) -> None:
        rows, columns = mem.matrix(layer).shape
        self.attributes = {"MW": rows, "MH": columns, "PE": pe, "SIMD": simd, "ram_style": "block"}
        self._scheme = scheme

    def get_nodeattr(self, name: str) -> object:
        return self.attributes[name]

    def scheme(self) -> Scheme:
        return self._scheme


LAYERS = {
    "convolution": layer_of((4, 3, 2, 2), out_first=True),
    "dense, in first": layer_of((6, 4), out_first=False),
    "dense, out first": layer_of((4, 6), out_first=True),
    "flattened, in first": layer_of((12, 4), out_first=False, flattened=(3, 2, 2)),
    "flattened, out first": layer_of((4, 12), out_first=True, flattened=(3, 2, 2)),
}
CASES = [
    (name, pe, simd)
    for name, layer in LAYERS.items()
    for pe, simd in itertools.product(mem.foldings(layer).pes, mem.foldings(layer).simds)
]


def matrix_naively(layer: Layer) -> np.ndarray:
    """(MW, MH): inputs run (kh, kw, ic), or (h, w, c) behind a flattened map."""
    if layer.is_conv:
        outputs, channels, height, width = layer.weights.shape
        rows = [
            [layer.weights[o, c, y, x] for o in range(outputs)]
            for y in range(height)
            for x in range(width)
            for c in range(channels)
        ]
        return np.array(rows)
    weights = layer.weights.T if layer.out_first else layer.weights
    if layer.flattened is None:
        return weights
    channels, height, width = layer.flattened
    order = [(c * height + y) * width + x for y in range(height) for x in range(width) for c in range(channels)]
    return weights[order]


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_the_matrix_that_finn_makes_of_it(name):
    assert np.array_equal(mem.matrix(LAYERS[name]), matrix_naively(LAYERS[name]))


@pytest.mark.parametrize("scheme", [Plain(4), Tmr(4, 1), Tmr(4, 4)], ids=str)
@pytest.mark.parametrize(("name", "pe", "simd"), CASES)
def test_weights_lie_where_finns_unit_reads_them(name, pe, simd, scheme):
    layer = LAYERS[name]
    memory = mem.weight_memory(FakeUnit(layer, pe, simd, scheme), layer, Window("layer", 0x2000, 0x1000), 10)
    image = mem.golden_images([memory], {memory.name: layer.weights})[memory.name]
    words = scheme.decode(memory.layout.unpack(image)).astype(np.int64)
    matrix = matrix_naively(layer)
    rows, columns = matrix.shape
    for mw, mh in itertools.product(range(rows), range(columns)):
        word, lane = (mh // pe) * (rows // simd) + mw // simd, (mh % pe) * simd + mw % simd
        assert (words[word, lane] ^ 8) - 8 == matrix[mw, mh]
    assert (memory.hardware.base, memory.depth) == (0x2000, rows * columns // (pe * simd))


@pytest.mark.parametrize(
    ("scheme", "words_per_image", "images"),
    [(Plain(4), 1, 8), (Tmr(4, 1), 1, 9), (Tmr(4, 1), 9, 1), (Tmr(4, 1), 8, 2), (Plain(4), 8, 1), (Plain(4), 7, 2)],
)
def test_flush_counts_cover_what_is_read_ahead(scheme, words_per_image, images):
    layer = LAYERS["dense, in first"]
    memory = mem.weight_memory(FakeUnit(layer, 1, 1, scheme), layer, Window("w", 0, 4096), words_per_image)
    assert memory.hardware.flush_images == images


def test_changed_weights_are_refused():
    layer = LAYERS["convolution"]
    unit = FakeUnit(layer, 1, 1, Plain(4))
    unit.onnx_node = type("Node", (), {"name": "MVAU_rtl_0"})
    mem.check_survival(unit, layer, mem.matrix(layer).astype(np.float32))
    with pytest.raises(
        ModelError, match="^layer layer must reach the hardware with its exported weights, but streamlining"
    ):
        mem.check_survival(unit, layer, -mem.matrix(layer))


class FakeThresholding:
    def __init__(self, channels: int, pe: int, steps: int, datatype: str) -> None:
        from qonnx.core.datatype import DataType

        self.attributes = {"NumChannels": channels, "PE": pe, "numSteps": steps}
        self._type = DataType[datatype]

    def get_nodeattr(self, name: str) -> int:
        return self.attributes[name]

    def get_input_datatype(self, _: int) -> object:
        return self._type


@pytest.mark.parametrize(("channels", "pe", "per_channel"), [(6, 1, True), (6, 2, True), (6, 6, True), (6, 3, False)])
@pytest.mark.parametrize(("steps", "datatype"), [(15, "INT9"), (3, "UINT8"), (255, "INT24"), (7, "INT33")])
def test_thresholds_lie_at_channel_fold_pe_and_number(channels, pe, per_channel, steps, datatype):
    op = FakeThresholding(channels, pe, steps, datatype)
    shape = (channels if per_channel else 1, steps)
    memory: Memory = mem.threshold_memory(op, "act", "act.t", shape, Window("t", 0x8000, 1 << 16))
    steps_bits, pe_bits = (steps - 1).bit_length(), (pe - 1).bit_length()
    live = 0
    for channel, number in itertools.product(range(channels), range(steps)):
        row = ((channel // pe if per_channel else 0) << pe_bits | channel % pe) << steps_bits | number
        at = memory.locate(row, 0)
        assert int(at.index) == (channel if per_channel else 0) * steps + number
    live = channels if per_channel else pe
    assert memory.population == live * steps * memory.format.bits
    stride = memory.hardware.word_stride
    assert stride == (8 if memory.format.bits > 32 else 4)
    if per_channel:
        assert memory.depth * stride <= 2 ** mem.threshold_address_bits(op)


def test_memory_files_are_as_readmemh_takes_them(tmp_path):
    mem.write_hex(np.array([[0x89ABCDEF, 0x1], [0x1, 0x0]], np.uint32), 36, tmp_path / "a.dat")
    assert (tmp_path / "a.dat").read_text() == "189abcdef\n000000001\n"
    mem.write_hex(np.array([[0xA]], np.uint32), 5, tmp_path / "b.dat")
    assert (tmp_path / "b.dat").read_text() == "0a\n"


@pytest.mark.parametrize(("width", "stride"), [(1, 4), (32, 4), (33, 8), (64, 8), (65, 16), (96, 16), (129, 32)])
def test_rows_start_at_powers_of_two(width, stride):
    assert mem.row_stride(width) == stride
