# SPDX-License-Identifier: Apache-2.0
"""Memories of the virtual board: DDR that holds DMA buffers and nothing else, and blocks of PS registers."""

from __future__ import annotations

from collections.abc import Mapping

from bitward_runtime.backend import AddressError

from bitward.errors import BoardError

PAGE_BYTES = 4096


class DdrBuffer:
    """A buffer in the virtual DDR. There is no cache, so flush and invalidate have nothing to do."""

    def __init__(self, ddr: Ddr, address: int, size: int) -> None:
        self.address = address
        self.size = size
        self._ddr = ddr

    def read(self, start: int, size: int) -> bytes:
        """The `size` bytes from byte `start`."""
        return bytes(self._ddr.view(self.address + start, size))

    def write(self, start: int, data: bytes) -> None:
        """`data` lies in the buffer from byte `start` on."""
        self._ddr.view(self.address + start, len(data))[:] = data

    def flush(self) -> None:
        """Nothing to do."""

    def invalidate(self) -> None:
        """Nothing to do."""

    def free(self) -> None:
        """The addresses are unmapped, and may be allocated again."""
        self._ddr.free(self.address)


class Ddr:
    """Buffers at page-aligned addresses of [base, base + size); whatever lies between them is unmapped."""

    def __init__(self, base: int, size: int) -> None:
        self._base = base
        self._size = size
        self._content: dict[int, bytearray] = {}  # by address, in ascending order

    def allocate(self, size: int) -> DdrBuffer:
        """A zeroed buffer in the first gap that is large enough; BoardError where none is."""
        address = self._base
        for taken, content in self._content.items():
            if taken - address >= size:
                break
            address = taken + -(-len(content) // PAGE_BYTES) * PAGE_BYTES
        if address + size > self._base + self._size:
            raise BoardError(
                f"buffers must fit into the virtual board's {self._size >> 20} MiB for DMA, got {size} bytes more; "
                "free some"
            )
        self._content = dict(sorted({**self._content, address: bytearray(size)}.items()))
        return DdrBuffer(self, address, size)

    def free(self, address: int) -> None:
        """The buffer at `address` is gone."""
        del self._content[address]

    def view(self, address: int, size: int) -> memoryview:
        """The bytes [address, address + size), writable; AddressError unless one buffer holds them all."""
        for base, content in self._content.items():
            if base <= address and address + size <= base + len(content):
                return memoryview(content)[address - base : address - base + size]
        raise AddressError(
            f"memory must be inside an allocated buffer, got {size} bytes at 0x{address:x}; allocate it first"
        )


class DdrWords:
    """Bytes of a buffer as 32-bit words."""

    def __init__(self, content: memoryview) -> None:
        self._content = content

    def read(self, offset: int) -> int:
        """The word at byte `offset`."""
        return int.from_bytes(self._content[offset : offset + 4], "little")

    def write(self, offset: int, data: int) -> None:
        """The word at byte `offset` is `data`."""
        self._content[offset : offset + 4] = data.to_bytes(4, "little")


class RegisterBlock:
    """A block of PS registers that hold what is written; those that are not modelled are errors, never 0."""

    def __init__(self, name: str, values: Mapping[int, int]) -> None:
        self._name = name
        self._values = dict(values)

    def read(self, offset: int) -> int:
        """The register at byte `offset`."""
        self._require(offset)
        return self._values[offset]

    def write(self, offset: int, data: int) -> None:
        """The register at byte `offset` holds `data`."""
        self._require(offset)
        self._values[offset] = data

    def _require(self, offset: int) -> None:
        if offset not in self._values:
            raise AddressError(
                f"a register of {self._name} must be one that the virtual board models "
                f"({', '.join(hex(known) for known in self._values)}), got offset {offset:#x}"
            )


def _pll(feedback: int, halved: bool = False) -> int:
    return feedback << 8 | int(halved) << 16


def _pl_clock(divisor: int) -> int:
    return 1 << 24 | 1 << 16 | divisor << 8  # active, DIVISOR1 1, DIVISOR0, source IOPLL


CRYSTAL_MHZ = 100 / 3
CRL_BASE, CRF_BASE, CLOCK_BLOCK_BYTES = 0xFF5E0000, 0xFD1A0000, 0x100


def clock_registers() -> dict[int, RegisterBlock]:
    """The clock registers of a Zynq UltraScale+ (UG1087, CRL_APB and CRF_APB) by base address, as at start.

    IOPLL 33.333 MHz x 60 / 2 = 1 GHz; PL clocks at 100 MHz until an overlay sets them.
    """
    crl = {0x20: _pll(60, halved=True), 0x30: _pll(60, halved=True)}  # IOPLL, RPLL
    crl |= {0xC0 + 4 * clock: _pl_clock(10) for clock in range(4)}  # PL0 to PL3
    crf = {0x20: _pll(72, halved=True), 0x2C: _pll(64, halved=True), 0x38: _pll(90, halved=True)}  # APLL, DPLL, VPLL
    crf |= {0x60: 1 << 8}  # the CPU's clock: APLL, not divided
    return {CRL_BASE: RegisterBlock("CRL_APB", crl), CRF_BASE: RegisterBlock("CRF_APB", crf)}


def pl0_mhz(crl: RegisterBlock) -> float:
    """What PL clock 0 runs at, by the CRL_APB registers; 0 where it is off. Its source is the IOPLL (0) or RPLL (2)."""
    control = crl.read(0xC0)
    first, second, source = control >> 8 & 63, control >> 16 & 63, control & 7
    pll = {0: 0x20, 2: 0x30}.get(source)
    if not control >> 24 & 1 or not first or not second or pll is None:
        return 0.0
    setting = crl.read(pll)
    vco = CRYSTAL_MHZ * (setting >> 8 & 127)
    return vco / (2 if setting >> 16 & 1 else 1) / first / second
