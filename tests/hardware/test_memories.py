# SPDX-License-Identifier: Apache-2.0
"""Where parameters lie in hardware: against FINN's own formulas, written out naively."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from onnx import helper

from bitward.errors import ManifestError, ModelError
from bitward.formats import Int, UInt
from bitward.hardware import memories as mem
from bitward.hardware.addresses import address_bits, row_stride
from bitward.hardware.boards import load_board
from bitward.hardware.ops._stored import write_hex
from bitward.hardware.parameters import Parameter
from bitward.hardware.specialise import RTL_DOMAIN
from bitward.hardware.stitch import Window
from bitward.indexmap import radix
from bitward.schemes import Plain, Scheme, Secded, Tmr

PART = load_board("virtual").part
WINDOW = Window("layer", 0x2000, 0x1000)


def parameter_of(shape: tuple[int, ...], rows: tuple[int, ...], columns: tuple[int, ...]) -> Parameter:
    """4-bit weights of a tensor of that shape, whose dimensions `rows` and `columns` are a matrix'."""
    weights = np.arange(np.prod(shape)).reshape(shape) % 15 - 7
    digits = tuple(radix(shape, rows)), tuple(radix(shape, columns))
    return Parameter("layer.weight", "layer", "w", "weight", weights, 4, True, np.array(0.5, np.float32), *digits)


def turned(parameter: Parameter) -> Parameter:
    """The same with its first two digits of rows counted down: the kernel of a transposed convolution."""
    (height, down), (width, right), *rest = parameter.rows
    return replace(parameter, rows=((height, -down), (width, -right), *rest))


PARAMETERS = {
    "convolution": parameter_of((4, 3, 2, 2), (2, 3, 1), (0,)),
    "transposed convolution": turned(parameter_of((3, 4, 2, 2), (2, 3, 0), (1,))),
    "dense, in first": parameter_of((6, 4), (0,), (1,)),
    "dense, out first": parameter_of((4, 6), (1,), (0,)),
    "flattened, in first": parameter_of((3, 2, 2, 4), (1, 2, 0), (3,)),
    "flattened, out first": parameter_of((4, 3, 2, 2), (2, 3, 1), (0,)),
}


def unit(parameter: Parameter, pe: int, simd: int, scheme: Scheme | None = None, vectors: int = 10):
    """A StoredMVAU_rtl node that holds the parameter."""
    import json

    from qonnx.custom_op.registry import getCustomOp

    import bitward.hardware.ops  # noqa: F401 - registers back ends

    rows, columns = parameter.matrix.shape
    node = helper.make_node(
        "StoredMVAU_rtl", ["x", parameter.name], ["y"], name="StoredMVAU_rtl_0", domain=RTL_DOMAIN,
        backend="fpgadataflow", MW=rows, MH=columns, PE=pe, SIMD=simd, inputDataType="UINT4",
        weightDataType=f"INT{parameter.bits}", outputDataType="INT16", numInputVectors=[1, vectors], noActivation=1,
        scheme=json.dumps(scheme.to_dict()) if scheme else "",
    )  # fmt: skip
    return getCustomOp(node)


def choices(parameter: Parameter) -> list[tuple[int, int]]:
    found = unit(parameter, 1, 1).foldings(parameter)
    return list(itertools.product(found["PE"], found["SIMD"]))


CASES = [(name, pe, simd) for name, parameter in PARAMETERS.items() for pe, simd in choices(parameter)]


def matrix_naively(name: str) -> np.ndarray:
    """(MW, MH): inputs run (kh, kw, ic), or (h, w, c) behind a flattened map; a transposed kernel is turned around."""
    weights = PARAMETERS[name].values
    if name == "dense, in first":
        return weights
    if name == "dense, out first":
        return weights.T
    if name == "flattened, in first":
        channels, height, width, outputs = weights.shape
        cells = [(c, y, x) for y in range(height) for x in range(width) for c in range(channels)]
        return np.array([[weights[c, y, x, o] for o in range(outputs)] for c, y, x in cells])
    if name == "transposed convolution":
        inputs, outputs, height, width = weights.shape
        cells = [(i, y, x) for y in range(height) for x in range(width) for i in range(inputs)]
        return np.array([[weights[i, o, height - 1 - y, width - 1 - x] for o in range(outputs)] for i, y, x in cells])
    outputs, channels, height, width = weights.shape
    cells = [(c, y, x) for y in range(height) for x in range(width) for c in range(channels)]
    return np.array([[weights[o, c, y, x] for o in range(outputs)] for c, y, x in cells])


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_parameter_is_the_matrix_that_hardware_reads(name):
    assert np.array_equal(PARAMETERS[name].matrix, matrix_naively(name))


def test_the_choices_of_a_layer_are_what_cuts_its_digits():
    conv = PARAMETERS["convolution"]
    found = unit(conv, 1, 1).foldings(conv)
    assert found == {"PE": [1, 2, 4], "SIMD": [1, 3, 6, 12]}  # (kh, kw, ic) = (2, 2, 3): from the last digit up


