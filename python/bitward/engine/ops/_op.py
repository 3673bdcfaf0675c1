# SPDX-License-Identifier: Apache-2.0
"""What all operators have in common: they turn the stream of an image into another, element by element.

Elements stand in the order in which the hardware sends them, not in that of an ONNX tensor: where the two differ (taps
of a depthwise window) the engine follows the hardware.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from bitward.engine.datatypes import IntegerType, Stream
from bitward.engine.images import Image
from bitward.errors import ManifestError, ModelError
from bitward.manifest import Memory
from bitward.words import Words

Parameters = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Attributes:
    """The attributes of one node, as FINN wrote them; ModelError where one is missing or has another value."""

    node: str
    op: str
    values: dict[str, Any]

    @property
    def where(self) -> str:
        """The node in messages."""
        return f"node {self.node} ({self.op})"

    def number(self, name: str, default: int | None = None) -> int:
        """An integer attribute."""
        value = self.values.get(name, default)
        if not isinstance(value, int):
            raise ModelError(f"{self.where} must have the integer attribute {name}, got {value!r}; build again")
        return value

    def numbers(self, name: str, default: tuple[int, ...] | None = None) -> tuple[int, ...]:
        """A list of integers."""
        value = self.values.get(name, default)
        if not isinstance(value, tuple):
            raise ModelError(f"{self.where} must have the integer list {name}, got {value!r}; build again")
        return value

    def size(self, name: str, default: tuple[int, ...] | None = None) -> int:
        """The product of a list of integers."""
        return math.prod(self.numbers(name, default))

    def type(self, name: str) -> IntegerType:
        """A datatype."""
        return IntegerType.parse(str(self.values.get(name)), f"{name} of {self.where}")

    def require(self, name: str, value: int | str, default: int | str) -> None:
        """The attribute has the only value that the engine models."""
        got = self.values.get(name, default)
        if got != value:
            raise ModelError(f"{self.where} must have {name} = {value}, got {got!r}; the engine models no other")


@dataclass(frozen=True)
class Ends:
    """One stream at a node: `count` elements of `type` an image."""

    count: int
    type: IntegerType


class Op(ABC):
    """One node: the streams of an image, `sources`, become others, `results`."""

    node: str

    @property
    @abstractmethod
    def sources(self) -> tuple[Ends, ...]:
        """What the node takes, in the order of its inputs."""

    @property
    @abstractmethod
    def results(self) -> tuple[Ends, ...]:
        """What the node gives, in the order of its outputs."""

    @abstractmethod
    def apply(self, streams: tuple[Stream, ...], parameters: Parameters | None) -> tuple[Stream, ...]:
        """The streams, shape (images, count) each, as they leave the node."""


@dataclass(frozen=True)
class Unary(Op):
    """One stream in, one out: `inputs` elements an image of type `source` become `outputs` of type `result`."""

    node: str
    inputs: int
    outputs: int
    source: IntegerType
    result: IntegerType

    @property
    def sources(self) -> tuple[Ends, ...]:
        return (Ends(self.inputs, self.source),)

    @property
    def results(self) -> tuple[Ends, ...]:
        return (Ends(self.outputs, self.result),)

    def apply(self, streams: tuple[Stream, ...], parameters: Parameters | None) -> tuple[Stream, ...]:
        return (self.run(streams[0], parameters),)

    @abstractmethod
    def run(self, stream: Stream, parameters: Parameters | None) -> Stream:
        """The stream, shape (images, inputs), as it leaves the node, shape (images, outputs)."""


@dataclass(frozen=True)
class StoredOp(Unary):
    """A node whose parameters lie in memory `memory`."""

    memory: Memory

    @abstractmethod
    def parameters(self, image: Image) -> Parameters:
        """What the node computes with when `image` is stored, by its place in the memory alone (no index map)."""

    def words(self, image: Image) -> Words:
        """The plain words that are read from an image, shape (depth, lanes)."""
        layout = self.memory.layout
        return layout.decode(image[:, : layout.segments])

    def check_rows(self, depth: int, lanes: int, bits: int) -> None:
        """The memory has the rows and lanes, of words of `bits` bits, that the node reads; ManifestError otherwise."""
        got = self.memory.depth, self.memory.layout.lanes, self.memory.scheme.bits
        if got != (depth, lanes, bits):
            raise ManifestError(
                f"memory {self.memory.name} must have {depth} rows of {lanes} words of {bits} bits for node "
                f"{self.node}, got {got[0]} of {got[1]} of {got[2]}; take manifest and graph of one build"
            )


Builder = Callable[[Attributes, "Memory | None"], "Op | None"]
Made = TypeVar("Made", bound=Builder)

OPS: dict[str, Builder] = {}
"""By op_type: the operator of a node's attributes and memory; None for a node that leaves the stream as it is."""


def builds(*op_types: str) -> Callable[[Made], Made]:
    """Registers a builder for these op_types."""

    def register(builder: Made) -> Made:
        OPS.update(dict.fromkeys(op_types, builder))
        return builder

    return register


def stored_in(attributes: Attributes, memory: Memory | None) -> Memory:
    """The memory of a node that must have one; ModelError otherwise."""
    if memory is None:
        raise ModelError(f"{attributes.where} must name its memory in metadata bitward.memory, got none; build again")
    return memory


def signed_words(words: Words, bits: int) -> npt.NDArray[np.int64]:
    """Words of `bits` bits (up to 63) as two's complement integers."""
    return IntegerType(bits, True).wrap(words.astype(np.int64)).astype(np.int64)
