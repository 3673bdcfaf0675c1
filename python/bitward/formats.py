# SPDX-License-Identifier: Apache-2.0
"""Formats: values to plain words and back.

`encode` rounds half to even. Integer and fixed-point formats saturate at their range, as quantizers in Brevitas, ONNX
and hardware do, and refuse what is not finite. Floating-point formats overflow to infinity, as IEEE 754 and torch do.
NaN is always refused: a parameter is a number. `decode` takes every word, as an upset may make any of them; a float
word may then well be NaN or infinite. A new format is one class here.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from bitward.errors import FormatError
from bitward.records import Kind
from bitward.words import Words, as_words, word_dtype

if TYPE_CHECKING:
    Values = npt.NDArray[np.floating[Any]]
else:
    Values = np.ndarray  # numpy 1.21 has no parameters for its floats

Beyond = Literal["keep", "clamp", "apart", "apart_tmr"]
"""What becomes of values beyond a format's bounds: stored as the format has them, at the bound, or in a list (in full
triplicate)."""
MAX_INTEGER_BITS = 48  # values are float64: above 51 bits decode(encode(x)) would no longer be exact


class Format(Kind):
    """How values become plain words of `bits` bits. Words and values have the same shape."""

    refusal = FormatError
    bits: int
    exponent_msb: ClassVar[int | None] = None  # of a floating-point word; 0 in it for all values within (-2, 2)

    @property
    @abstractmethod
    def bounds(self) -> tuple[float, float]:
        """The least and the largest value whose upsets stay small: all there are, in floating point within (-2, 2).

        From 2 on the exponent's most significant bit is 1, and upsets of the others may make 2^128 of a weight.
        """

    @abstractmethod
    def encode(self, values: npt.ArrayLike) -> Words:
        """The words of the nearest values that the format has; FormatError on NaN."""

    @abstractmethod
    def decode(self, words: npt.ArrayLike) -> Values:
        """The values of words: float32 for floating-point formats, float64 for integers and fixed point."""


def _numbers(where: str, values: npt.ArrayLike) -> npt.NDArray[Any]:
    array = np.asarray(values)
    if array.dtype.kind not in "iuf":
        raise FormatError(f"{where} values must be real numbers, got {array.dtype}; convert them first")
    if np.isnan(array).any():
        raise FormatError(f"{where} values must be numbers, got NaN; look for a diverged training")
    return array


@dataclass(frozen=True)
class Float32(Format, kind="float32"):
    """IEEE 754 single precision."""

    bits = 32
    exponent_msb = 30
    bounds = (-2 + 2.0**-23, 2 - 2.0**-23)

    def encode(self, values: npt.ArrayLike) -> Words:
        with np.errstate(over="ignore"):  # overflow to infinity is the documented result
            return _numbers("Float32", values).astype(np.float32).view(np.uint32)

    def decode(self, words: npt.ArrayLike) -> Values:
        return as_words("Float32 words", words, 32).view(np.float32)


@dataclass(frozen=True)
class Float16(Format, kind="float16"):
    """IEEE 754 half precision."""

    bits = 16
    exponent_msb = 14
    bounds = (-2 + 2.0**-10, 2 - 2.0**-10)

    def encode(self, values: npt.ArrayLike) -> Words:
        with np.errstate(over="ignore"):
            return _numbers("Float16", values).astype(np.float16).view(np.uint16)

    def decode(self, words: npt.ArrayLike) -> Values:
        return as_words("Float16 words", words, 16).view(np.float16).astype(np.float32)


@dataclass(frozen=True)
class BFloat16(Format, kind="bfloat16"):
    """The top half of IEEE 754 single precision. float64 values are rounded to float32 first, as torch does."""

    bits = 16
    exponent_msb = 14
    bounds = (-2 + 2.0**-7, 2 - 2.0**-7)

    def encode(self, values: npt.ArrayLike) -> Words:
        single = Float32().encode(_numbers("BFloat16", values)).astype(np.uint64)
        half_to_even = np.uint64(0x7FFF) + (single >> np.uint64(16) & np.uint64(1))
        return np.asarray((single + half_to_even) >> np.uint64(16)).astype(np.uint16)

    def decode(self, words: npt.ArrayLike) -> Values:
        wide = as_words("BFloat16 words", words, 16).astype(np.uint32)
        return np.asarray(wide << np.uint32(16)).view(np.float32)


class _Short(Format):
    """Floating point within (-2, 2), where the most significant bit of exponents is 0, and is not stored.

    Values beyond are stored as the nearest bound. No upset can then make a value of 2 or more.
    """

    whole: ClassVar[Format]

    def encode(self, values: npt.ArrayLike) -> Words:
        words = self.whole.encode(_numbers(type(self).__name__, values).clip(*self.bounds))
        return np.asarray(words & self._low | (words & ~self._low) >> words.dtype.type(1))

    def decode(self, words: npt.ArrayLike) -> Values:
        short = as_words(f"{type(self).__name__} words", words, self.bits)
        return self.whole.decode(short & self._low | (short & ~self._low) << short.dtype.type(1))

    @property
    def _low(self) -> Any:
        """The bits below the one that is left out."""
        return word_dtype(self.bits).type((1 << self.bits - 1) - 1)


@dataclass(frozen=True)
class ShortFloat32(_Short, kind="short_float32"):
    """Single precision within (-2, 2): 31 bits."""

    bits = 31
    whole = Float32()
    bounds = Float32.bounds


@dataclass(frozen=True)
class ShortFloat16(_Short, kind="short_float16"):
    """Half precision within (-2, 2): 15 bits."""

    bits = 15
    whole = Float16()
    bounds = Float16.bounds


@dataclass(frozen=True)
class ShortBFloat16(_Short, kind="short_bfloat16"):
    """bfloat16 within (-2, 2): 15 bits."""

    bits = 15
    whole = BFloat16()
    bounds = BFloat16.bounds


class _Integer(Format):
    """An integer q of `bits` bits that stands for (q - zero) * step; the low `bits` bits of q are the word."""

    @property
    @abstractmethod
    def lowest(self) -> int:
        """The least integer."""

    @property
    @abstractmethod
    def step(self) -> float:
        """The distance between two neighbouring values."""

    @property
    def highest(self) -> int:
        """The greatest integer."""
        return self.lowest + (1 << self.bits) - 1

    @property
    def zero(self) -> int:
        """The integer that stands for 0."""
        return 0

    @property
    def bounds(self) -> tuple[float, float]:
        return (self.lowest - self.zero) * self.step, (self.highest - self.zero) * self.step

    def encode(self, values: npt.ArrayLike) -> Words:
        kind = type(self).__name__
        array = _numbers(kind, values).astype(np.float64)
        if not np.isfinite(array).all():
            raise FormatError(f"{kind} values must be finite, got an infinity; look for a diverged training")
        with np.errstate(over="ignore"):  # a tiny step may overflow the quotient: it saturates all the same
            whole = np.clip(np.rint(array / self.step) + self.zero, self.lowest, self.highest)
        mask = np.int64((1 << self.bits) - 1)
        return np.asarray(whole.astype(np.int64) & mask).astype(word_dtype(self.bits))

    def decode(self, words: npt.ArrayLike) -> Values:
        raw = as_words(f"{type(self).__name__} words", words, self.bits).astype(np.int64)
        whole = np.where(raw > self.highest, raw - (1 << self.bits), raw)
        return np.asarray((whole - self.zero) * self.step, dtype=np.float64)

    def _check(self) -> None:
        kind, bits = type(self).__name__, self.bits
        if isinstance(bits, bool) or not isinstance(bits, (int, np.integer)) or not 1 <= bits <= MAX_INTEGER_BITS:
            raise FormatError(f"{kind}.bits must be 1 to {MAX_INTEGER_BITS}, got {bits!r}; split wider parameters")


def _check_scale(kind: str, scale: float) -> None:
    if not (math.isfinite(scale) and scale > 0):
        raise FormatError(f"{kind}.scale must be finite and above 0, got {scale!r}; fold signs into the weights")


@dataclass(frozen=True)
class Fixed(_Integer, kind="fixed"):
    """Two's complement fixed point: `bits` bits in all, `frac_bits` of them behind the point.

    >>> Fixed(8, 6).decode([0x80, 0x7F]).tolist()
    [-2.0, 1.984375]
    """

    bits: int
    frac_bits: int

    def __post_init__(self) -> None:
        self._check()
        if isinstance(self.frac_bits, bool) or not isinstance(self.frac_bits, int) or abs(self.frac_bits) > 256:
            raise FormatError(f"Fixed.frac_bits must be -256 to 256, got {self.frac_bits!r}; it is a power of two")

    @property
    def lowest(self) -> int:
        return -(1 << (self.bits - 1))

    @property
    def step(self) -> float:
        return math.ldexp(1.0, -self.frac_bits)


Q2_5 = Fixed(8, 6)
"""The weight-scaling paper's "Q2.5" by its range, -2 to 1.984375: two integer bits, the sign among them, six behind."""
Q2_5_AS_WRITTEN = Fixed(8, 5)
"""The same by its words, "1-bit sign, 2-bit integer, and 5-bit fraction": -4 to 3.96875."""


