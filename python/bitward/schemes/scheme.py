# SPDX-License-Identifier: Apache-2.0
"""What a scheme is: plain words to stored words and back."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bitward.errors import FormatError
from bitward.records import Kind
from bitward.words import Words, from_bits, to_bits

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


def no_flags(words: Words, bits: int) -> Flags:
    """False for each word of `bits` bits."""
    return np.zeros(words.shape[:-1] if bits > 64 else words.shape, dtype=bool)
