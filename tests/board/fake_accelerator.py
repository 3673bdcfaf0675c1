# SPDX-License-Identifier: Apache-2.0
"""An accelerator in ten lines of Python: an identification register, 1 KiB of words, and a stream that adds 1 to bytes.

Run as a script, it emulates a build folder with it, like `bitward emulate DIR --port 0`; three files more (certificate,
key, token) are for TLS.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from bitward_runtime.backend import AddressError
from bitward_virtual.emulate import access_of, emulate

from bitward.errors import BoardError
from bitward.formats import Int
from bitward.manifest import Axis, Hardware, Io, Manifest, Memory, StreamTensor
from bitward.schemes import Tmr

DESIGN_ID = 0xB17A0001
DEADLOCK, SLEEP = 0xDD, 0xEE  # first byte of a stream that never ends, or not soon
RAM, RAM_WORDS = 0x1000, 256


class FakeAccelerator:
    def __init__(self) -> None:
        self.words = {RAM + 4 * at: at * 0x01010101 for at in range(RAM_WORDS)}
        self.resets = 0
        self.closed = False

    def axil_read(self, addr: int) -> int:
        if addr == 0:
            return DESIGN_ID
        if addr not in self.words:
            raise AddressError(f"an accelerator address must be 0 or in its RAM, got {addr:#x}; see the manifest")
        return self.words[addr]

    def axil_write(self, addr: int, data: int) -> None:
        self.axil_read(addr)
        self.words[addr] = data

    def stream(self, beats_in: bytes, out_bytes: int) -> bytes:
        if beats_in[0] == DEADLOCK:
            raise BoardError("the accelerator must end within 1000 cycles, got none; load the overlay again")
        if beats_in[0] == SLEEP:
            time.sleep(60)
        return bytes((byte + 1) % 256 for byte in beats_in[:out_bytes])

    def reset(self) -> None:
        self.resets += 1

    def close(self) -> None:
        self.closed = True


def manifest_of_ram() -> Manifest:
    """Its first 16 words as a memory of voted words, which somebody may scrub."""
    hardware = Hardware(
        depth=16, width=12, lanes=1, ram_style="block", base=RAM, word_stride=4,
        word_axes=(Axis(16, 1, 1),), lane_axes=(Axis(1, 1, 1),), flush_images=1,
    )  # fmt: skip
    memory = Memory("ram", "fc", "ram.weight", "weight", (16, 1), Int(4), Tmr(4, 4), hardware)
    stream = StreamTensor((4,), "UINT8", 32, 4, 1)
    return Manifest(
        design="ram", design_id=DESIGN_ID, board="virtual", clk_mhz=200.0, memories=(memory,), io=Io(stream, stream),
        registers={"magic": 0}, axilite_bytes=0x4000,
    )  # fmt: skip


if __name__ == "__main__":
    build, *tls = map(Path, sys.argv[1:])
    access = access_of(*tls) if tls else None
    emulate(build, port=0, accelerator=lambda _: FakeAccelerator(), access=access)
