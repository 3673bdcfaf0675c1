# SPDX-License-Identifier: Apache-2.0
"""A KV260's own board as a `Backend`, over the local pynq 3.0.1 (Kria-PYNQ). Not yet run on hardware.

Only what the loaded overlay's .hwh lists is mapped, PL clock registers apart; an overlay without a known .hwh is not
loaded. What an address inside a block answers is the block's affair: where it answers with a bus error, Linux ends the
server (SIGBUS; after a write, the board may stop), and whoever runs it starts it again (docs/guide/boards.md). Another
program that loads an overlay behind the server's back is not noticed before the next read of the design's registers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import numpy as np

from bitward.errors import BoardError

from .backend import AddressError, Registers
from .bitfile import firmware_of
from .files import MANAGER, PYNQ_BOARD
from .handoff import Window, windows_of
from .power import ReadFile, local_files

MODEL = "/proc/device-tree/model"
CRL, CRF, CLOCK_BYTES = 0xFF5E_0000, 0xFD1A_0000, 0x100  # CRL_APB and CRF_APB (UG1087), which pynq reads clocks from
READABLE = {
    CRL: frozenset((0x20, 0x30, 0xC0, 0xC4, 0xC8, 0xCC)),  # IOPLL, RPLL, PL0 to PL3
    CRF: frozenset((0x20, 0x2C, 0x38, 0x60)),  # APLL, DPLL, VPLL, the processor's
}
WRITABLE = {CRL: frozenset((0xC0, 0xC4, 0xC8, 0xCC)), CRF: frozenset[int]()}
FAILURES = (  # that pynq raises; an XML parse error is a SyntaxError
    RuntimeError, OSError, ValueError, MemoryError, LookupError, AttributeError, TypeError, SyntaxError, AssertionError,
)  # fmt: skip


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Whatever pynq raises inside leaves as BoardError."""
    try:
        yield
    except FAILURES as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise BoardError(f"pynq must {what}, got: {text}; see the server's messages on the board") from error


class Mapped:
    """A block's registers through pynq's MMIO, by byte offset."""

    def __init__(self, mmio: Any) -> None:
        self._mmio = mmio

    def read(self, offset: int) -> int:
        """The word at a byte offset."""
        return int(self._mmio.read(offset))

    def write(self, offset: int, data: int) -> None:
        """The word at a byte offset is `data`; pynq takes Python's integers alone."""
        self._mmio.write(offset, int(data))


class Clocks:
    """A block of PS clock registers: those that pynq reads, and of these only the PL's may be written."""

    def __init__(self, mmio: Any, base: int) -> None:
        self._mmio, self._base = mmio, base

    def read(self, offset: int) -> int:
        """The register at a byte offset; AddressError where it is not one that makes a PL clock."""
        self._require("read", offset, READABLE[self._base])
        return int(self._mmio.read(offset))

    def write(self, offset: int, data: int) -> None:
        """The PL clock register at a byte offset is `data`; AddressError for every other."""
        self._require("written", offset, WRITABLE[self._base])
        self._mmio.write(offset, int(data))

    def _require(self, what: str, offset: int, known: frozenset[int]) -> None:
        if offset not in known:
            listed = ", ".join(hex(self._base + each) for each in sorted(known)) or "none"
            raise AddressError(
                f"a clock register that is {what} must be one of {listed}, got 0x{self._base + offset:x}; this server "
                "leaves the processing system's others alone"
            )


class KriaBuffer:
    """A buffer of pynq's; its cache is written back and dropped only by `flush` and `invalidate`."""

    def __init__(self, array: Any) -> None:
        self._array = array
        self.address = int(array.device_address)
        self.size = int(array.nbytes)

    def read(self, start: int, size: int) -> bytes:
        """The `size` bytes from byte `start`."""
        return bytes(self._array[start : start + size].tobytes())

    def write(self, start: int, data: bytes) -> None:
        """`data` lies in the buffer from byte `start` on."""
        self._array[start : start + len(data)] = np.frombuffer(data, np.uint8)

    def flush(self) -> None:
        """What was written is in memory."""
        with _told("write a buffer's cache back"):
            self._array.flush()

    def invalidate(self) -> None:
        """The next read sees what DMA wrote."""
        with _told("drop a buffer's cache"):
            self._array.invalidate()

    def free(self) -> None:
        """The memory is given back."""
        with _told("free a buffer"):
            self._array.freebuffer()


