# SPDX-License-Identifier: Apache-2.0
"""The registers of AXI DMA 7.1 in direct register (simple) mode, after the product guide PG021.

A transfer starts when both LENGTH registers were written, in either order, and has ended when the second write returns:
the accelerator is simulated meanwhile. Interrupts set their status bits; no line is there to pull. What PG021 leaves
undefined (an address that is not aligned where there is no realignment engine, a LENGTH written while the channel is
busy) is refused in a sentence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bitward_runtime.backend import AddressError

from bitward.errors import BitwardError, BoardError

from .accelerator import Accelerator
from .memory import Ddr

MM2S, S2MM = 0x00, 0x30  # offsets of the two channels' registers
DMACR, DMASR, ADDRESS, ADDRESS_MSB, LENGTH = 0x00, 0x04, 0x18, 0x1C, 0x28  # of a register in its channel
RUN, ALWAYS_SET, RESET = 1 << 0, 1 << 1, 1 << 2  # DMACR
KEPT_CONTROL = RUN | 1 << 12 | 1 << 14  # run/stop and the two interrupt enables that direct mode has
HALTED, IDLE, INTERNAL_ERROR, DECODE_ERROR = 1 << 0, 1 << 1, 1 << 4, 1 << 6  # DMASR
COMPLETE_IRQ, ERROR_IRQ = 1 << 12, 1 << 14  # DMASR, cleared by writing 1
LENGTH_MASK = (1 << 26) - 1


@dataclass
class Channel:
    """One direction's registers."""

    control: int = 0
    status: int = HALTED
    address: int = 0
    length: int = 0
    waiting: bool = False  # LENGTH was written, the transfer has not ended

    @property
    def running(self) -> bool:
        """Whether transfers are accepted."""
        return not self.status & HALTED

    def finish(self, transferred: int) -> None:
        """The transfer of `transferred` bytes is complete."""
        self.waiting = False
        self.length = transferred
        self.status |= IDLE | COMPLETE_IRQ

    def fail(self, error: int) -> None:
        """The channel halted with an error bit; only a reset lets it run again."""
        self.waiting = False
        self.control &= ~RUN
        self.status = (self.status & ~IDLE) | HALTED | error | ERROR_IRQ


class AxiDma:
    """Two channels between DDR and the accelerator's streams.

    `in_bytes` and `out_bytes` are the widths of the two memory ports: addresses must be their multiples, as there is no
    data realignment engine. `ready` raises a BoardError where the accelerator cannot run now.
    """

    def __init__(
        self,
        ddr: Ddr,
        accelerator: Accelerator,
        in_bytes: int = 4,
        out_bytes: int = 4,
        ready: Callable[[], None] = lambda: None,
    ) -> None:
        self._ddr = ddr
        self._accelerator = accelerator
        self._aligned = {MM2S: in_bytes, S2MM: out_bytes}
        self._ready = ready
        self._reset()

    def read(self, offset: int) -> int:
        """The register at byte `offset`; AddressError where simple mode has none."""
        channel, register = self._register(offset)
        if register == DMACR:
            return channel.control | ALWAYS_SET
        if register == DMASR:
            return channel.status
        if register == LENGTH:
            return channel.length
        return channel.address >> (32 if register == ADDRESS_MSB else 0) & 0xFFFFFFFF

    def write(self, offset: int, data: int) -> None:
        """`data` is written to the register at byte `offset`; a LENGTH may start a transfer."""
        channel, register = self._register(offset)
        if register == DMACR:
            self._control(channel, data)
        elif register == DMASR:
            channel.status &= ~(data & (COMPLETE_IRQ | ERROR_IRQ))
        elif register == ADDRESS:
            channel.address = channel.address >> 32 << 32 | data
        elif register == ADDRESS_MSB:
            channel.address = (channel.address & 0xFFFFFFFF) | data << 32
        elif channel.running and data & LENGTH_MASK:  # halted, or zero bytes: no effect
            self._require_startable(channel)
            channel.length = data & LENGTH_MASK
            channel.status &= ~IDLE
            channel.waiting = True
            self._transfer()

    def _reset(self) -> None:
        self._send, self._receive = Channel(), Channel()

    def _control(self, channel: Channel, data: int) -> None:
        if data & RESET:  # of either channel: both are reset
            self._reset()
            return
        channel.control = data & KEPT_CONTROL
        if not data & RUN:
            channel.waiting = False
            channel.status = (channel.status & ~IDLE) | HALTED
        elif not channel.status & (INTERNAL_ERROR | DECODE_ERROR):
            channel.status &= ~HALTED

    def _require_startable(self, channel: Channel) -> None:
        """BoardError where hardware would do something undefined."""
        if channel.waiting:
            raise BoardError(
                f"a DMA channel must be idle before its LENGTH is written, got one that waits for {channel.length} "
                "bytes; reset it first"
            )
        aligned = self._aligned[MM2S if channel is self._send else S2MM]
        if channel.address % aligned:
            raise BoardError(
                f"a DMA address must be a multiple of {aligned} bytes, as the DMA has no realignment engine, got "
                f"0x{channel.address:x}; allocate a buffer of its own"
            )

    def _transfer(self) -> None:
        """Where both channels wait: stream, and store the output; an address outside all buffers is a decode error."""
        send, receive = self._send, self._receive
        if not (send.waiting and receive.waiting):
            return
        views = []
        for channel in (send, receive):
            try:
                views.append(self._ddr.view(channel.address, channel.length))
            except AddressError:
                channel.fail(DECODE_ERROR)
                return
        try:
            self._ready()
            output = self._accelerator.stream(bytes(views[0]), receive.length)
        except BitwardError:
            self._reset()  # real DMA would wait for ever; the caller is told instead
            raise
        send.finish(send.length)
        if len(output) > receive.length:
            receive.fail(INTERNAL_ERROR)  # a packet longer than LENGTH
            return
        views[1][: len(output)] = output
        receive.finish(len(output))

    def _register(self, offset: int) -> tuple[Channel, int]:
        base = S2MM if offset >= S2MM else MM2S
        if offset - base not in (DMACR, DMASR, ADDRESS, ADDRESS_MSB, LENGTH):
            raise AddressError(
                f"a register of the DMA must be one of simple mode, got offset {offset:#x}; "
                "scatter-gather is not in this design"
            )
        return (self._receive if base else self._send), offset - base
