# SPDX-License-Identifier: Apache-2.0
"""Check bits in the sign-extension bits of words that are wider than their values: protection at no memory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from bitward.errors import FormatError
from bitward.schemes.scheme import CHECK, Flags, Scheme
from bitward.schemes.secded import Secded
from bitward.words import Words, as_words, extract, from_bits, join, to_bits

WIDEST = 64


@dataclass(frozen=True)
class InPlaceSecded(Scheme, kind="in-place-secded"):
    """A word of `bits` bits whose value needs fewer holds the check bits of an extended Hamming code over the others.

    The stored word, from bit 0 up: the value's low `data_bits` bits, two's complement; the check bits, where a plain
    word repeats its sign. One upset bit is corrected, two are detected (then the value is read as it lies). 32 bits
    have room for values of 26: biases of networks need 12 to 19. (The SEU paper's tables 11 and 12; R. W. Hamming, Bell
    System Technical Journal 29, 1950.)

    >>> scheme = InPlaceSecded(32)
    >>> scheme.data_bits, scheme.stored_bits
    (26, 32)
    >>> int(scheme.decode(scheme.encode([0xFFFFFFFE]) ^ (1 << 25))[0]) == 0xFFFFFFFE  # -2, its sign hit
    True
    """

    bits: int

    def __post_init__(self) -> None:
        if isinstance(self.bits, bool) or not isinstance(self.bits, (int, np.integer)) or not 5 <= self.bits <= WIDEST:
            raise FormatError(
                f"InPlaceSecded.bits must be 5 to {WIDEST}, got {self.bits!r}; Secded has check bits of its own"
            )

    @cached_property
    def _code(self) -> Secded:
        """The code over the widest data that leaves room for its check bits."""
        codes = (Secded(data, 1) for data in range(self.bits - 1, 0, -1))
        return next(code for code in codes if code.stored_bits <= self.bits)

    @property
    def data_bits(self) -> int:
        """Bits of the widest value that can be stored, its sign included."""
        return self._code.bits

    @property
    def stored_bits(self) -> int:
        return self.bits

    @property
    def masked_bits(self) -> tuple[int, ...]:
        return tuple(range(self.bits))

    def encode(self, words: npt.ArrayLike) -> Words:
        """Plain words as stored words; FormatError for a value that needs more than `data_bits` bits."""
        plain = as_words("words", words, self.bits)
        data = extract(plain, self.bits, 0, self.data_bits)
        wide = np.flatnonzero((self._extended(data) != plain).reshape(-1))
        if len(wide):
            value = int(plain.reshape(-1)[wide[0]])
            raise FormatError(
                f"words must be values of at most {self.data_bits} bits under {self}, got "
                f"{value - (value >> (self.bits - 1) << self.bits)}: store those under Secded or Tmr"
            )
        beats = self._code.encode(data[..., None])
        spare = np.zeros((*plain.shape, self.bits - beats.shape[-1]), np.uint8)
        return from_bits(np.concatenate([beats, spare], axis=-1)).astype(plain.dtype)

    def decode(self, stored: npt.ArrayLike) -> Words:
        return self._extended(self._code.decode(self._beats(stored))[..., 0])

    def corrected(self, stored: npt.ArrayLike) -> Flags:
        return self._code.corrected(self._beats(stored))

    def detected(self, stored: npt.ArrayLike) -> Flags:
        return self._code.detected(self._beats(stored))

    def origin(self, stored_bit: int) -> tuple[int, int]:
        self._check_stored_bit(stored_bit)
        return (0, stored_bit) if stored_bit < self.data_bits else (CHECK, stored_bit - self.data_bits)

    def _beats(self, stored: npt.ArrayLike) -> npt.NDArray[np.uint8]:
        bits = to_bits(as_words("stored words", stored, self.bits), self.bits)
        return bits[..., : self._code.stored_bits]

    def _extended(self, data: Words) -> Words:
        """Values of `data_bits` bits as words of `bits` bits."""
        sign = extract(data, self.data_bits, self.data_bits - 1, 1)
        rest = self.bits - self.data_bits
        return join((data, self.data_bits), (np.where(sign == 1, (1 << rest) - 1, 0).astype(data.dtype), rest))
