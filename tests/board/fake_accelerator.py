# SPDX-License-Identifier: Apache-2.0
"""An accelerator in ten lines of Python: an identification register, 1 KiB of words, and a stream that adds 1 to bytes.

Run as a script, it emulates a build folder with it, like `bitward emulate DIR --port 0`.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from bitward_runtime.backend import AddressError
from bitward_virtual.emulate import emulate

from bitward.errors import BoardError

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


if __name__ == "__main__":
    emulate(Path(sys.argv[1]), port=0, accelerator=lambda _: FakeAccelerator())
