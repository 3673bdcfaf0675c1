# SPDX-License-Identifier: Apache-2.0
"""Layouts: where the stored bits of the words of one beat (one memory row) lie. The RTL voter undoes the same rule."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from bitward.errors import FormatError
from bitward.schemes import Bits, Flags, Reading, Scheme
from bitward.words import SEGMENT_BITS, Words, as_words, from_bits, to_bits

MIN_COPY_DISTANCE = 4  # two copies of a bit stand at least this many beat bits apart: a burst of up to 4 hits one copy


@dataclass(frozen=True)
class BeatLayout:
    """The beat of `lanes` words stored under `scheme`; copies of one bit stand at least 4 bits apart.

    With V = lanes*voted voted bits, N = lanes*(bits-voted) others and GAP = max(0, 4-V), from bit 0 up:
    `[copy 0: V][GAP][copy 1: V][GAP][copy 2: V][the rest]`. Inside a copy, bit `l*voted + v` is voted bit v (0 the
    lowest of the top bits) of lane l. The others, lane-major, fill the first gap, then the second, then the rest; gap
    slots that stay empty are padding. Without voted bits, lane l lies at bit `l*bits` (FINN's order). Check bits of the
    beat come behind everything else.
    """

    scheme: Scheme
    lanes: int

    def __post_init__(self) -> None:
        if isinstance(self.lanes, bool) or not isinstance(self.lanes, (int, np.integer)) or self.lanes < 1:
            raise FormatError(f"lanes must be a whole number from 1, got {self.lanes!r}; a beat holds PE*SIMD words")
        if self.scheme.check_bits and self.scheme.lanes != self.lanes:
            raise FormatError(
                f"lanes must be those that the scheme checks together, {self.scheme.lanes}, got {self.lanes}; take "
                "scheme.over(lanes)"
            )

    @property
    def gap(self) -> int:
        """Slots between two copy groups."""
        return max(0, MIN_COPY_DISTANCE - self.lanes * self.scheme.voted) if self.scheme.voted else 0

    @property
    def width(self) -> int:
        """Bits of a beat, padding included."""
        voted = self.lanes * self.scheme.voted
        others = self.lanes * (self.scheme.bits - self.scheme.voted)
        return 3 * voted + max(others, 2 * self.gap) + self.scheme.check_bits

    @property
    def segments(self) -> int:
        """32-bit segments of a beat, as AXI-Lite sees it."""
        return -(-self.width // SEGMENT_BITS)

    @cached_property
    def position(self) -> npt.NDArray[np.int64]:
        """Beat bit of each stored bit that a lane has of its own, shape (lanes, lane_bits)."""
        bits, voted = self.scheme.bits, self.scheme.voted
        lane = np.arange(self.lanes)[:, None]
        copies = [copy * (self.lanes * voted + self.gap) + lane * voted + np.arange(voted) for copy in range(3)]
        rank = lane * (bits - voted) + np.arange(bits - voted)
        others = self._free_slots[rank]
        return np.concatenate([others, *copies], axis=1)  # stored words: other bits, then copies 0, 1, 2 of the top

    @property
    def check_position(self) -> npt.NDArray[np.int64]:
        """Beat bit of each check bit, shape (check_bits,)."""
        return np.arange(self.width - self.scheme.check_bits, self.width)

    @cached_property
    def _order(self) -> npt.NDArray[np.int64]:
        """Beat bit of each bit as the scheme's beats have them: lane by lane, then checks."""
        return np.concatenate([self.position.ravel(), self.check_position])

    @property
    def _free_slots(self) -> npt.NDArray[np.int64]:
        """Beat bits outside the copies, lowest first: the order in which the other bits take them."""
        voted = self.lanes * self.scheme.voted
        taken = np.concatenate([np.arange(voted) + copy * (voted + self.gap) for copy in range(3)])
        return np.setdiff1d(np.arange(self.width), taken)

    @cached_property
    def owner(self) -> npt.NDArray[np.int64]:
        """(lane, stored bit) of each beat bit, shape (width, 2); -1, -1 for padding, the lane -1 for check bits."""
        owner = np.full((self.width, 2), -1, np.int64)
        lane, stored_bit = np.indices(self.position.shape)
        owner[self.position] = np.stack([lane, stored_bit], axis=-1)
        owner[self.check_position, 1] = np.arange(self.scheme.lane_bits, self.scheme.stored_bits)
        return owner

    @property
    def dead(self) -> npt.NDArray[np.int64]:
        """The beat bits that hold nothing (padding, written 0), in ascending order."""
        return np.flatnonzero(self.owner[:, 1] < 0)

    def encode(self, words: npt.ArrayLike) -> npt.NDArray[np.uint32]:
        """Plain words, shape (rows, lanes), as the rows that hold them: 32-bit segments, shape (rows, segments)."""
        plain = self._beats_of("words", words, self.scheme.bits)
        return self._segments(self.scheme.to_beats(plain))

    def read(self, segments: npt.ArrayLike) -> Reading:
        """What the hardware reads from rows of segments: words, shape (rows, lanes), and flags, shape (rows,)."""
        return self.scheme.from_beats(self._bits(segments)[:, self._order])

    def decode(self, segments: npt.ArrayLike) -> Words:
        """The plain words, shape (rows, lanes), that are read from rows of segments."""
        return self.read(segments).words

    def corrected(self, segments: npt.ArrayLike) -> Flags:
        """In which rows redundancy disagreed and settled what is read, shape (rows,)."""
        return self.read(segments).corrected

    def detected(self, segments: npt.ArrayLike) -> Flags:
        """Which rows are known to be wrong and could not be corrected, shape (rows,)."""
        return self.read(segments).detected

    def pack(self, stored: npt.ArrayLike) -> npt.NDArray[np.uint32]:
        """Stored words, shape (rows, lanes), as 32-bit segments, lowest first, shape (rows, segments).

        FormatError under a scheme with check bits, which are in no lane's word: `encode` makes whole rows.
        """
        if self.scheme.check_bits:
            raise FormatError(f"a scheme must have no check bits to pack its words, got {self.scheme}; use encode")
        words = self._beats_of("stored words", stored, self.scheme.stored_bits)
        return self._segments(to_bits(words, self.scheme.stored_bits).reshape(len(words), -1))

    def unpack(self, segments: npt.ArrayLike) -> Words:
        """Segments, shape (rows, segments), as the words each lane stores by itself, shape (rows, lanes)."""
        return from_bits(self._bits(segments)[:, self.position])

    def _beats_of(self, what: str, words: npt.ArrayLike, bits: int) -> Words:
        """`words`, checked: of `bits` bits and shape (rows, lanes)."""
        checked = as_words(what, words, bits)
        if checked.ndim < 2 or checked.shape[1] != self.lanes:
            raise FormatError(f"{what} must have shape (rows, {self.lanes}), got {checked.shape}; a row is a beat")
        return checked

    def _segments(self, beats: Bits) -> npt.NDArray[np.uint32]:
        """Beats, lane by lane, as rows of segments."""
        rows = np.zeros((len(beats), self.segments * SEGMENT_BITS), np.uint8)
        rows[:, self._order] = beats
        octets = np.packbits(rows, axis=1, bitorder="little")
        return octets.view("<u4").astype(np.uint32)

    def _bits(self, segments: npt.ArrayLike) -> Bits:
        """The bits of rows of segments, shape (rows, 32*segments)."""
        array = np.asarray(segments)
        if array.ndim != 2 or array.shape[1] != self.segments or array.dtype != np.uint32:
            raise FormatError(
                f"segments must be uint32 of shape (rows, {self.segments}), got {array.dtype} of shape {array.shape}; "
                "read whole beats"
            )
        octets = np.ascontiguousarray(array.astype("<u4")).view(np.uint8)
        return np.unpackbits(octets, axis=1, bitorder="little")


@dataclass(frozen=True)
class WordLayout(BeatLayout):
    """The row of a software-only memory: one stored word, its bits numbered as the scheme numbers them."""

    lanes: int = 1

    def __post_init__(self) -> None:
        if self.lanes != 1:
            raise FormatError(f"lanes must be 1 in a software-only memory, got {self.lanes!r}; use BeatLayout")
        super().__post_init__()

    @property
    def width(self) -> int:
        return self.scheme.stored_bits

    @cached_property
    def position(self) -> npt.NDArray[np.int64]:
        return np.arange(self.scheme.lane_bits, dtype=np.int64)[None, :]
