# SPDX-License-Identifier: Apache-2.0
"""Inference on the board's side: AXI DMA in direct register (simple) mode, after PG021, through a `Backend`."""

from __future__ import annotations

import time

from bitward.errors import BitwardError, BoardError

from .backend import AddressError, Backend, Buffer

MM2S, S2MM = 0x00, 0x30  # offsets of the two channels' registers
CONTROL, STATUS, ADDRESS, ADDRESS_MSB, LENGTH = 0x00, 0x04, 0x18, 0x1C, 0x28
RUN, RESET = 1 << 0, 1 << 2  # of CONTROL
HALTED, IDLE = 1 << 0, 1 << 1  # of STATUS
ERRORS = {1 << 4: "internal error", 1 << 5: "slave error", 1 << 6: "decode error"}  # of STATUS
WRITE_1_TO_CLEAR = 1 << 12 | 1 << 14  # of STATUS: complete, error
MAX_LENGTH = (1 << 26) - 1
REGISTERS_BYTES = 0x5C  # up to the last one of simple mode
RESET_WITHIN_S = 1.0
POLL_S = 0.0002


class Transfers:
    """Streams through a DMA, with buffers that are kept from call to call while their sizes stay the same."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._buffers: dict[str, Buffer] = {}

    def infer(self, base: int, data: bytes, out_bytes: int, seconds: float) -> bytes:
        """The `out_bytes` that come back for `data` through the DMA at `base`.

        BoardError where that takes longer than `seconds`, the DMA reports an error, or another number of bytes comes;
        the DMA is reset then.
        """
        for what, size in (("sent", len(data)), ("received", out_bytes)):
            if not 0 < size <= MAX_LENGTH:
                raise BoardError(f"1 to {MAX_LENGTH} bytes must be {what} at a time, got {size}; send fewer images")
        if base % 4:
            raise AddressError(f"a DMA must lie at a multiple of 4, got 0x{base:x}; see the overlay's ip_dict")
        self._backend.check(base, REGISTERS_BYTES)
        try:
            return self._transfer(base, data, out_bytes, time.monotonic() + seconds)
        except BitwardError:
            self._reset(base)
            raise

    def forget(self) -> None:
        """The buffers are given back."""
        while self._buffers:
            self._buffers.popitem()[1].free()

    def _transfer(self, base: int, data: bytes, out_bytes: int, ends: float) -> bytes:
        source, sink = self._buffer("in", len(data)), self._buffer("out", out_bytes)
        source.write(0, data)
        source.flush()
        for channel, buffer in ((S2MM, sink), (MM2S, source)):  # the receiver first, so that no output waits
            self._start(base + channel, buffer)
        for channel in (MM2S, S2MM):
            self._finish(base + channel, ends)
        came = self._backend.read(base + S2MM + LENGTH)
        if came != out_bytes:
            raise BoardError(
                f"the accelerator must stream {out_bytes} bytes for {len(data)}, got {came}; do the overlay and its "
                "manifest belong together?"
            )
        sink.invalidate()
        return sink.read(0, out_bytes)

    def _start(self, channel: int, buffer: Buffer) -> None:
        write = self._backend.write
        write(channel + CONTROL, RUN)
        write(channel + STATUS, WRITE_1_TO_CLEAR)
        write(channel + ADDRESS, buffer.address & 0xFFFFFFFF)
        write(channel + ADDRESS_MSB, buffer.address >> 32)
        write(channel + LENGTH, buffer.size)

    def _finish(self, channel: int, ends: float) -> None:
        """The channel is idle again."""
        while True:
            status = self._backend.read(channel + STATUS)
            found = [text for bit, text in ERRORS.items() if status & bit]
            if found:
                raise BoardError(
                    f"the DMA must end without error, got {' and '.join(found)} (status 0x{status:08x}); load the "
                    "overlay again"
                )
            if status & IDLE:
                return
            if time.monotonic() > ends:
                raise BoardError(
                    f"the DMA must end in time, got one still busy (status 0x{status:08x}); load the overlay again"
                )
            time.sleep(POLL_S)

    def _reset(self, base: int) -> None:
        """Both channels are as after power-up; BoardError where the reset does not end."""
        self._backend.write(base + CONTROL, RESET)
        ends = time.monotonic() + RESET_WITHIN_S
        while self._backend.read(base + CONTROL) & RESET:
            if time.monotonic() > ends:
                raise BoardError(f"the DMA must end its reset within {RESET_WITHIN_S:g} s, got none; start the board")
            time.sleep(POLL_S)

    def _buffer(self, use: str, size: int) -> Buffer:
        kept = self._buffers.get(use)
        if kept is None or kept.size != size:
            if kept is not None:
                del self._buffers[use]
                kept.free()
            self._buffers[use] = self._backend.allocate(size)
        return self._buffers[use]
