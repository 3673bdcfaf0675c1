# SPDX-License-Identifier: Apache-2.0
"""A package that answers as pynq 3.0.1 does on a KV260, over a machine in Python: nothing in it is hardware.

Names, arguments, defaults and exceptions are those of pynq 3.0.1 (mmio.py, buffer.py, overlay.py). What would
end the process on a board (an access that nothing answers: SIGBUS) is `BusError`, which nobody may catch. Buffers have
a cache: what is not flushed does not reach the DMA, and what is not invalidated is not seen.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import numpy as np
from bitward_runtime.backend import AddressError
from bitward_virtual.dma import AxiDma
from bitward_virtual.memory import CRL_BASE, Ddr, RegisterBlock, clock_registers

from bitward.errors import BoardError
from bitward.hardware.overlay import memory_bits, read_overlay

PAGE = 4096
DDR_BASE, DDR_BYTES = 0x4000_0000, 64 << 20
STATE = "/sys/class/fpga_manager/fpga0/state"


class BusError(BaseException):
    """SIGBUS: on a board, the end of the process."""


class Machine:
    """The board beneath: PS clock registers, DDR, and the PL that a bitstream of this repository's describes."""

    def __init__(self, accelerator: Any, is_root: bool = True) -> None:
        self.is_root = is_root
        self.accelerator = accelerator
        self.ddr = Ddr(DDR_BASE, DDR_BYTES)
        self.clocks = clock_registers()
        self.pl: dict[tuple[int, int], Any] = {}
        self.loaded = 0
        self.fails_to_load = ""
        self.files = {
            "/proc/version": b"Linux version 5.15.0-1020-xilinx-zynqmp (aarch64)\n",
            STATE: b"unknown\n",
            "/sys/class/fpga_manager/fpga0/flags": b"0\n",
            "/proc/device-tree/model": b"ZynqMP SMK-K26 Rev1/B/A\0",
            "/sys/class/hwmon/hwmon0/name": b"iwlwifi\n",
            "/sys/class/hwmon/hwmon2/name": b"ina260_u14\n",
            "/sys/class/hwmon/hwmon2/power1_input": b"3450000\n",
        }

    def read_file(self, path: str) -> bytes:
        if path not in self.files:
            raise FileNotFoundError(2, "No such file or directory", path)
        return self.files[path]

    def configure(self, bitstream: bytes) -> None:
        """What the FPGA manager does with firmware."""
        self.pl = {}
        offered = read_overlay(np.frombuffer(bitstream, "<u4").byteswap().tobytes())
        accelerator = self.accelerator()
        in_bytes, out_bytes = (memory_bits(bits) // 8 for bits in (offered.in_stream_bits, offered.out_stream_bits))
        dma = _Dma(AxiDma(self.ddr, accelerator, in_bytes, out_bytes))
        self.pl = {
            (offered.accelerator.base, offered.accelerator.size): _Port(accelerator),
            (offered.dma.base, offered.dma.size): dma,
            (offered.gpio.base, offered.gpio.size): RegisterBlock("axi_gpio", {0: 0, 4: 0}),
        }
        self.files[STATE] = b"operating\n"
        self.loaded += 1

    def at(self, address: int) -> tuple[Any, int]:
        blocks: dict[tuple[int, int], Any] = {(base, PAGE): block for base, block in self.clocks.items()}
        for (base, size), block in {**blocks, **self.pl}.items():
            if base <= address < base + size:
                return block, address - base
        raise BusError(f"nothing answers at {address:#x}")


class _Port:
    def __init__(self, accelerator: Any) -> None:
        self.read, self.write = accelerator.axil_read, accelerator.axil_write


class _Dma:
    """A DMA that goes on waiting where the accelerator does not end, until it is reset."""

    def __init__(self, dma: AxiDma) -> None:
        self._dma, self._hangs = dma, False

    def read(self, offset: int) -> int:
        is_status = offset in (0x04, 0x34)
        return 0 if self._hangs and is_status else self._dma.read(offset)

    def write(self, offset: int, data: int) -> None:
        if offset in (0x00, 0x30) and data & 1 << 2:
            self._hangs = False
        try:
            self._dma.write(offset, data)
        except AddressError:
            raise
        except BoardError:
            self._hangs = True


class _Registers:
    """What `mmap` of /dev/mem gives: an array of uint32, here a word at a time."""

    def __init__(self, machine: Machine, base: int, words: int) -> None:
        self._machine, self._base, self._words = machine, base, words

    def _place(self, index: int) -> tuple[Any, int]:
        if not isinstance(index, int) or not 0 <= index < self._words:
            raise IndexError(f"index {index} is out of bounds for axis 0 with size {self._words}")
        return self._machine.at(self._base + 4 * index)

    def __getitem__(self, index: int) -> np.uint32:
        block, offset = self._place(index)
        try:
            return np.uint32(block.read(offset))
        except AddressError as error:
            raise BusError(str(error)) from error

    def __setitem__(self, index: int, data: np.uint32) -> None:
        block, offset = self._place(index)
        try:
            block.write(offset, int(data))
        except AddressError as error:
            raise BusError(str(error)) from error


class PynqBuffer(np.ndarray):
    """An array with a physical address, behind a cache."""

    device_address: int
    coherent = False
    machine: Machine

    @property
    def physical_address(self) -> int:
        return self.device_address

    def flush(self) -> None:
        self.machine.ddr.view(self.device_address, self.nbytes)[:] = self.view(np.ndarray).tobytes()

    def invalidate(self) -> None:
        data = bytes(self.machine.ddr.view(self.device_address, self.nbytes))
        self.view(np.ndarray).reshape(-1).view(np.uint8)[:] = np.frombuffer(data, np.uint8)

    def freebuffer(self) -> None:
        if getattr(self, "freed", False):
            raise BusError("memory that was given back")
        self.freed = True
        self.machine.ddr.free(self.device_address)


class Mmio:
    machine: Machine

    def __init__(self, base_addr: int, length: int = 4, device: Any = None, **kwargs: Any) -> None:
        if base_addr < 0 or length < 0:
            raise ValueError("Base address or length cannot be negative.")
        if not self.machine.is_root:
            raise OSError("Root permissions required.")
        self.base_addr, self.length, self.device = base_addr, length, device
        self.array = _Registers(self.machine, base_addr, length >> 2)

    def read(self, offset: int = 0, length: int = 4, word_order: str = "little") -> int:
        if length not in [1, 2, 4, 8]:
            raise ValueError("MMIO currently only supports 1, 2, 4 and 8-byte reads.")
        if offset < 0:
            raise ValueError("Offset cannot be negative.")
        if offset % 4:
            raise MemoryError("Unaligned read: offset must be multiple of 4.")
        return int(self.array[offset >> 2]) & ((1 << 8 * length) - 1)

    def write(self, offset: int, data: int | bytes) -> None:
        if offset < 0:
            raise ValueError("Offset cannot be negative.")
        if offset % 4:
            raise MemoryError("Unaligned write: offset must be multiple of 4.")
        if type(data) is int:
            self.array[offset >> 2] = np.uint32(data)
        elif type(data) is bytes:
            if len(data) % 4:
                raise MemoryError("Unaligned write: data length must be multiple of 4.")
            for at, word in enumerate(np.frombuffer(data, np.uint32)):
                self.array[(offset >> 2) + at] = word
        else:
            raise ValueError("Data type must be int or bytes.")


class Overlay:
    machine: Machine

    def __init__(
        self, bitfile_name: str, dtbo: Any = None, download: bool = True, ignore_version: bool = False,
        device: Any = None, gen_cache: bool = False,
    ) -> None:  # fmt: skip
        if not isinstance(bitfile_name, str):
            raise TypeError("Bitstream name has to be a string.")
        path = Path(bitfile_name)
        if not path.is_file():
            raise OSError(f"Bitstream file {bitfile_name} does not exist.")
        if path.suffix not in (".bit", ".bin", ".xsa", ".xclbin"):
            raise RuntimeError("Unknown file format")
        handoff = path.with_suffix(".hwh")
        if not handoff.is_file():
            raise RuntimeError("Unable to find metadata for bitstream")
        self.clocks = _dividers(handoff.read_text())
        if download:
            self.download()
            if self.machine.fails_to_load:
                raise OSError(5, self.machine.fails_to_load)
            self.machine.configure(path.read_bytes())

    def download(self) -> None:
        crl = self.machine.clocks[CRL_BASE]
        for clock, (first, second) in self.clocks.items():
            crl.write(0xC0 + 4 * clock, crl.read(0xC0 + 4 * clock) & ~0x3F3F00 | second << 16 | first << 8)


def _allocate(machine: Machine, shape: Any, dtype: Any = "u4", target: Any = None, **kwargs: Any) -> PynqBuffer:
    if not machine.loaded:
        raise RuntimeError("Overlay is not downloaded")
    array = np.full(shape, 0xA5, dtype=dtype).view(PynqBuffer)  # what lay there before
    array.machine = machine
    array.device_address = machine.ddr.allocate(array.nbytes).address
    machine.ddr.view(array.device_address, array.nbytes)[:] = b"\x5a" * array.nbytes
    return array


def make(machine: Machine) -> ModuleType:
    """The package `pynq` of that machine."""
    pynq: Any = ModuleType("pynq")
    pynq.__version__ = "3.0.1"
    pynq.MMIO = type("MMIO", (Mmio,), {"machine": machine})
    pynq.Overlay = type("Overlay", (Overlay,), {"machine": machine})
    pynq.allocate = partial(_allocate, machine)
    return pynq


def _dividers(handoff: str) -> dict[int, tuple[int, int]]:
    values = {at.get("NAME", ""): at.get("VALUE", "") for at in ElementTree.fromstring(handoff).iter("PARAMETER")}
    clocks = [clock for clock in range(4) if values.get(f"PSU__FPGA_PL{clock}_ENABLE") == "1"]
    names = ("DIVISOR0", "DIVISOR1")
    return {
        clock: tuple(int(values[f"PSU__CRL_APB__PL{clock}_REF_CTRL__{name}"]) for name in names)  # type: ignore[misc]
        for clock in clocks
    }
