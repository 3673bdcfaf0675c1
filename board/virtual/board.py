# SPDX-License-Identifier: Apache-2.0
"""The virtual KV260 as a `Backend`: an address map, and the PL that one overlay fills."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from bitward_runtime.backend import AddressError, Registers
from bitward_runtime.files import MANAGER

from bitward.errors import BoardError
from bitward.hardware.overlay import Overlay, memory_bits, read_overlay

from .accelerator import Accelerator
from .dma import AxiDma
from .memory import CLOCK_BLOCK_BYTES, CRL_BASE, Ddr, DdrBuffer, DdrWords, RegisterBlock, clock_registers, pl0_mhz

log = logging.getLogger(__name__)

NAME = "KV260 (virtual, bitward)"
CLOCK_TOLERANCE = 1.001  # the crystal is named 33.333 MHz, or 33.3333: dividers decide, not its digits
DDR_BASE, DDR_BYTES = 0x6000_0000, 512 << 20  # for DMA buffers; a board's CMA region is of this order


@dataclass(frozen=True)
class Region:
    """Addresses [base, base + size) and what answers there."""

    base: int
    size: int
    device: Registers


class AxiLite:
    """The accelerator's AXI-Lite port."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.read = accelerator.axil_read
        self.write = accelerator.axil_write


class VirtualBoard:
    """A board that takes one overlay, the one it emulates; `accelerator` makes one freshly configured at each load."""

    def __init__(self, overlay: Overlay, accelerator: Callable[[], Accelerator]) -> None:
        self.name = NAME
        self.simulated = True
        self._overlay = overlay
        self._accelerator = accelerator
        self._ddr = Ddr(DDR_BASE, DDR_BYTES)
        self._clocks = clock_registers()
        self._ps = tuple(Region(base, CLOCK_BLOCK_BYTES, block) for base, block in self._clocks.items())
        self._pl: tuple[Region, ...] = ()
        self._loaded: Accelerator | None = None

    def check(self, address: int, size: int) -> None:
        """Raise AddressError unless [address, address + size) lies in one region or buffer."""
        self.span(address, size)

    def span(self, address: int, size: int) -> tuple[Registers, int]:
        """What answers there, and the offset of `address` in it; AddressError as `check`."""
        for region in (*self._ps, *self._pl):
            if region.base <= address and address + size <= region.base + region.size:
                return region.device, address - region.base
        try:
            return DdrWords(self._ddr.view(address, size)), 0
        except AddressError as error:
            raise self._unmapped(address, size) from error

    def read(self, address: int) -> int:
        """The 32-bit word at an aligned address."""
        device, offset = self.span(address, 4)
        return device.read(offset)

    def write(self, address: int, data: int) -> None:
        """32 bits are written to an aligned address."""
        device, offset = self.span(address, 4)
        device.write(offset, data)

    def allocate(self, size: int) -> DdrBuffer:
        """A zeroed DDR buffer."""
        return self._ddr.allocate(size)

    def program(self, name: str, bitstream: bytes, handoff: bytes = b"") -> None:
        """The emulated overlay is loaded, its memories as built; BoardError for any other content.

        Its address map is in the bitstream itself: a handoff is not needed here, nor looked at.
        """
        words = np.frombuffer(bitstream[: len(bitstream) // 4 * 4], dtype="<u4")
        offered = read_overlay(words.byteswap().tobytes())
        if offered != self._overlay:
            raise BoardError(
                f"this virtual board emulates the overlay of build {self._overlay.content_sha256[:12]} "
                f"({self._overlay.name}), got {name} of build {offered.content_sha256[:12]} ({offered.name}); "
                "start `bitward emulate` with that build's folder"
            )
        self.close()
        self._loaded = accelerator = self._accelerator()
        accelerator.reset()
        in_bytes, out_bytes = (memory_bits(bits) // 8 for bits in (offered.in_stream_bits, offered.out_stream_bits))
        dma = AxiDma(self._ddr, accelerator, in_bytes, out_bytes, self._require_clock)
        gpio = RegisterBlock("axi_gpio", {0x0: 0, 0x4: 0})  # data, all outputs
        self._pl = (
            Region(offered.accelerator.base, offered.accelerator.size, AxiLite(accelerator)),
            Region(offered.dma.base, offered.dma.size, dma),
            Region(offered.gpio.base, offered.gpio.size, gpio),
        )
        log.info("%s: %s loaded", self.name, name)

    def close(self) -> None:
        """No overlay is loaded any more. No call may be running."""
        self._pl = ()
        if self._loaded is not None:
            self._loaded.close()
            self._loaded = None

    def read_file(self, path: str) -> bytes:
        """What the client asks of Linux; names say that nothing here is real, and there is no sensor."""
        known = {
            "/proc/version": b"Linux version 0-bitward-virtual (no kernel: a simulated aarch64 board)\n",
            "/proc/device-tree/chosen/pynq_board": self.name.encode() + b"\0",
            f"{MANAGER}/state": b"operating\n" if self._pl else b"unknown\n",
            f"{MANAGER}/flags": b"0\n",
        }
        if path not in known:
            raise BoardError(f"{path} must be there to be read, got a simulated board, which has none: not measured")
        return known[path]

    def _require_clock(self) -> None:
        """BoardError where PL clock 0 is off, or faster than the overlay was made for; slower ones are as good.

        Simulated cycles take no time, so the clock decides nothing else here.
        """
        clk_mhz = pl0_mhz(self._clocks[CRL_BASE])
        most = self._overlay.clk_mhz
        if not 0 < clk_mhz <= most * CLOCK_TOLERANCE:
            raise BoardError(
                f"PL clock 0 must run at up to {most:g} MHz, for which the overlay was made, got {clk_mhz:g} MHz; set "
                "it back, or build for a faster clock"
            )

    def _unmapped(self, address: int, size: int) -> AddressError:
        hint = "" if self._pl else " (no overlay is loaded)"
        return AddressError(
            f"an address must be mapped on {self.name}{hint}, got {size} bytes at 0x{address:x}; "
            "see the overlay's ip_dict for what is there"
        )