@dataclass(frozen=True)
class Int(_Integer, kind="int"):
    """Two's complement integers times `scale`.

    >>> Int(4).encode([-9, -8, 7, 8]).tolist()
    [8, 8, 7, 7]
    """

    bits: int
    scale: float = 1.0

    def __post_init__(self) -> None:
        self._check()
        _check_scale("Int", self.scale)

    @property
    def lowest(self) -> int:
        return -(1 << (self.bits - 1))

    @property
    def step(self) -> float:
        return self.scale


@dataclass(frozen=True)
class UInt(_Integer, kind="uint"):
    """Affine unsigned integers: the word q stands for (q - zero_point) * scale."""

    bits: int
    scale: float = 1.0
    zero_point: int = 0

    def __post_init__(self) -> None:
        self._check()
        _check_scale("UInt", self.scale)
        if not 0 <= self.zero_point <= self.highest:
            raise FormatError(f"UInt.zero_point must be 0 to {self.highest}, got {self.zero_point!r}; it is a word")

    @property
    def lowest(self) -> int:
        return 0

    @property
    def step(self) -> float:
        return self.scale

    @property
    def zero(self) -> int:
        return self.zero_point


def format_from_dict(data: Any, where: str = "format") -> Format:
    """The format that `to_dict` wrote, e.g. `{"name": "int", "bits": 4, "scale": 1.0}`; FormatError otherwise."""
    return Format.from_dict(data, where)
