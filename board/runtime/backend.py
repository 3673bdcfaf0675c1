# SPDX-License-Identifier: Apache-2.0
"""What the server asks of a board: 32-bit words at physical addresses, DMA buffers, programming, a few system files.

`bitward_virtual.VirtualBoard` is one; `kria.KriaBoard`, over a KV260's local pynq 3.0.1, is another. Failures are
BoardError with a whole sentence; the server passes it to the client as it is.
"""

from __future__ import annotations

from typing import Protocol

from bitward.errors import BoardError


class AddressError(BoardError):
    """No register, window or buffer of the board lies at an address."""


class Registers(Protocol):
    """32-bit words at byte offsets, of a window or a buffer."""

    def read(self, offset: int) -> int:
        """The word at a byte offset."""

    def write(self, offset: int, data: int) -> None:
        """32 bits are written to a byte offset."""


class Buffer(Protocol):
    """Contiguous DDR memory that the client copies to and from, and that DMA can reach."""

    address: int  # physical, in bytes
    size: int  # bytes

    def read(self, start: int, size: int) -> bytes:
        """The `size` bytes from byte `start`, both inside the buffer."""

    def write(self, start: int, data: bytes) -> None:
        """`data` lies in the buffer from byte `start` on, all of it inside."""

    def flush(self) -> None:
        """What was written is in memory, where DMA sees it."""

    def invalidate(self) -> None:
        """The next read sees what DMA wrote."""

    def free(self) -> None:
        """The memory is given back; the buffer is not used again."""


class Backend(Protocol):
    """A board, real or virtual, as the server sees it. Calls do not overlap, but for `read_file`."""

    name: str  # for people: logs and messages
    simulated: bool  # whether no hardware is there

    def check(self, address: int, size: int) -> None:
        """Raise AddressError unless all of [address, address + size) is mapped."""

    def span(self, address: int, size: int) -> tuple[Registers, int]:
        """What answers at [address, address + size), and the offset of `address` in it; AddressError as `check`.

        For many words at once; good until the next call of another method than the registers' own.
        """

    def read(self, address: int) -> int:
        """The 32-bit word at an aligned physical address."""

    def write(self, address: int, data: int) -> None:
        """`data`, 32 bits, is written to an aligned physical address."""

    def allocate(self, size: int) -> Buffer:
        """A buffer of `size` bytes, all zero."""

    def program(self, name: str, bitstream: bytes, handoff: bytes = b"") -> None:
        """The PL holds `bitstream`: the words of a .bit's body, byte-swapped as the FPGA manager takes them.

        `handoff` is the .hwh that belongs to it, empty where the client sent none (the stock one cannot).
        """

    def read_file(self, path: str) -> bytes:
        """The content of one of the system files that `bitward_runtime.files` allows; BoardError where it is none.

        May be called while another call runs: sensors are read while the board works.
        """
