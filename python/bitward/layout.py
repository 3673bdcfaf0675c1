# SPDX-License-Identifier: Apache-2.0
"""Layouts: where the stored bits of the words of one beat (one memory row) lie. The RTL voter undoes the same rule."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from bitward.errors import FormatError
from bitward.schemes import Scheme
from bitward.words import SEGMENT_BITS, Words, as_words, from_bits, to_bits

MIN_COPY_DISTANCE = 4  # two copies of a bit stand at least this many beat bits apart: a burst of up to 4 hits one copy


@dataclass(frozen=True)
class BeatLayout:
    """The beat of `lanes` words stored under `scheme`; copies of one bit stand at least 4 bits apart.

    With V = lanes*voted voted bits, N = lanes*(bits-voted) others and GAP = max(0, 4-V), from bit 0 up:
    `[copy 0: V][GAP][copy 1: V][GAP][copy 2: V][the rest]`. Inside a copy, bit `l*voted + v` is voted bit v (0 the
    lowest of the top bits) of lane l. The others, lane-major, fill the first gap, then the second, then the rest; gap
    slots that stay empty are padding. Without voted bits, lane l lies at bit `l*bits` (FINN's order).
    """

    scheme: Scheme
    lanes: int

    def __post_init__(self) -> None:
        if isinstance(self.lanes, bool) or not isinstance(self.lanes, (int, np.integer)) or self.lanes < 1:
            raise FormatError(f"lanes must be a whole number from 1, got {self.lanes!r}; a beat holds PE*SIMD words")

    @property
    def gap(self) -> int:
        """Slots between two copy groups."""
        return max(0, MIN_COPY_DISTANCE - self.lanes * self.scheme.voted) if self.scheme.voted else 0

    @property
    def width(self) -> int:
        """Bits of a beat, padding included."""
        voted = self.lanes * self.scheme.voted
        others = self.lanes * (self.scheme.bits - self.scheme.voted)
        return 3 * voted + max(others, 2 * self.gap)

    @property
    def segments(self) -> int:
        """32-bit segments of a beat, as AXI-Lite sees it."""
        return -(-self.width // SEGMENT_BITS)

    @cached_property
    def position(self) -> npt.NDArray[np.int64]:
        """Beat bit of each stored bit, shape (lanes, stored_bits)."""
        bits, voted = self.scheme.bits, self.scheme.voted
        lane = np.arange(self.lanes)[:, None]
        copies = [copy * (self.lanes * voted + self.gap) + lane * voted + np.arange(voted) for copy in range(3)]
        rank = lane * (bits - voted) + np.arange(bits - voted)
        others = self._free_slots[rank]
        return np.concatenate([others, *copies], axis=1)  # stored words: other bits, then copies 0, 1, 2 of the top

    @property
    def _free_slots(self) -> npt.NDArray[np.int64]:
        """Beat bits outside the copies, lowest first: the order in which the other bits take them."""
        voted = self.lanes * self.scheme.voted
        taken = np.concatenate([np.arange(voted) + copy * (voted + self.gap) for copy in range(3)])
        return np.setdiff1d(np.arange(self.width), taken)

    @cached_property
    def owner(self) -> npt.NDArray[np.int64]:
        """(lane, stored bit) of each beat bit, shape (width, 2); -1, -1 where a bit is padding."""
        owner = np.full((self.width, 2), -1, np.int64)
        lane, stored_bit = np.indices(self.position.shape)
        owner[self.position] = np.stack([lane, stored_bit], axis=-1)
        return owner

    @property
    def dead(self) -> npt.NDArray[np.int64]:
        """The beat bits that hold nothing (padding, written 0), in ascending order."""
        return np.flatnonzero(self.owner[:, 0] < 0)

    def pack(self, stored: npt.ArrayLike) -> npt.NDArray[np.uint32]:
        """Stored words, shape (rows, lanes), as 32-bit segments, lowest first, shape (rows, segments)."""
        words = as_words("stored words", stored, self.scheme.stored_bits)
        if words.ndim < 2 or words.shape[1] != self.lanes:
            raise FormatError(f"stored words must have shape (rows, {self.lanes}), got {words.shape}; a row is a beat")
        bits = to_bits(words, self.scheme.stored_bits)
        beats = np.zeros((len(words), self.segments * SEGMENT_BITS), np.uint8)
        beats[:, self.position] = bits
        octets = np.packbits(beats, axis=1, bitorder="little")
        return octets.view("<u4").astype(np.uint32)

    def unpack(self, segments: npt.ArrayLike) -> Words:
        """Segments, shape (rows, segments), as stored words, shape (rows, lanes); padding is ignored."""
        array = np.asarray(segments)
        if array.ndim != 2 or array.shape[1] != self.segments or array.dtype != np.uint32:
            raise FormatError(
                f"segments must be uint32 of shape (rows, {self.segments}), got {array.dtype} of shape {array.shape}; "
                "read whole beats"
            )
        octets = np.ascontiguousarray(array.astype("<u4")).view(np.uint8)
        return from_bits(np.unpackbits(octets, axis=1, bitorder="little")[:, self.position])


@dataclass(frozen=True)
class WordLayout(BeatLayout):
    """The row of a software-only memory: one stored word, its bits numbered as the scheme numbers them."""

    lanes: int = 1

    def __post_init__(self) -> None:
        if self.lanes != 1:
            raise FormatError(f"lanes must be 1 in a software-only memory, got {self.lanes!r}; use BeatLayout")

    @property
    def width(self) -> int:
        return self.scheme.stored_bits

    @cached_property
    def position(self) -> npt.NDArray[np.int64]:
        return np.arange(self.scheme.stored_bits, dtype=np.int64)[None, :]
