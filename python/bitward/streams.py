# SPDX-License-Identifier: Apache-2.0
"""Streams: how the integer tensors of a design travel over AXI-Stream, and the host's work around them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from bitward.errors import ManifestError, nearest

EdgeOp = dict[str, Any]
"""{"op": "Transpose", "perm"} | {"op": "Mul" or "Add", "value"} | {"op": "Reshape", "shape"}: see `apply_edge`."""

_OPERANDS = {"Transpose": "perm", "Mul": "value", "Add": "value", "Reshape": "shape"}


@dataclass(frozen=True)
class StreamTensor:
    """A tensor of `shape` per image, of ONNX type `datatype` (UINT8, INT16), as it is streamed.

    Elements run in C order, `beat_elements` a beat, the first in the lowest bits; a beat has `stream_bits` bits
    (padding at the top), an image `beats` beats.
    """

    shape: tuple[int, ...]
    datatype: str
    stream_bits: int
    beat_elements: int
    beats: int

    def __post_init__(self) -> None:
        if re.fullmatch(r"U?INT([1-9]|[1-5]\d|6[0-3])", self.datatype) is None:
            raise ManifestError(f"datatype must be INT or UINT of 1 to 63 bits, got {self.datatype!r}; build again")
        if math.prod(self.shape) != self.beat_elements * self.beats:
            raise ManifestError(
                f"a stream must be of {math.prod(self.shape)} elements an image, got {self.beats} beats of "
                f"{self.beat_elements}; build again"
            )
        if self.stream_bits % 8 or self.stream_bits < self.bits * self.beat_elements:
            raise ManifestError(
                f"stream_bits must be whole bytes for {self.beat_elements} elements of {self.bits} bits, got "
                f"{self.stream_bits}; build again"
            )

    @property
    def signed(self) -> bool:
        """Whether elements are two's complement."""
        return self.datatype.startswith("INT")

    @property
    def bits(self) -> int:
        """Bits of one element."""
        return int(self.datatype.lstrip("UINT"))

    @property
    def image_bytes(self) -> int:
        """Bytes of one image on the stream."""
        return self.beats * self.stream_bits // 8

    def pack(self, images: npt.ArrayLike) -> bytes:
        """Integer images, shape (n, *shape), as the bytes of the stream; ManifestError out of shape or range."""
        array = np.asarray(images)
        if array.dtype.kind not in "iu" or array.shape[1:] != self.shape or array.ndim == 0:
            raise ManifestError(
                f"images must be integers of shape (n, {', '.join(map(str, self.shape))}), got {array.dtype} of shape "
                f"{array.shape}; apply the manifest's io.pre first"
            )
        low, high = (-(1 << (self.bits - 1)), 1 << (self.bits - 1)) if self.signed else (0, 1 << self.bits)
        if array.size and not (low <= int(array.min()) and int(array.max()) < high):
            worst = array.min() if int(array.min()) < low else array.max()
            raise ManifestError(f"images must be {self.datatype}, got {worst}; quantize them as the model does")
        octets = np.ascontiguousarray(array.astype("<i8")).reshape(-1, self.beat_elements, 1).view(np.uint8)
        bits = np.unpackbits(octets, axis=-1, count=self.bits, bitorder="little")
        beats = np.zeros((len(bits), self.stream_bits), np.uint8)
        beats[:, : self.bits * self.beat_elements] = bits.reshape(len(bits), -1)
        return np.packbits(beats, axis=1, bitorder="little").tobytes()

    def unpack(self, stream: bytes) -> npt.NDArray[np.int64]:
        """The bytes of whole images as integers, shape (n, *shape); padding is ignored."""
        if len(stream) % self.image_bytes:
            raise ManifestError(
                f"a stream must be whole images of {self.image_bytes} bytes, got {len(stream)}; a transfer is cut"
            )
        octets = np.frombuffer(stream, np.uint8).reshape(-1, self.stream_bits // 8)
        used = np.unpackbits(octets, axis=1, count=self.bits * self.beat_elements, bitorder="little")
        bits = used.reshape(-1, self.bits)
        filler = bits[:, -1:] if self.signed else np.zeros_like(bits[:, :1])  # sign extension
        wide = np.concatenate([bits, np.repeat(filler, 64 - self.bits, axis=1)], axis=1)
        numbers = np.packbits(wide, axis=1, bitorder="little").view("<i8").astype(np.int64)
        return numbers.reshape(-1, *self.shape)


@dataclass(frozen=True)
class Io:
    """A design's two streams, and what the host does before and after them (`apply_edge`)."""

    input: StreamTensor
    output: StreamTensor
    pre: tuple[EdgeOp, ...] = field(default=())
    post: tuple[EdgeOp, ...] = field(default=())

    def __post_init__(self) -> None:
        # arrays of the builder become lists, so that what is saved is what is loaded
        for side in ("pre", "post"):
            object.__setattr__(self, side, tuple(_plain_op(op, f"io.{side}") for op in getattr(self, side)))


def apply_edge(ops: Sequence[EdgeOp], array: npt.ArrayLike) -> npt.NDArray[Any]:
    """`array`, images along axis 0, after `ops` in turn, as ONNX computes them (Mul and Add in float32).

    `perm` counts the image axis and keeps it first; `shape` is that of one image; `value` broadcasts.

    >>> apply_edge([{"op": "Mul", "value": 0.5}, {"op": "Reshape", "shape": [2]}], np.array([[[3], [4]]])).tolist()
    [[1.5, 2.0]]
    """
    result = np.asarray(array)
    for op in ops:
        try:
            result = _applied(_plain_op(op, "an edge op"), result)
        except ValueError as error:
            raise ManifestError(
                f"images must be of a shape that {op['op']} at the design's edge takes, got {result.shape}; give them "
                "as the ONNX graph takes them, along axis 0"
            ) from error
    return result


def _applied(op: EdgeOp, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """One operation; numpy's ValueError where the shape is wrong."""
    if op["op"] == "Transpose":
        return array.transpose(op["perm"])
    if op["op"] == "Reshape":
        return array.reshape(len(array), *op["shape"])
    value, single = np.asarray(op["value"], dtype=np.float32), array.astype(np.float32)
    return single * value if op["op"] == "Mul" else single + value


def _plain_op(op: EdgeOp, where: str) -> EdgeOp:
    """The operation with lists for arrays; ManifestError where it is none."""
    name = op.get("op") if isinstance(op, dict) else None
    if not isinstance(name, str) or name not in _OPERANDS:
        raise ManifestError(f"{where} must be one of {sorted(_OPERANDS)}, got {op!r}; {nearest(name, _OPERANDS)}")
    operand = _OPERANDS[name]
    if set(op) != {"op", operand}:
        raise ManifestError(f"{where} must be {name} with {operand!r} alone, got {sorted(op)}; write it again")
    try:
        array = np.asarray(op[operand], dtype=np.float32 if operand == "value" else np.int64)
    except (TypeError, ValueError) as error:
        raise ManifestError(f"{where}.{operand} must be numbers, got {op[operand]!r}; write it again") from error
    if not np.isfinite(array).all():
        raise ManifestError(f"{where}.{operand} must be finite, got {array.tolist()}; JSON has no other numbers")
    value = array.tolist()
    if operand == "perm" and (value[:1] != [0] or sorted(value) != list(range(len(value)))):
        raise ManifestError(f"{where}.perm must keep the images first, got {value}; it orders axes from 0")
    return {"op": name, operand: value}
