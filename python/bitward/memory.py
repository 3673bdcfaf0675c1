# SPDX-License-Identifier: Apache-2.0
"""One injectable memory: its shape, its faults, its images.

A fault is a bit of a row of a memory (DESIGN.md, "What a fault means"); `Memory` maps it to the parameter, copy and bit
that it hits, and back. Everything takes and gives whole arrays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bitward.errors import ManifestError
from bitward.formats import Format
from bitward.indexmap import Axis, IndexMap, Indices
from bitward.layout import BeatLayout, WordLayout
from bitward.schemes import Scheme
from bitward.words import SEGMENT_BITS, Words, as_words, word_shape

Role = Literal["weight", "bias", "threshold", "gamma", "beta", "mean", "variance", "outlier"]
RamStyle = Literal["block", "distributed", "mixed", "ultra"]  # mixed: arrays of either, as their depths are

_AIM = "take faults from bitward.faults"


@dataclass(frozen=True)
class Location:
    """What stored bits are: arrays of one shape (or numbers), all -1 where a bit is dead.

    A check bit is shared by the parameters of its row: its index, copy and replica are -1, its bit is its number.
    """

    index: Any  # flat index into the parameter tensor, C order
    copy: Any  # 0: the word itself, 1 and 2: the scheme's copies
    bit: Any  # bit of the plain word
    replica: Any  # which physical copy of the whole parameter
    stored_bit: Any  # bit of the stored word

    @property
    def dead(self) -> Any:
        """Whether no computation reads the bit."""
        return self.stored_bit < 0


@dataclass(frozen=True)
class Stratum:
    """All live bits of a memory that are the same bit of the stored word."""

    memory: str
    stored_bit: int
    size: int


@dataclass(frozen=True)
class Hardware:
    """Where a memory lies: `depth` rows of `width` bits that hold `lanes` words each, at byte address `base`.

    32-bit segment s of row w is at byte `base + w*word_stride + 4*s`; write all segments, the last commits; read
    segment 0 first. `flush_images` images after a write may still see old words. `unused_words` are rows that hold
    parameters which no computation reads.
    """

    depth: int
    width: int
    lanes: int
    ram_style: RamStyle
    base: int
    word_stride: int
    word_axes: tuple[Axis, ...]
    lane_axes: tuple[Axis, ...]
    flush_images: int
    unused_words: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.depth < 1 or self.width < 1 or self.flush_images < 0:
            raise ManifestError(
                f"hardware must be depth >= 1, width >= 1, flush_images >= 0, got {self.depth}, {self.width}, "
                f"{self.flush_images}; build the design again"
            )
        if self.word_stride < 4 * self.segments or self.word_stride % 4 or self.base % 4 or self.base < 0:
            raise ManifestError(
                f"hardware must be at a base and word_stride of whole segments, {4 * self.segments} bytes or more a "
                f"row, got base {self.base} and word_stride {self.word_stride}; build the design again"
            )
        if any(not 0 <= word < self.depth for word in self.unused_words):
            raise ManifestError(f"unused_words must be 0 to {self.depth - 1}, got {self.unused_words}; build again")

    @property
    def segments(self) -> int:
        """32-bit segments of a row."""
        return -(-self.width // SEGMENT_BITS)

    @property
    def end(self) -> int:
        """The first byte address behind the memory."""
        return self.base + self.depth * self.word_stride


@dataclass(frozen=True)
class Memory:
    """One injectable memory: the parameter tensor `tensor` (of `shape`, as exported) of layer `layer`.

    Without hardware it is software-only: one parameter per word, its stored bits numbered as the scheme does. A
    "threshold" memory has no counterpart in QONNX: the constants `folded` (biases, batch norm) have gone into it, and
    an upset in it is an upset in none of them. A fault in a "weight" or "bias" means the same in QONNX and in hardware.
    """

    name: str
    layer: str
    tensor: str
    role: Role
    shape: tuple[int, ...]
    format: Format
    scheme: Scheme
    hardware: Hardware | None = None
    folded: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.format.bits != self.scheme.bits:
            raise ManifestError(
                f"memory {self.name}: scheme must be of the format's {self.format.bits} bits, got {self.scheme}; "
                "encode the words the format has"
            )
        if self.hardware and self.hardware.width < self.layout.width:
            raise ManifestError(
                f"memory {self.name}: hardware.width must be at least {self.layout.width} for {self.layout.lanes} "
                f"lanes of {self.scheme}, got {self.hardware.width}; build the design again"
            )
        try:
            _ = self.map  # a map that is not one-to-one must not live until the first fault
        except ManifestError as error:
            raise ManifestError(f"memory {self.name}: {error}") from error

    def __getstate__(self) -> dict[str, Any]:
        """What goes to another process: the fields; tables are made anew there, when they are asked for."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    # -- shape of the memory ------------------------------------------------------------------------------------

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return math.prod(self.shape)

    @property
    def depth(self) -> int:
        """Number of rows (words of a fault)."""
        return self.hardware.depth if self.hardware else self.parameters

    @property
    def width(self) -> int:
        """Bits of a row, padding included."""
        return self.hardware.width if self.hardware else self.scheme.stored_bits

    @property
    def segments(self) -> int:
        """32-bit segments of a row."""
        return -(-self.width // SEGMENT_BITS)

    @cached_property
    def layout(self) -> BeatLayout:
        """Where stored bits lie in a row."""
        return BeatLayout(self.scheme, self.hardware.lanes) if self.hardware else WordLayout(self.scheme)

    @cached_property
    def map(self) -> IndexMap:
        """Which parameter lies in which word and lane."""
        count = self.parameters
        if self.hardware is None:
            return IndexMap(count, 1, count, (Axis(count, 1, 1),), ())
        hardware = self.hardware
        return IndexMap(hardware.depth, hardware.lanes, count, hardware.word_axes, hardware.lane_axes)

    # -- faults to parameters and back --------------------------------------------------------------------------

    @cached_property
    def _read(self) -> npt.NDArray[np.bool_]:
        """Which slots are read, shape (depth, lanes)."""
        read = self.map.live.copy()
        if self.hardware:
            read[list(self.hardware.unused_words)] = False
        return read

    @cached_property
    def _live_slots(self) -> Indices:
        """(word, lane) of every slot that is read, shape (n, 2), by word, then lane."""
        return np.argwhere(self._read)

    @cached_property
    def _read_rows(self) -> npt.NDArray[np.bool_]:
        """Which words have a slot that is read, shape (depth,)."""
        return np.asarray(self._read.any(axis=1))

    @cached_property
    def _live_rows(self) -> Indices:
        """Every word with a slot that is read, shape (n,)."""
        return np.flatnonzero(self._read_rows)

    @cached_property
    def _owner(self) -> Indices:
        """(lane, stored bit) of each bit of a row, shape (width, 2), as in `BeatLayout.owner`."""
        owner = np.full((self.width, 2), -1, np.int64)
        owner[: self.layout.width] = self.layout.owner
        return owner

    @cached_property
    def _origin(self) -> Indices:
        """(copy, bit) of each stored bit, shape (stored_bits, 2); copy -1 for check bits."""
        return np.array([self.scheme.origin(bit) for bit in range(self.scheme.stored_bits)])

    def locate(self, word: npt.ArrayLike, bit: npt.ArrayLike) -> Location:
        """What bits `bit` of rows `word` are (arrays broadcast); -1 in every field where a bit is dead.

        ManifestError where a row or bit is none of this memory's.
        """
        words, bits = np.broadcast_arrays(np.asarray(word), np.asarray(bit))
        for what, array, count in (("word", words, self.depth), ("bit", bits, self.width)):
            if array.size and not (0 <= array.min() and array.max() < count):
                wrong = array.min() if array.min() < 0 else array.max()
                raise ManifestError(f"{what} must be 0 to {count - 1} in memory {self.name}, got {wrong}; {_AIM}")
        lane, stored_bit = self._owner[bits, 0], self._owner[bits, 1]
        is_check = (lane < 0) & (stored_bit >= 0)
        read = np.where(is_check, self._read_rows[words], self._read[words, lane])
        dead = (stored_bit < 0) | np.logical_not(read)
        copy, plain_bit = self._origin[stored_bit, 0], self._origin[stored_bit, 1]
        index, replica = (np.where(is_check, -1, of[words, lane]) for of in (self.map.index, self.map.replica))
        fields = (index, copy, plain_bit, replica, stored_bit)
        return Location(*(np.where(dead, -1, values)[()] for values in fields))

    def places(self, index: npt.ArrayLike) -> Indices:
        """(word, bit) of the bits that store parameters `index`, shape (*index.shape, replicas, lane_bits, 2).

        Copies are among them; check bits of the row, which belong to no parameter, are not.
        """
        indices = np.asarray(index)
        if indices.size and not (0 <= indices.min() and indices.max() < self.parameters):
            raise ManifestError(
                f"index must be 0 to {self.parameters - 1} in memory {self.name}, got {index!r}; {_AIM}"
            )
        slots = np.moveaxis(self.map.slots[:, indices], 0, -2)
        word = np.broadcast_to(slots[..., :1], (*slots.shape[:-1], self.scheme.lane_bits))
        return np.stack([word, self.layout.position[slots[..., 1]]], axis=-1)

    def live(self, word: npt.ArrayLike, bit: npt.ArrayLike) -> Any:
        """Whether bits `bit` of rows `word` are in the fault population (arrays broadcast)."""
        return np.logical_not(self.locate(word, bit).dead)

    @property
    def population(self) -> int:
        """Number of live bits."""
        return len(self._live_slots) * self.scheme.lane_bits + len(self._live_rows) * self.scheme.check_bits

    @property
    def strata(self) -> tuple[Stratum, ...]:
        """The live bits by bit of the stored word, then by check bit of the row."""
        lanes, rows = len(self._live_slots), len(self._live_rows)
        scheme = self.scheme
        sizes = [lanes] * scheme.lane_bits + [rows] * scheme.check_bits
        return tuple(Stratum(self.name, bit, size) for bit, size in enumerate(sizes))

    def members(self, stored_bit: int, ranks: npt.ArrayLike | None = None) -> Indices:
        """(word, bit) of the members of a stratum, shape (n, 2), in row order; all of them, or those of `ranks`."""
        self.scheme.origin(stored_bit)  # refuses a bit that the scheme does not have
        chosen = slice(None) if ranks is None else np.asarray(ranks, dtype=np.int64)
        if stored_bit >= self.scheme.lane_bits:
            rows = self._live_rows[chosen]
            bit = self.layout.check_position[stored_bit - self.scheme.lane_bits]
            return np.stack([rows, np.full_like(rows, bit)], axis=-1)
        slots = self._live_slots[chosen]
        return np.stack([slots[:, 0], self.layout.position[slots[:, 1], stored_bit]], axis=-1)

    # -- memory images ------------------------------------------------------------------------------------------

    def image(self, words: npt.ArrayLike) -> npt.NDArray[np.uint32]:
        """The memory, shape (depth, segments), that holds plain words of the tensor's shape; dead bits are 0."""
        plain = as_words(f"memory {self.name}", words, self.scheme.bits)
        expected = word_shape(self.shape, self.scheme.bits)
        if plain.shape != expected:
            raise ManifestError(f"memory {self.name}: words must be of shape {expected}, got {plain.shape}; reorder")
        flat = plain.reshape(word_shape((self.parameters,), self.scheme.bits))
        held = flat[np.maximum(self.map.index, 0)]
        held[~self.map.live] = 0
        image = np.zeros((self.depth, self.segments), np.uint32)
        image[:, : self.layout.segments] = self.layout.encode(held)
        return image

    def stored_words(self, image: npt.ArrayLike) -> Words:
        """The words that parameters store in an image, shape (replicas, *shape): what faults hit, uncorrected.

        In the tensor's own order, of `scheme.lane_bits` bits: check bits of the rows are not among them.
        """
        rows = self.layout.unpack(self._rows(image))
        return self._by_parameter(rows, self.scheme.lane_bits)

    def words(self, image: npt.ArrayLike) -> Words:
        """The plain words that the hardware reads from an image, shape (replicas, *shape)."""
        return self._by_parameter(self.layout.decode(self._rows(image)), self.scheme.bits)

    def values(self, image: npt.ArrayLike) -> npt.NDArray[np.floating[Any]]:
        """The parameter values that the hardware reads from an image, shape (replicas, *shape)."""
        return self.format.decode(self.words(image))

    def _rows(self, image: npt.ArrayLike) -> npt.NDArray[np.uint32]:
        """The segments that the layout uses of an image, checked."""
        array = np.asarray(image)
        if array.shape != (self.depth, self.segments) or array.dtype != np.uint32:
            raise ManifestError(
                f"memory {self.name}: image must be uint32 of shape {(self.depth, self.segments)}, got {array.dtype} "
                f"of shape {array.shape}; read it with this manifest's build"
            )
        return array[:, : self.layout.segments]

    def _by_parameter(self, rows: Words, bits: int) -> Words:
        """Words of `bits` bits, shape (depth, lanes), in the tensor's own order, shape (replicas, *shape)."""
        slots = self.map.slots
        return rows[slots[..., 0], slots[..., 1]].reshape(word_shape((len(slots), *self.shape), bits))
