# SPDX-License-Identifier: Apache-2.0
"""Single error correction, double error detection over a beat."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from bitward.errors import FormatError
from bitward.schemes.scheme import CHECK, Bits, Flags, Reading, Scheme
from bitward.words import Words, as_words, check_width, from_bits, to_bits


@dataclass(frozen=True)
class Secded(Scheme, kind="secded"):
    """An extended Hamming code over the `lanes` words of a beat: one upset bit is corrected, two are detected.

    A beat, from bit 0 up: the words, the Hamming check bits, the parity of all bits before. Data bit d answers for the
    d-th number from 3 up that is no power of two, check bit i for 2**i; each check bit makes the exclusive or of the
    numbers of all bits that are 1 come out as 0. With one upset it comes out as the number of that bit (0: the parity
    bit), and the parity is odd. An even number of upsets that does not cancel is detected; three upsets or more may
    look like one, and what is corrected then is wrong. There is no burst that is sure to be corrected but one bit.

    Stored bits 0 to bits-1 are those of each word, the others the check bits. (R. W. Hamming, Bell System Technical
    Journal 29, 1950.)
    """

    bits: int
    lanes: int = field()  # says that the base's 1 is no default here

    def __post_init__(self) -> None:
        check_width("Secded", self.bits)
        if isinstance(self.lanes, bool) or not isinstance(self.lanes, (int, np.integer)) or self.lanes < 1:
            raise FormatError(
                f"Secded.lanes must be a whole number from 1, got {self.lanes!r}; a beat holds PE*SIMD words"
            )

    @property
    def data_bits(self) -> int:
        """Plain bits of a beat."""
        return self.bits * self.lanes

    @cached_property
    def check_bits(self) -> int:
        """The Hamming check bits, the fewest that number every bit, and the parity bit."""
        hamming = 1
        while 1 << hamming < self.data_bits + hamming + 1:
            hamming += 1
        return hamming + 1

    @property
    def stored_bits(self) -> int:
        return self.bits + self.check_bits

    @property
    def masked_bits(self) -> tuple[int, ...]:
        return tuple(range(self.stored_bits))

    def over(self, lanes: int) -> Secded:
        return Secded(self.bits, lanes)

    def encode(self, words: npt.ArrayLike) -> Bits:
        """Plain words, shape (..., lanes), as beats, shape (..., data_bits + check_bits)."""
        plain = as_words("words", words, self.bits)
        shape = plain.shape[:-1] if self.bits > 64 else plain.shape
        if not shape or shape[-1] != self.lanes:
            raise FormatError(f"words must be of shape (..., {self.lanes}) under {self}, got {shape}; give whole beats")
        data = to_bits(plain, self.bits).reshape(*shape[:-1], self.data_bits)
        checked = np.concatenate([data, self._parities(data)], axis=-1)
        return np.concatenate([checked, checked.sum(axis=-1, keepdims=True, dtype=np.uint8) & 1], axis=-1)

    def decode(self, stored: npt.ArrayLike) -> Words:
        """The words, shape (..., lanes), that are read from beats, shape (..., data_bits + check_bits)."""
        beats = self._checked(stored)
        flipped, _, _ = self._upsets(beats)
        data = (beats ^ flipped)[..., : self.data_bits]
        return from_bits(data.reshape(*beats.shape[:-1], self.lanes, self.bits))

    def corrected(self, stored: npt.ArrayLike) -> Flags:
        return self._upsets(self._checked(stored))[1]

    def detected(self, stored: npt.ArrayLike) -> Flags:
        return self._upsets(self._checked(stored))[2]

    def origin(self, stored_bit: int) -> tuple[int, int]:
        self._check_stored_bit(stored_bit)
        return (0, stored_bit) if stored_bit < self.bits else (CHECK, stored_bit - self.bits)

    def to_beats(self, words: npt.ArrayLike) -> Bits:
        return self.encode(words)

    def from_beats(self, beats: Bits) -> Reading:
        return Reading(self.decode(beats), self.corrected(beats), self.detected(beats))

    def _checked(self, stored: npt.ArrayLike) -> Bits:
        beats = np.asarray(stored)
        width = self.data_bits + self.check_bits
        if beats.dtype != np.uint8 or beats.shape[-1:] != (width,) or (beats.size and beats.max() > 1):
            raise FormatError(
                f"beats must be uint8 bits of shape (..., {width}) under {self}, got {beats.dtype} of shape "
                f"{beats.shape}; take them from Secded.encode or BeatLayout"
            )
        return beats

    @cached_property
    def _numbers(self) -> npt.NDArray[np.int64]:
        """The number that each data bit answers for."""
        numbers = np.arange(3, 1 << (self.check_bits - 1))
        return numbers[numbers & (numbers - 1) != 0][: self.data_bits]

    @cached_property
    def _bit_of(self) -> npt.NDArray[np.int64]:
        """Which bit of a beat a syndrome points at, -1 where none answers for it."""
        hamming = self.check_bits - 1
        bit_of = np.full(1 << hamming, -1, np.int64)
        bit_of[self._numbers] = np.arange(self.data_bits)
        bit_of[1 << np.arange(hamming)] = self.data_bits + np.arange(hamming)
        bit_of[0] = self.data_bits + hamming
        return bit_of

    def _parities(self, data: Bits) -> Bits:
        """The Hamming check bits of data bits, shape (..., check_bits - 1)."""
        covered = self._numbers[:, None] >> np.arange(self.check_bits - 1) & 1
        counts = data.astype(np.float32) @ covered.astype(np.float32)  # whole, and far below 2**24
        return np.asarray(counts % 2, dtype=np.uint8)

    def _upsets(self, beats: Bits) -> tuple[Bits, Flags, Flags]:
        """(bits that are corrected, beats that are corrected, beats in which upsets are detected)."""
        hamming = self.check_bits - 1
        parities = self._parities(beats[..., : self.data_bits]) ^ beats[..., self.data_bits : -1]
        syndrome = (parities.astype(np.int64) << np.arange(hamming)).sum(axis=-1)
        odd = beats.sum(axis=-1) % 2 == 1
        at = self._bit_of[syndrome]
        corrected = odd & (at >= 0)
        flipped = (np.arange(beats.shape[-1]) == at[..., None]) & corrected[..., None]
        return flipped.astype(np.uint8), corrected, ~corrected & (odd | (syndrome != 0))
