# SPDX-License-Identifier: Apache-2.0
"""Triple modular redundancy of the top bits."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from bitward.errors import FormatError
from bitward.schemes.scheme import Flags, Scheme, no_flags
from bitward.words import Words, as_words, check_width, extract, join


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
        return no_flags(as_words("stored words", stored, self.stored_bits), self.stored_bits)

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
