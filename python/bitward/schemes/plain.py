# SPDX-License-Identifier: Apache-2.0
"""No protection."""

from __future__ import annotations

from dataclasses import dataclass

import numpy.typing as npt

from bitward.schemes.scheme import Flags, Scheme, no_flags
from bitward.words import Words, as_words, check_width


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
        return no_flags(self.decode(stored), self.bits)

    def detected(self, stored: npt.ArrayLike) -> Flags:
        return no_flags(self.decode(stored), self.bits)

    def origin(self, stored_bit: int) -> tuple[int, int]:
        self._check_stored_bit(stored_bit)
        return 0, stored_bit
