# SPDX-License-Identifier: Apache-2.0
"""Bitstreams: the body of a .bit file, and its words as the FPGA manager takes them."""

from __future__ import annotations

import struct

import numpy as np

from bitward.errors import BoardError


def bit_body(bit: bytes) -> bytes:
    """The configuration data of a `.bit` file, after its header; BoardError where the header or its length is wrong."""
    try:
        at = 2 + struct.unpack_from(">H", bit, 0)[0] + 2
        while bit[at] != ord("e"):
            if bit[at] not in b"abcd":
                raise BoardError(f"a .bit header must hold fields a to e, got {bit[at : at + 1]!r}; build it again")
            at += 3 + struct.unpack_from(">H", bit, at + 1)[0]
        length = struct.unpack_from(">I", bit, at + 1)[0]
    except (struct.error, IndexError) as error:
        raise BoardError(f"a .bit file must have a whole header, got {len(bit)} bytes; build it again") from error
    body = bit[at + 5 :]
    if len(body) != length:
        raise BoardError(f"a .bit file must hold the {length} bytes it announces, got {len(body)}; build it again")
    return body


def firmware_of(bit: bytes) -> bytes:
    """The body's words, byte-swapped; BoardError as `bit_body`."""
    body = bit_body(bit)
    return np.frombuffer(body[: len(body) // 4 * 4], dtype="<u4").byteswap().tobytes()
