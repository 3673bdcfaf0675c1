# SPDX-License-Identifier: Apache-2.0
"""The virtual KV260 as a `Backend`: an address map, and the PL that one overlay fills."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from bitward_runtime.backend import AddressError
from bitward_runtime.files import MANAGER

from bitward.errors import BoardError
from bitward.hardware.overlay import Overlay, read_overlay

from .accelerator import Accelerator
from .dma import AxiDma
from .memory import CLOCK_BLOCK_BYTES, Ddr, DdrBuffer, Registers, clock_registers

log = logging.getLogger(__name__)

NAME = "KV260 (virtual, bitward)"
DDR_BASE, DDR_BYTES = 0x6000_0000, 512 << 20  # for DMA buffers; a board's CMA region is of this order


class Device(Protocol):
    """Something with registers at byte offsets."""

    def read(self, offset: int) -> int:
        """The 32-bit word at a byte offset."""

    def write(self, offset: int, data: int) -> None:
        """32 bits are written to a byte offset."""


@dataclass(frozen=True)
class Region:
    """Addresses [base, base + size) and what answers there."""

    base: int
    size: int
    device: Device


class AxiLite:
    """The accelerator's AXI-Lite port as a Device."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.read = accelerator.axil_read
        self.write = accelerator.axil_write


class VirtualBoard:
    """A board that takes one overlay, the one it emulates; `accelerator` makes one freshly configured at each load."""

    def __init__(self, overlay: Overlay, accelerator: Callable[[], Accelerator]) -> None:
        self.name = NAME
        self._overlay = overlay
        self._accelerator = accelerator
        self._ddr = Ddr(DDR_BASE, DDR_BYTES)
        self._ps = tuple(Region(base, CLOCK_BLOCK_BYTES, block) for base, block in clock_registers().items())
        self._pl: tuple[Region, ...] = ()
        self._loaded: Accelerator | None = None

    def check(self, address: int, size: int) -> None:
        """Raise AddressError unless [address, address + size) lies in one region or buffer."""
        for region in (*self._ps, *self._pl):
            if region.base <= address and address + size <= region.base + region.size:
                return
        try:
            self._ddr.view(address, size)
        except AddressError as error:
            raise self._unmapped(address, size) from error

    def read(self, address: int) -> int:
        """The 32-bit word at an aligned address."""
        region = self._region(address)
        if region is None:
            return int.from_bytes(self._ddr.view(address, 4), "little")
        return region.device.read(address - region.base)

    def write(self, address: int, data: int) -> None:
        """32 bits are written to an aligned address."""
        region = self._region(address)
        if region is None:
            self._ddr.view(address, 4)[:] = data.to_bytes(4, "little")
        else:
            region.device.write(address - region.base, data)

    def allocate(self, size: int) -> DdrBuffer:
        """A zeroed DDR buffer."""
        return self._ddr.allocate(size)

    def program(self, name: str, bitstream: bytes) -> None:
        """The emulated overlay is loaded, its memories as built; BoardError for any other content."""
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
        dma = AxiDma(self._ddr, accelerator)
        self._pl = (
            Region(offered.accelerator.base, offered.accelerator.size, AxiLite(accelerator)),
            Region(offered.dma.base, offered.dma.size, dma),
            Region(offered.gpio.base, offered.gpio.size, Registers("axi_gpio", {0x0: 0, 0x4: 0})),  # data, all outputs
        )
        log.info("%s: %s loaded", self.name, name)

    def close(self) -> None:
        """No overlay is loaded any more. No call may be running."""
        self._pl = ()
        if self._loaded is not None:
            self._loaded.close()
            self._loaded = None

    def read_file(self, path: str) -> bytes:
        """What the client asks of Linux; names say that nothing here is real."""
        return {
            "/proc/version": b"Linux version 0-bitward-virtual (no kernel: a simulated aarch64 board)\n",
            "/proc/device-tree/chosen/pynq_board": self.name.encode() + b"\0",
            f"{MANAGER}/state": b"operating\n" if self._pl else b"unknown\n",
            f"{MANAGER}/flags": b"0\n",
        }[path]

    def _region(self, address: int) -> Region | None:
        """The region at an address; None where a buffer lies there."""
        self.check(address, 4)
        for region in (*self._ps, *self._pl):
            if region.base <= address < region.base + region.size:
                return region
        return None

    def _unmapped(self, address: int, size: int) -> AddressError:
        hint = "" if self._pl else " (no overlay is loaded)"
        return AddressError(
            f"an address must be mapped on {self.name}{hint}, got {size} bytes at 0x{address:x}; "
            "see the overlay's ip_dict for what is there"
        )
