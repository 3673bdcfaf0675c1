# SPDX-License-Identifier: Apache-2.0
"""Schemes: plain words to stored words and back. The golden model of the voters and decoders in RTL.

A scheme says which bits a stored word has, not where they lie in a memory row: that is `bitward.layout`'s business.
A new scheme is one class here (or in a module that this one imports).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from bitward.errors import FormatError
from bitward.records import Kind
from bitward.words import Words, as_words, check_width, extract, join

Flags = npt.NDArray[np.bool_]


class Scheme(Kind):
    """How plain words of `bits` bits are stored as words of `stored_bits` bits, and read.

    Words have shape (...,), above 64 bits (..., 2) limbs (`bitward.words`); flags always have shape (...,).
    """

    refusal = FormatError
    bits: int
    voted: int = 0  # how many of the top bits are stored three times

    @property
    @abstractmethod
    def stored_bits(self) -> int:
        """Width of a stored word, copies and check bits included."""

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
        """(copy, bit): stored bit `stored_bit` is copy `copy` (0: the word itself) of plain bit `bit`."""

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


def scheme_from_dict(data: Any, where: str = "scheme") -> Scheme:
    """The scheme that `to_dict` wrote, e.g. `{"name": "tmr", "bits": 4, "voted": 1}`; FormatError otherwise."""
    return Scheme.from_dict(data, where)
