# SPDX-License-Identifier: Apache-2.0
"""Schemes: plain words to stored words and back. The golden model of the voters and decoders in RTL.

A scheme says which bits a stored word has, not where they lie in a memory row: that is `bitward.layout`'s business.
A new scheme is one class here (or in a module that this one imports).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from bitward.errors import FormatError
from bitward.records import Kind
from bitward.words import Words, as_words, check_width, extract, from_bits, join, to_bits

Flags = npt.NDArray[np.bool_]
Bits = npt.NDArray[np.uint8]
"""Bits 0 and 1, the least significant first along the last axis: how beats, wider than any word, are computed with."""

CHECK = -1
"""In place of the number of a copy: a check bit of the beat, which belongs to no single word."""


@dataclass(frozen=True)
class Reading:
    """What is read from beats: words of shape (..., lanes), and flags of shape (...,), one a beat."""

    words: Words
    corrected: Flags
    detected: Flags


class Scheme(Kind):
    """How plain words of `bits` bits are stored as words of `stored_bits` bits, and read.

    Words have shape (...,), above 64 bits (..., 2) limbs (`bitward.words`); flags always have shape (...,). A scheme
    whose `check_bits` is not 0 protects the `lanes` words of a beat together: what it stores are beats as `Bits`.
    """

    refusal = FormatError
    bits: int
    voted: int = 0  # how many of the top bits are stored three times
    lanes: int = 1  # words that are stored and read together

    @property
    @abstractmethod
    def stored_bits(self) -> int:
        """Width of a stored word, copies and check bits included (of a beat with check bits: see `lane_bits`)."""

    @property
    def check_bits(self) -> int:
        """How many of the stored bits are the beat's: the words of its lanes share them."""
        return 0

    @property
    def lane_bits(self) -> int:
        """How many of the stored bits every lane has of its own; they are the first ones."""
        return self.stored_bits - self.check_bits

    def over(self, lanes: int) -> Scheme:
        """The same protection in a memory with beats of `lanes` words."""
        return self

    @property
    @abstractmethod
    def masked_bits(self) -> tuple[int, ...]:
        """The stored bits whose single upset never reaches the word that is read."""

    @abstractmethod
    def encode(self, words: npt.ArrayLike) -> Words:
        """Plain words as stored words."""

    @abstractmethod
    def decode(self, stored: npt.ArrayLike) -> Words:
        """The words that are read, whatever upsets the stored words have."""

    @abstractmethod
    def corrected(self, stored: npt.ArrayLike) -> Flags:
        """Which words were read otherwise than stored because redundancy disagreed and settled it."""

    @abstractmethod
    def detected(self, stored: npt.ArrayLike) -> Flags:
        """Which words are known to be wrong and could not be corrected."""

    @abstractmethod
    def origin(self, stored_bit: int) -> tuple[int, int]:
        """(copy, bit): stored bit `stored_bit` is copy `copy` (0: the word itself) of plain bit `bit`.

        (`CHECK`, number) for a check bit of the beat.
        """

    def to_beats(self, words: npt.ArrayLike) -> Bits:
        """Words of shape (rows, lanes) as beats, shape (rows, lanes*lane_bits + check_bits): lane by lane, then checks.

        In no memory's order yet: see `bitward.layout`.
        """
        stored = self.encode(words)
        return to_bits(stored, self.stored_bits).reshape(len(stored), -1)

    def from_beats(self, beats: Bits) -> Reading:
        """What is read from beats as `to_beats` makes them, whatever upsets they have."""
        stored = from_bits(beats.reshape(len(beats), -1, self.stored_bits))
        corrected, detected = (
            np.asarray(flags.any(axis=1)) for flags in (self.corrected(stored), self.detected(stored))
        )
        return Reading(self.decode(stored), corrected, detected)

    def _check_stored_bit(self, stored_bit: int) -> None:
        if not 0 <= stored_bit < self.stored_bits:
            raise FormatError(
                f"stored_bit must be 0 to {self.stored_bits - 1} under {self}, got {stored_bit}; copies count as bits"
            )


def _none(words: Words, bits: int) -> Flags:
    return np.zeros(words.shape[:-1] if bits > 64 else words.shape, dtype=bool)


