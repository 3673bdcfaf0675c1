# SPDX-License-Identifier: Apache-2.0
"""What an overlay's .hwh says of where its blocks are: the only addresses of the PL that a board's server may touch."""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree import ElementTree

from bitward.errors import BoardError

PL_FIRST, PL_END = 0x8000_0000, 0xC000_0000  # LPD and HPM0, HPM1: what the PS reaches in the PL below 4 GiB (UG1085)
MAX_BYTES = 2 << 20  # of a .hwh that is sent; those of our shell have some 100 KiB


@dataclass(frozen=True)
class Window:
    """Byte addresses [base, base + size) of the block `name`."""

    name: str
    base: int
    size: int

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.base + self.size


def windows_of(handoff: bytes) -> tuple[Window, ...]:
    """The register windows that the PS reaches, by address; BoardError where the file is none, or says what cannot be.

    DDR, which the same file lists for the DMA, is left out: only whole blocks between `PL_FIRST` and `PL_END` count,
    and any other register window is refused.
    """
    if len(handoff) > MAX_BYTES:
        raise BoardError(f"a handoff file must have at most {MAX_BYTES} bytes, got {len(handoff)}; send the right one")
    try:
        text = handoff.decode("utf-8")
        if "<!DOCTYPE" in text:
            raise ValueError("a document type, which may name other files")
        root = ElementTree.fromstring(text)
        found = {
            Window(str(at.get("INSTANCE")), int(at.attrib["BASEVALUE"], 16), _size(at))
            for at in root.iter("MEMRANGE")
            if at.get("MEMTYPE") == "REGISTER" and str(at.get("MASTERBUSINTERFACE")).startswith("M_AXI_HPM")
        }
    except (ElementTree.ParseError, KeyError, ValueError) as error:
        raise BoardError(
            f"a handoff file must be XML whose MEMRANGEs have base and high addresses, got {error}; build the overlay "
            "again"
        ) from error
    windows = sorted(found, key=lambda window: window.base)
    for window in windows:
        if not PL_FIRST <= window.base < window.end <= PL_END or window.base % 4096 or window.size % 4096:
            raise BoardError(
                f"a block of the PL must lie in whole pages between 0x{PL_FIRST:x} and 0x{PL_END:x}, got {window.name} "
                f"with 0x{window.size:x} bytes at 0x{window.base:x}; this server maps nothing else"
            )
    for first, second in zip(windows, windows[1:], strict=False):
        if first.end > second.base:
            raise BoardError(
                f"blocks of the PL must not overlap, got {first.name} and {second.name} at 0x{second.base:x}; build "
                "the overlay again"
            )
    if not windows:
        raise BoardError("a handoff file must list the blocks of the PL, got none; build the overlay again")
    return tuple(windows)


def _size(at: ElementTree.Element) -> int:
    return int(at.attrib["HIGHVALUE"], 16) - int(at.attrib["BASEVALUE"], 16) + 1
