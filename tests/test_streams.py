# SPDX-License-Identifier: Apache-2.0
"""Streams against Python's own integers; edge operations against numpy and onnxruntime's meaning of them."""

from __future__ import annotations

import numpy as np
import pytest

from bitward.errors import ManifestError
from bitward.streams import Io, StreamTensor, apply_edge

NIBBLES = StreamTensor((2, 3), "INT4", 16, 3, 2)


@pytest.mark.parametrize(
    "tensor",
    [
        NIBBLES,
        StreamTensor((8, 8, 1), "UINT8", 8, 1, 64),
        StreamTensor((10,), "INT16", 32, 2, 5),
        StreamTensor((4,), "UINT1", 8, 4, 1),
        StreamTensor((3,), "INT63", 64, 1, 3),
    ],
    ids=str,
)
def test_pack_and_unpack_every_range(tensor):
    low = -(1 << (tensor.bits - 1)) if tensor.signed else 0
    high = low + (1 << tensor.bits) - 1
    images = np.random.default_rng(0).integers(low, high, (3, *tensor.shape), endpoint=True)
    images[0], images[1] = low, high
    stream = tensor.pack(images)
    assert len(stream) == 3 * tensor.image_bytes
    assert np.array_equal(tensor.unpack(stream), images)
    flat = images.reshape(-1, tensor.beat_elements).tolist()
    mask = (1 << tensor.bits) - 1
    beats = [sum((number & mask) << at * tensor.bits for at, number in enumerate(beat)) for beat in flat]
    assert stream == b"".join(beat.to_bytes(tensor.stream_bits // 8, "little") for beat in beats)


def test_padding_is_ignored():
    stream = bytearray(NIBBLES.pack(np.array([[[1, 2, 3], [-1, -2, -8]]])))
    stream[1] |= 0xF0
    assert NIBBLES.unpack(bytes(stream)).tolist() == [[[1, 2, 3], [-1, -2, -8]]]


def test_edge_operations_do_what_onnx_does():
    images = np.arange(12).reshape(2, 1, 2, 3)
    ops = [
        {"op": "Transpose", "perm": [0, 2, 3, 1]},
        {"op": "Mul", "value": np.float32(0.1)},
        {"op": "Add", "value": [1.0]},
        {"op": "Reshape", "shape": (6,)},
    ]
    expected = (images.transpose(0, 2, 3, 1).astype(np.float32) * np.float32(0.1) + np.float32(1)).reshape(2, 6)
    got = apply_edge(ops, images)
    assert got.dtype == np.float32
    assert np.array_equal(got, expected)


def test_no_operations_change_nothing():
    images = np.arange(4).reshape(2, 2)
    assert apply_edge([], images).dtype == images.dtype
    assert np.array_equal(apply_edge((), images), images)


def test_arrays_of_the_builder_become_lists():
    io = Io(NIBBLES, NIBBLES, post=({"op": "Mul", "value": np.array([0.5], np.float32)},))
    assert io.post == ({"op": "Mul", "value": [0.5]},)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (
            lambda: StreamTensor((1,), "FLOAT32", 32, 1, 1),
            r"^datatype must be INT or UINT of 1 to 63 bits, got 'FLOAT32';",
        ),
        (lambda: StreamTensor((1,), "INT64", 64, 1, 1), r"^datatype must be INT or UINT of 1 to 63 bits, got 'INT64';"),
        (lambda: StreamTensor((4,), "INT4", 8, 2, 3), r"^a stream must be of 4 elements an image, got 3 beats of 2;"),
        (
            lambda: StreamTensor((4,), "INT4", 12, 2, 2),
            r"^stream_bits must be whole bytes for 2 elements of 4 bits, got 12",
        ),
        (
            lambda: StreamTensor((4,), "INT8", 8, 2, 2),
            r"^stream_bits must be whole bytes for 2 elements of 8 bits, got 8;",
        ),
        (
            lambda: NIBBLES.pack(np.zeros((1, 3, 2), int)),
            r"^images must be integers of shape \(n, 2, 3\), got int64 of",
        ),
        (lambda: NIBBLES.pack(np.zeros((1, 2, 3))), r"^images must be integers of shape \(n, 2, 3\), got float64 of"),
        (lambda: NIBBLES.pack(np.full((1, 2, 3), 8)), r"^images must be INT4, got 8;"),
        (lambda: NIBBLES.pack(np.full((1, 2, 3), -9)), r"^images must be INT4, got -9;"),
        (lambda: NIBBLES.unpack(b"123"), r"^a stream must be whole images of 4 bytes, got 3;"),
        (lambda: apply_edge([{"op": "Mull", "value": 1}], [1]), r"^an edge op must be one of \['Add', .* 'Mul'\?$"),
        (
            lambda: apply_edge(["Mul"], [1]),
            r"^an edge op must be one of \['Add', 'Mul', 'Reshape', 'Transpose'\], got 'Mul'",
        ),
        (lambda: apply_edge([{"op": "Mul"}], [1]), r"^an edge op must be Mul with 'value' alone, got \['op'\];"),
        (lambda: apply_edge([{"op": "Mul", "value": "x"}], [1]), r"^an edge op\.value must be numbers, got 'x';"),
        (lambda: apply_edge([{"op": "Add", "value": np.inf}], [1]), r"^an edge op\.value must be finite, got inf;"),
        (
            lambda: Io(NIBBLES, NIBBLES, ({"op": "Transpose", "perm": [1, 0]},)),
            r"^io\.pre\.perm must keep the images first, got \[1, 0\];",
        ),
    ],
)
def test_refusals(call, match):
    with pytest.raises(ManifestError, match=match):
        call()
