# SPDX-License-Identifier: Apache-2.0
"""Words: arrays of unsigned integers of a stated width, from 1 to 128 bits.

Up to 64 bits a word is the smallest numpy unsigned integer that holds it. From 65 to 128 bits it is two uint64 limbs,
least significant first, in one more axis of size 2 at the end. Wider words are refused. No other module may shift
words about: `extract` and `join` are the only places that know about limbs (a silent `<< 32` is a bug waiting).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bitward.errors import FormatError

if TYPE_CHECKING:
    Words = npt.NDArray[np.unsignedinteger[Any]]
else:
    Words = np.ndarray  # numpy 1.21, which Ubuntu 22.04 has, has no parameters for its integers

LIMB_BITS = 64
MAX_BITS = 128
SEGMENT_BITS = 32  # what one AXI-Lite access carries


def check_width(where: str, bits: int) -> None:
    """`bits` is a whole number from 1 to 128; FormatError names `where` otherwise."""
    if isinstance(bits, bool) or not isinstance(bits, (int, np.integer)) or not 1 <= bits <= MAX_BITS:
        raise FormatError(f"{where} must be 1 to {MAX_BITS} bits wide, got {bits!r}; split wider words over lanes")


def word_dtype(bits: int) -> np.dtype[Any]:
    """The numpy type of a word of `bits` bits (of one limb of it above 64 bits).

    >>> word_dtype(4), word_dtype(34)
    (dtype('uint8'), dtype('uint64'))
    """
    check_width("a word", bits)
    return next(np.dtype(f"u{size}") for size in (1, 2, 4, 8) if bits <= 8 * size or size == 8)


def word_shape(shape: tuple[int, ...], bits: int) -> tuple[int, ...]:
    """The array shape that holds `shape` words of `bits` bits: one more axis of 2 limbs above 64 bits."""
    check_width("a word", bits)
    return (*shape, 2) if bits > LIMB_BITS else shape


def as_words(where: str, values: npt.ArrayLike, bits: int) -> Words:
    """`values` as words of `bits` bits, checked: whole, not negative, no bit above the width (FormatError)."""
    array = np.asarray(values)
    dtype = word_dtype(bits)
    if array.dtype.kind not in "iu":
        raise FormatError(f"{where} must be unsigned integers, got {array.dtype}; encode values with a Format first")
    if bits > LIMB_BITS and (array.dtype != dtype or array.ndim == 0 or array.shape[-1] != 2):
        raise FormatError(
            f"{where} must be uint64 limbs of shape (..., 2) for {bits} bits, got {array.dtype} of shape "
            f"{array.shape}; use bitward.words.from_ints"
        )
    top = array[..., 1] if bits > LIMB_BITS else array
    top_bits = bits - LIMB_BITS if bits > LIMB_BITS else bits
    if top.size and (int(top.max()) >> top_bits or int(top.min()) < 0):
        worst = int(top.min()) if int(top.min()) < 0 else int(top.max())
        raise FormatError(f"{where} must be words of {bits} bits, got {worst}; mask them or widen the format")
    return array.astype(dtype, copy=False)


def from_ints(where: str, values: list[int], bits: int) -> Words:
    """Python integers of any size as words of `bits` bits, shape (n,) or (n, 2)."""
    check_width(where, bits)
    wrong = next((value for value in values if not 0 <= value < 1 << bits), None)
    if wrong is not None:
        raise FormatError(f"{where} must be words of {bits} bits, got {wrong}; mask them or widen the format")
    if bits <= LIMB_BITS:
        return np.array(values, dtype=word_dtype(bits))
    limbs = [[value & (1 << LIMB_BITS) - 1, value >> LIMB_BITS] for value in values]
    return np.array(limbs, dtype=np.uint64).reshape(len(values), 2)


def to_ints(words: Words, bits: int) -> list[int]:
    """Words, flattened, as Python integers: the inverse of `from_ints`."""
    if bits <= LIMB_BITS:
        return [int(word) for word in np.asarray(words).ravel()]
    return [int(low) | int(high) << LIMB_BITS for low, high in np.asarray(words).reshape(-1, 2)]


def all_words(bits: int) -> Words:
    """Every word of `bits` bits (at most 24), in order: what exhaustive tests run over."""
    check_width("all_words", bits)
    if bits > 24:
        raise FormatError(f"all_words must be given at most 24 bits, got {bits}; sample wider words instead")
    return np.arange(1 << bits, dtype=word_dtype(bits))


def extract(words: Words, bits: int, low: int, width: int) -> Words:
    """Bits `low` to `low + width - 1` of words of `bits` bits, as words of `width` bits (all 0 when `width` is 0)."""
    words = np.asarray(words)
    if bits <= LIMB_BITS:
        if width == 0:
            return np.zeros(words.shape, np.uint8)
        kind = words.dtype.type
        return ((words >> kind(low)) & kind((1 << width) - 1)).astype(word_dtype(width))
    shifted = _shift_right(words, low)
    if width > LIMB_BITS:
        return shifted & np.array([(1 << LIMB_BITS) - 1, (1 << (width - LIMB_BITS)) - 1], np.uint64)
    return extract(shifted[..., 0], LIMB_BITS, 0, width)


def join(*parts: tuple[Words, int]) -> Words:
    """One word from (words, width) parts, the first part in the lowest bits; parts of width 0 vanish."""
    bits = sum(width for _, width in parts)
    parts = tuple((np.asarray(words), width) for words, width in parts if width)
    if bits <= LIMB_BITS:
        kind = word_dtype(bits).type
        result, low = kind(0), 0
        for words, width in parts:
            result = result | words.astype(kind) << kind(low)
            low += width
        return np.asarray(result)
    wide, low = np.zeros(2, np.uint64), 0
    for words, width in parts:
        wide = wide | _shift_left(_limbs(words, width), low)
        low += width
    return wide


def flip(words: Words, bits: int, bit: int) -> Words:
    """The same words with bit `bit` (from 0) of each inverted."""
    if not 0 <= bit < bits:
        raise FormatError(f"bit must be 0 to {bits - 1}, got {bit}; the word has {bits} bits")
    mask = from_ints("a mask", [1 << bit], bits)[0]
    return np.asarray(words) ^ mask


def to_bits(words: Words, bits: int) -> npt.NDArray[np.uint8]:
    """Words of shape (...,) as bits 0 and 1 of shape (..., bits), least significant first."""
    words = np.asarray(words)
    little = words.astype(words.dtype.newbyteorder("<"))
    octets = np.ascontiguousarray(little if bits > LIMB_BITS else little[..., None]).view(np.uint8)
    return np.unpackbits(octets, axis=-1, count=bits, bitorder="little")


def from_bits(bits: npt.ArrayLike) -> Words:
    """Bits of shape (..., n), least significant first, as words of n bits: the inverse of `to_bits`."""
    array = np.asarray(bits, dtype=np.uint8)
    width = array.shape[-1]
    dtype = word_dtype(width)
    room = MAX_BITS if width > LIMB_BITS else 8 * dtype.itemsize
    padded = np.zeros((*array.shape[:-1], room), np.uint8)
    padded[..., :width] = array
    words = np.packbits(padded, axis=-1, bitorder="little").view(dtype.newbyteorder("<")).astype(dtype)
    return words if width > LIMB_BITS else words[..., 0]


def segments_of(beat: int, count: int) -> npt.NDArray[np.uint32]:
    """A beat (a row of a memory, a Python integer of any width) as `count` 32-bit segments, lowest first."""
    beat = int(beat)  # a numpy integer would overflow in what follows
    if not 0 <= beat < 1 << (SEGMENT_BITS * count):
        raise FormatError(f"a beat must be {count} segments of 32 bits, got {beat:#x}; check the memory's width")
    return np.frombuffer(beat.to_bytes(4 * count, "little"), dtype="<u4").astype(np.uint32)


def beat_of(segments: npt.ArrayLike) -> int:
    """The Python integer that 32-bit segments, lowest first, stand for: the inverse of `segments_of`."""
    return int.from_bytes(np.asarray(segments).astype("<u4").tobytes(), "little")


def _limbs(words: Words, bits: int) -> Words:
    """Words of any width as two limbs."""
    if bits > LIMB_BITS:
        return words
    return np.stack([words.astype(np.uint64), np.zeros(words.shape, np.uint64)], axis=-1)


def _shift_right(limbs: Words, count: int) -> Words:
    low, high = limbs[..., 0], limbs[..., 1]
    if count >= LIMB_BITS:
        return np.stack([high >> np.uint64(count - LIMB_BITS), np.zeros_like(high)], axis=-1)
    if count == 0:  # a shift by 64 is undefined
        return limbs
    return np.stack([low >> np.uint64(count) | high << np.uint64(LIMB_BITS - count), high >> np.uint64(count)], axis=-1)


def _shift_left(limbs: Words, count: int) -> Words:
    low, high = limbs[..., 0], limbs[..., 1]
    if count >= LIMB_BITS:
        return np.stack([np.zeros_like(low), low << np.uint64(count - LIMB_BITS)], axis=-1)
    if count == 0:
        return limbs
    return np.stack([low << np.uint64(count), high << np.uint64(count) | low >> np.uint64(LIMB_BITS - count)], axis=-1)
