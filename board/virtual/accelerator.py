# SPDX-License-Identifier: Apache-2.0
"""What the virtual board asks of an accelerator: its two ports, AXI-Lite and AXI-Stream in and out."""

from __future__ import annotations

from typing import Protocol


class Accelerator(Protocol):
    """An accelerator fresh from configuration: memories as the bitstream initialises them.

    Failures (a stream that deadlocks, an address outside its map) are BitwardErrors with a whole sentence.
    """

    def axil_read(self, addr: int) -> int:
        """The 32-bit word at byte `addr` of the AXI-Lite window."""

    def axil_write(self, addr: int, data: int) -> None:
        """32 bits are written to byte `addr` of the AXI-Lite window."""

    def stream(self, beats_in: bytes, out_bytes: int) -> bytes:
        """The output for `beats_in` (packed beats), up to TLAST or `out_bytes`, whichever is first."""

    def reset(self) -> None:
        """The reset pin was pulsed; memories keep their content."""

    def close(self) -> None:
        """It is gone, and will not be used again."""
