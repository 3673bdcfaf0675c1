# SPDX-License-Identifier: Apache-2.0
"""Addresses of memory rows on AXI-Lite, as finn-rtllib's `axilite.sv` decodes them."""

from __future__ import annotations

from bitward.words import SEGMENT_BITS


def clog2(number: int) -> int:
    """Bits of an index below `number`.

    >>> clog2(1), clog2(8), clog2(9)
    (0, 3, 4)
    """
    return (number - 1).bit_length()


def row_stride(width: int) -> int:
    """Bytes between two rows of `width` bits: segments rounded up to a power of two.

    >>> row_stride(32), row_stride(33), row_stride(65)
    (4, 8, 16)
    """
    return 4 * 2 ** clog2(-(-width // SEGMENT_BITS))


def address_bits(depth: int, width: int) -> int:
    """Width of the address of a memory of `depth` rows of `width` bits."""
    return clog2(depth * row_stride(width))