@pytest.mark.parametrize("scheme", [None, Tmr(4, 1), Tmr(4, 4), Secded(4, 1)], ids=str)
@pytest.mark.parametrize(("name", "pe", "simd"), CASES)
def test_weights_lie_where_finns_unit_reads_them(name, pe, simd, scheme):
    parameter = PARAMETERS[name]
    op = unit(parameter, pe, simd, scheme)
    memory = mem.memory_of(op, parameter, WINDOW)
    image = mem.golden_images([memory], {memory.name: parameter.values})[memory.name]
    words = memory.layout.decode(image).astype(np.int64)
    matrix = matrix_naively(name)
    rows, columns = matrix.shape
    for mw, mh in itertools.product(range(rows), range(columns)):
        word, lane = (mh // pe) * (rows // simd) + mw // simd, (mh % pe) * simd + mw % simd
        assert (words[word, lane] ^ 8) - 8 == matrix[mw, mh]
        assert parameter.values.flat[memory.map.index[word, lane]] == matrix[mw, mh]
    assert (memory.hardware.base, memory.depth) == (0x2000, rows * columns // (pe * simd))
    assert memory.scheme == (scheme or Plain(4)).over(pe * simd)
    assert op.address_bits() == (memory.depth * memory.hardware.word_stride - 1).bit_length()


def test_a_folding_that_cuts_digits_is_no_map():
    parameter = PARAMETERS["convolution"]
    with pytest.raises(
        ManifestError, match=r"^lanes must divide digits of sizes \[4, 3\] from the last one up, got 2; "
    ):
        mem.memory_of(unit(parameter, 1, 2), parameter, WINDOW)


@pytest.mark.parametrize(
    ("scheme", "vectors", "images"),
    [(None, 1, 8), (Tmr(4, 1), 1, 9), (Tmr(4, 1), 9, 1), (Tmr(4, 1), 8, 2), (None, 8, 1), (None, 7, 2),
     (Secded(4, 1), 8, 2)],
)  # fmt: skip
def test_flush_counts_cover_what_is_read_ahead(scheme, vectors, images):
    parameter = PARAMETERS["dense, in first"]
    memory = mem.memory_of(unit(parameter, 4, 6, scheme, vectors), parameter, WINDOW)
    assert (memory.depth, memory.hardware.flush_images) == (1, images)


def test_a_node_of_another_width_is_refused():
    parameter = PARAMETERS["convolution"]
    message = r"^memory layer\.weight must store words of 4 bits, as layer layer has them, got Tmr\(bits=5, voted=1\): "
    with pytest.raises(ModelError, match=message):
        mem.memory_of(unit(parameter, 1, 1, Tmr(5, 1)), parameter, WINDOW)


@pytest.mark.parametrize(
    ("attribute", "datatype"), [("inputDataType", "UINT18"), ("outputDataType", "INT49"), ("weightDataType", "UINT4")]
)
def test_types_that_no_dsp_slice_takes_are_refused(attribute, datatype):
    op = unit(PARAMETERS["convolution"], 1, 1)
    assert op.parameters(PART)["AccBits"] == 16
    op.set_nodeattr("inputDataType", "UINT17")
    op.parameters(PART)
    op.set_nodeattr(attribute, datatype)
    message = (
        r"^node StoredMVAU_rtl_0 \(StoredMVAU_rtl\) must have inputs of up to 18 bits, sign included, signed weights "
        rf"and sums of up to 48 bits on DSP48E2, got .*{datatype}.*: quantize before"
    )
    with pytest.raises(ModelError, match=message):
        op.parameters(PART)


def test_values_are_scaled_where_all_words_have_one_scale():
    parameter = PARAMETERS["convolution"]
    assert mem.memory_of(unit(parameter, 1, 1), parameter, WINDOW).format == Int(4, 0.5)
    for each in (replace(parameter, scale=np.ones(4, np.float32)), replace(parameter, signed=False)):
        expected = Int(4) if each.signed else UInt(4)
        assert mem.memory_of(unit(each, 1, 1), each, WINDOW).format == expected


def test_memory_files_are_as_readmemh_takes_them(tmp_path):
    write_hex(np.array([[0x89ABCDEF, 0x1], [0x1, 0x0]], np.uint32), 36, tmp_path / "a.dat")
    assert (tmp_path / "a.dat").read_text() == "189abcdef\n000000001\n"
    write_hex(np.array([[0xA]], np.uint32), 5, tmp_path / "b.dat")
    assert (tmp_path / "b.dat").read_text() == "0a\n"


@pytest.mark.parametrize(("width", "stride"), [(1, 4), (32, 4), (33, 8), (64, 8), (65, 16), (96, 16), (129, 32)])
def test_rows_start_at_powers_of_two(width, stride):
    assert row_stride(width) == stride


@pytest.mark.parametrize(
    ("depth", "width", "bits"), [(1, 8, 2), (2, 32, 3), (5, 33, 6), (1024, 36, 13), (20480, 8, 17)]
)
def test_addresses_are_as_wide_as_their_memory(depth, width, bits):
    assert address_bits(depth, width) == bits
