# SPDX-License-Identifier: Apache-2.0
"""What all operators have in common: they turn the stream of an image into another, element by element.

Elements stand in the order in which the hardware sends them, not in that of an ONNX tensor: where the two differ (taps
of a depthwise window) the engine follows the hardware.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
import numpy.typing as npt

from bitward.engine.datatypes import IntegerType, Stream
from bitward.engine.images import Image
from bitward.engine.order import Indices, Narrow, Order
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
    """One node: the streams of an image, `sources`, become others, `results`.

    An operator that treats each channel by itself says so by `takes` and `gives`, the orders in which it finds and
    leaves channels, and `of_channels`: a change of one channel is then followed alone. None of these changes what
    `apply` gives. `forgets`: elements that differ may become equal.
    """

    node: str
    forgets: ClassVar[bool] = False

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

    @property
    def takes(self) -> tuple[Order | None, ...]:
        """By source: the order in which each channel goes its own way; None where channels do not."""
        return (None,) * len(self.sources)

    @property
    def gives(self) -> tuple[Order | None, ...]:
        """By result: where its channels lie; None where nobody knows."""
        return (None,) * len(self.results)

    def of_channels(self, channels: Indices) -> Op:
        """The operator for streams of these channels alone, which stand behind one another as one fold's lanes do."""
        return self

    def place_of(self, source: int) -> int | None:
        """Where the channels of that source stand among those of the only result, if they just move there."""
        return None

    def ready(self, parameters: Parameters | None, elements: int) -> Any:
        """The parameters in a form that is quickest for so many elements."""
        return parameters

    def ready_of(self, ready: Any, channels: Indices) -> Any:
        """What `ready` gives, of these channels alone; all of it where channels have no parameters of their own."""
        return ready

    def apply_ready(self, streams: tuple[Stream, ...], ready: Any) -> tuple[Stream, ...]:
        """As `apply`, with parameters as `ready` gives them."""
        return self.apply(streams, ready)


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

    def resized(self, count: int, of: int, /, **fields: Any) -> Self:
        """The operator with `count` channels in the place of `of`, and with those fields."""
        sizes: dict[str, Any] = {"inputs": self.inputs // of * count, "outputs": self.outputs // of * count}
        return replace(self, **sizes, **fields)


class Channelwise(Unary):
    """Each channel goes its own way; `channels` of them stand behind one another, over and over."""

    channels: int

    @property
    def takes(self) -> tuple[Order | None, ...]:
        return (Order.of(self.channels),)

    @property
    def gives(self) -> tuple[Order | None, ...]:
        return (Order.of(self.channels),)

    def of_channels(self, channels: Indices) -> Op:
        return self.resized(len(channels), self.channels, channels=len(channels))


class Imagewise(Unary):
    """Each channel of an image goes its own way; `shape` is (height, width, channels)."""

    shape: tuple[int, int, int]

    @property
    def takes(self) -> tuple[Order | None, ...]:
        return (Order.of(self.shape[2]),)

    @property
    def gives(self) -> tuple[Order | None, ...]:
        return (Order.of(self.shape[2]),)

    def of_channels(self, channels: Indices) -> Op:
        return self.resized(len(channels), self.shape[2], shape=(*self.shape[:2], len(channels)))


@dataclass(frozen=True)
class StoredOp(Unary):
    """A node whose parameters lie in memory `memory`. Those of one channel stand along axis `channel_axis`."""

    memory: Memory
    channel_axis: ClassVar[int] = -1

    def parameters(self, image: Image) -> Parameters:
        """What the node computes with when `image` is stored, by its place in the memory alone (no index map)."""
        return self.arranged(self.integers(image))

    @abstractmethod
    def arranged(self, integers: npt.NDArray[np.int64]) -> Parameters:
        """What stands in the rows and lanes of the memory, shape (depth, lanes), where the node computes with it."""

    def integers(self, image: Image) -> npt.NDArray[np.int64]:
        """What any rows of the memory are read as, shape (rows, lanes)."""
        return signed_words(self.words(image), self.memory.scheme.bits)

    @cached_property
    def _entries(self) -> tuple[Indices, Indices]:
        """The flat indices of the parameters by the slot that they are read from; where each slot's begin."""
        slots = self.memory.depth * self.memory.layout.lanes
        slot = self.arranged(np.arange(slots).reshape(self.memory.depth, -1)).ravel()
        return np.argsort(slot, kind="stable"), np.searchsorted(np.sort(slot), np.arange(slots + 1))

    def entries(self, word: int, lane: int) -> Indices:
        """The flat indices of the parameters that are read from that lane of that row."""
        entries, first = self._entries
        slot = word * self.memory.layout.lanes + lane
        return entries[first[slot] : first[slot + 1]]

    def hit(self, source: Stream, result: Stream, parameters: Parameters, index: Indices, value: Indices) -> Narrow:
        """The channel that each hit changes, by itself, of all images: parameter `index[h]` is `value[h]`.

        `source` and `result` are the streams with `parameters`, of which `index` is flat.
        """
        place = np.stack(np.unravel_index(index, parameters.shape))
        channels = place[self.channel_axis].copy()
        place[self.channel_axis] = np.arange(len(index))
        found = parameters.take(channels, axis=self.channel_axis)
        found[tuple(place)] = value
        (order,) = self.takes
        taken = order.take(source, channels) if order else source
        op, shape = self.of_channels(channels), (len(source), -1)
        (stream,) = op.apply_ready((taken.reshape(shape),), op.ready(found, taken.size))
        return stream.reshape(len(source), -1, len(channels))

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