class KriaBoard:
    """This machine's PL. `overlays` are folders of .bit and .hwh files, for clients that cannot send a .hwh.

    `pynq` is the local package, and `files` reads this machine's files; tests give others.
    """

    def __init__(
        self, overlays: Sequence[Path] = (), pynq: ModuleType | None = None, files: ReadFile | None = None
    ) -> None:
        self.simulated = False
        self._pynq = pynq or _local_pynq()
        self._files = files or local_files()
        self._handoffs = {key: hwh for folder in overlays for key, hwh in _found(folder)}
        self._folder = TemporaryDirectory(prefix="bitward-overlay-")
        self._windows: tuple[tuple[Window, Registers], ...] = ()
        self._clocks = tuple((Window("clocks", base, CLOCK_BYTES), self._clock_block(base)) for base in (CRL, CRF))
        self.name = self._model()

    def check(self, address: int, size: int) -> None:
        """Raise AddressError unless [address, address + size) lies in one block."""
        self.span(address, size)

    def span(self, address: int, size: int) -> tuple[Registers, int]:
        """The block's registers, and the offset of `address` in it; AddressError as `check`."""
        for window, registers in (*self._windows, *self._clocks):
            if window.base <= address and address + size <= window.end:
                return registers, address - window.base
        hint = "" if self._windows else " (no overlay is loaded)"
        raise AddressError(
            f"an address must be mapped on {self.name}{hint}, got {size} bytes at 0x{address:x}; "
            "see the overlay's ip_dict for what is there"
        )

    def read(self, address: int) -> int:
        """The 32-bit word at an aligned address."""
        registers, offset = self.span(address, 4)
        return registers.read(offset)

    def write(self, address: int, data: int) -> None:
        """32 bits are written to an aligned address."""
        registers, offset = self.span(address, 4)
        registers.write(offset, data)

    def allocate(self, size: int) -> KriaBuffer:
        """A zeroed buffer of contiguous memory; BoardError where there is none, or no overlay is loaded yet."""
        with _told(f"allocate {size} bytes for DMA"):
            array = self._pynq.allocate((size,), dtype=np.uint8)
        array[:] = 0
        buffer = KriaBuffer(array)
        buffer.flush()
        return buffer

    def program(self, name: str, bitstream: bytes, handoff: bytes = b"") -> None:
        """The PL holds the overlay, its clocks as its .hwh has them; nothing of the PL is mapped where that failed."""
        key = hashlib.sha256(bitstream).hexdigest()
        handoff = handoff or self._handoffs.get(key, b"")
        if not handoff:
            raise BoardError(
                f"{name} must come with its .hwh, got a bitstream that this server knows none of; load it by bitward, "
                "or start the server with --overlays and the folder it lies in"
            )
        windows = windows_of(handoff)
        self._windows = ()
        path = Path(self._folder.name) / f"bitward-{key[:12]}.bin"  # no name of a client's reaches the disk
        path.write_bytes(bitstream)
        path.with_suffix(".hwh").write_bytes(handoff)
        try:
            with _told(f"load {name}"):
                self._pynq.Overlay(str(path))
        finally:
            path.unlink()
            path.with_suffix(".hwh").unlink()
        state = self.read_file(f"{MANAGER}/state").decode("ascii", "replace").strip()
        if state != "operating":
            raise BoardError(f"the FPGA manager must be operating after {name}, got {state!r}; is it for this device?")
        self._windows = tuple((window, self._mapped(window)) for window in windows)

    def read_file(self, path: str) -> bytes:
        """A file of this machine; pynq's name of the board is the model's where Kria-PYNQ has not written one."""
        try:
            return self._files(path)
        except OSError as error:
            if path == PYNQ_BOARD:
                return self.name.encode() + b"\0"
            raise BoardError(f"{path} must be readable on the board, got {error.strerror}; is it Kria-PYNQ?") from error

    def close(self) -> None:
        """Nothing is mapped any more; the PL keeps what it holds."""
        self._windows = ()
        self._folder.cleanup()

    def _mapped(self, window: Window) -> Mapped:
        with _told(f"map {window.name} at 0x{window.base:x}"):
            return Mapped(self._pynq.MMIO(window.base, window.size))

    def _clock_block(self, base: int) -> Clocks:
        with _told("map the clock registers (the server must run as root)"):
            return Clocks(self._pynq.MMIO(base, CLOCK_BYTES), base)

    def _model(self) -> str:
        try:
            return self._files(MODEL).rstrip(b"\0").decode("ascii", "replace") or "KV260"
        except OSError:
            return "KV260"


def _local_pynq() -> ModuleType:
    try:
        return import_module("pynq")
    except ImportError as error:
        raise BoardError(
            f"pynq must be there to serve this board, got {error}; as root: source /etc/profile.d/pynq_venv.sh"
        ) from error


def _found(folder: Path) -> Iterator[tuple[str, bytes]]:
    """What tells each .bit of a folder that has a .hwh beside it, and that file; BoardError where there is none."""
    bits = [bit for bit in sorted(folder.glob("*.bit")) if bit.with_suffix(".hwh").is_file()]
    if not bits:
        raise BoardError(f"{folder} must hold a .bit with its .hwh beside it, got none; name an overlay's folder")
    for bit in bits:
        handoff = bit.with_suffix(".hwh").read_bytes()
        windows_of(handoff)
        yield hashlib.sha256(firmware_of(bit.read_bytes())).hexdigest(), handoff
