# SPDX-License-Identifier: Apache-2.0
"""A board as a target, virtual or real: faults and images go over AXI through the stock PYNQ client.

The client lives in `.venv-board`, whose pins differ from the build environment's; an agent process there answers over
pipes. Without a host, a virtual board is started for the target and ended with it.
"""

from __future__ import annotations

import re
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from bitward_runtime.agent_client import AGENT_ARGUMENTS, AgentClient

from bitward.errors import BoardError, ConfigError
from bitward.targets._axi import AxiTarget
from bitward.tools import board_python, popen

READY_WITHIN_S = 60.0


class BoardTarget(AxiTarget):
    """The design in a build directory, on the board at `host`:`port`; None starts a virtual board."""

    def __init__(self, build_dir: str | Path, host: str | None = None, port: int = 7967) -> None:
        super().__init__(build_dir)
        self._host, self._port = host, port
        self._board: subprocess.Popen[bytes] | None = None
        self._agent: AgentClient | None = None

    def open(self) -> None:
        host, port = (self._host, self._port) if self._host is not None else ("127.0.0.1", self._start_virtual())
        python = board_python()
        if python is None:
            raise BoardError("the PYNQ client's environment .venv-board must be there, got none; run make setup")
        self._agent = AgentClient(popen([python, *AGENT_ARGUMENTS], log=self._log("agent")))
        self._agent.open(host, port, str(self._bit()))
        self._images_per_transfer = 0
        self.identify()

    def close(self) -> None:
        if self._agent is not None:
            self._agent.close()
        if self._board is not None:
            self._board.terminate()
            try:
                self._board.wait(10)
            except subprocess.TimeoutExpired:
                self._board.kill()
                self._board.wait()
        self._agent = self._board = None

    @property
    def name(self) -> str:
        """What the board calls itself; a virtual one says so."""
        return self._open.board

    def _bit(self) -> Path:
        bits = sorted((self.build_dir / "overlay").glob("*.bit"))
        if len(bits) != 1:
            raise BoardError(f"{self.build_dir}/overlay must hold one .bit, got {len(bits)}; run bitward build again")
        return bits[0].resolve()

    def _start_virtual(self) -> int:
        """The port of a virtual board of this build, started now."""
        command = [sys.executable, "-m", "bitward_virtual", str(self.build_dir), "--port", "0"]
        self._board = popen(command, log=self._log("emulate"))
        line = _first_line(self._board)
        found = re.search(r":(\d+)\b", line.split(" on ")[-1])
        if found is None:
            raise BoardError(f"the virtual board must say where it listens, got {line!r}; see {self._log('emulate')}")
        return int(found.group(1))

    def _log(self, what: str) -> Path:
        return self.build_dir / "overlay" / f"{what}.log"

    def _read_words(self, address: int, count: int) -> Sequence[int]:
        return [int(word) for word in self._open.read(address, count)]

    def _write_words(self, address: int, words: Sequence[int]) -> None:
        self._open.write(address, np.array(words, dtype=np.uint32))

    def _transfer(self, data: bytes, out_bytes: int) -> bytes:
        return self._open.infer(data, out_bytes)

    @property
    def _open(self) -> AgentClient:
        if self._agent is None:
            raise ConfigError(f"the board of {self.build_dir} must be open, got a closed one; call open() first")
        return self._agent


def _first_line(process: subprocess.Popen[bytes]) -> str:
    """The first line that the process prints; empty if it ends, or says nothing, before that."""
    if process.stdout is None:
        return ""
    until = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < until:
        if select.select([process.stdout], [], [], 0.5)[0] or process.poll() is not None:
            return process.stdout.readline().decode(errors="replace").strip()
    return ""