@dataclass(frozen=True)
class Plain(Scheme, kind="plain"):
    """No protection: the stored word is the word."""

    bits: int

    def __post_init__(self) -> None:
        check_width("Plain", self.bits)

    @property
    def stored_bits(self) -> int:
        return self.bits

    @property
    def masked_bits(self) -> tuple[int, ...]:
        return ()

    def encode(self, words: npt.ArrayLike) -> Words:
        return as_words("words", words, self.bits)

    def decode(self, stored: npt.ArrayLike) -> Words:
        return as_words("stored words", stored, self.bits)

    def corrected(self, stored: npt.ArrayLike) -> Flags:
        return _none(self.decode(stored), self.bits)

    def detected(self, stored: npt.ArrayLike) -> Flags:
        return _none(self.decode(stored), self.bits)

    def origin(self, stored_bit: int) -> tuple[int, int]:
        self._check_stored_bit(stored_bit)
        return 0, stored_bit


@dataclass(frozen=True)
class Tmr(Scheme, kind="tmr"):
    """Three copies of the top `voted` bits, read by majority: 0 = plain, 1 = MSB (FORTUNE), `bits` = full TMR.

    The stored word, from bit 0 up: the plain word, copy 1 of the top bits, copy 2 of the top bits. Voting is bit by
    bit, so three copies always have a majority: errors are corrected (or, with two copies upset, outvoted unseen),
    never detected without being corrected.
    """

    bits: int
    voted: int = field()  # says that the base's 0 is no default here

    def __post_init__(self) -> None:
        check_width("Tmr", self.bits)
        if (
            isinstance(self.voted, bool)
            or not isinstance(self.voted, (int, np.integer))
            or not (0 <= self.voted <= self.bits)
        ):
            raise FormatError(f"Tmr.voted must be 0 to {self.bits} of {self.bits} bits, got {self.voted!r}; 1 is MSB")
        check_width(f"the stored word of Tmr({self.bits}, {self.voted})", self.stored_bits)

    @property
    def stored_bits(self) -> int:
        return self.bits + 2 * self.voted

    @property
    def masked_bits(self) -> tuple[int, ...]:
        return tuple(range(self.bits - self.voted, self.stored_bits))

    def encode(self, words: npt.ArrayLike) -> Words:
        plain = as_words("words", words, self.bits)
        top = extract(plain, self.bits, self.bits - self.voted, self.voted)
        return join((plain, self.bits), (top, self.voted), (top, self.voted))

    def decode(self, stored: npt.ArrayLike) -> Words:
        words = as_words("stored words", stored, self.stored_bits)
        first, second, third = self._copies(words)
        majority = first & second | first & third | second & third
        rest = self.bits - self.voted
        return join((extract(words, self.stored_bits, 0, rest), rest), (majority, self.voted))

    def corrected(self, stored: npt.ArrayLike) -> Flags:
        words = as_words("stored words", stored, self.stored_bits)
        first, second, third = self._copies(words)
        disagree = (first ^ second | first ^ third) != 0
        return np.asarray(disagree.any(axis=-1) if self.voted > 64 else disagree)

    def detected(self, stored: npt.ArrayLike) -> Flags:
        return _none(as_words("stored words", stored, self.stored_bits), self.stored_bits)

    def origin(self, stored_bit: int) -> tuple[int, int]:
        self._check_stored_bit(stored_bit)
        if stored_bit < self.bits:
            return 0, stored_bit
        copy, voted_bit = divmod(stored_bit - self.bits, self.voted)
        return copy + 1, self.bits - self.voted + voted_bit

    def _copies(self, words: Words) -> tuple[Words, Words, Words]:
        """The three copies of the top bits, words of `voted` bits."""
        lows = (self.bits - self.voted, self.bits, self.bits + self.voted)
        first, second, third = (extract(words, self.stored_bits, low, self.voted) for low in lows)
        return first, second, third


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


def scheme_from_dict(data: Any, where: str = "scheme") -> Scheme:
    """The scheme that `to_dict` wrote, e.g. `{"name": "tmr", "bits": 4, "voted": 1}`; FormatError otherwise."""
    return Scheme.from_dict(data, where)
