# SPDX-License-Identifier: Apache-2.0
"""A board as a target, virtual or real: faults and images go over AXI through the stock PYNQ client.

The client lives in `.venv-board`, whose pins differ from the build environment's; an agent process there answers over
pipes. Without a host, a virtual board is started for the target and ended with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from bitward_runtime.agent_client import AGENT_ARGUMENTS, AgentClient
from bitward_runtime.server import Server
from bitward_virtual.board import VirtualBoard
from bitward_virtual.emulate import overlay_of, virtual_board

from bitward.errors import BoardError, ConfigError
from bitward.targets._axi import AxiTarget
from bitward.tools import board_python, popen


class BoardTarget(AxiTarget):
    """The design in a build directory, on the board at `host`:`port`; None starts a virtual board."""

    def __init__(self, build_dir: str | Path, host: str | None = None, port: int = 7967) -> None:
        super().__init__(build_dir)
        self._host, self._port = host, port
        self._board: VirtualBoard | None = None
        self._server: Server | None = None
        self._agent: AgentClient | None = None
        self._messages: TemporaryDirectory[str] | None = None  # the agent's: a build may be read-only

    def open(self) -> None:
        python = board_python()
        if python is None:
            raise BoardError("the PYNQ client's environment .venv-board must be there, got none; run make setup")
        bit = overlay_of(self.build_dir).resolve()
        self._messages = TemporaryDirectory(prefix="bitward-agent-")
        log = Path(self._messages.name) / "agent.log"
        # The agent first: a process must not be started once a gRPC server runs in this one.
        self._agent = AgentClient(popen([python, *AGENT_ARGUMENTS], log=log), log=log)
        host, port = (self._host, self._port) if self._host is not None else self._start_virtual()
        self._agent.open(host, port, str(bit))
        self._images_per_transfer = 0
        self.identify()

    def close(self) -> None:
        if self._agent is not None:
            self._agent.close()
        if self._server is not None:
            self._server.stop()
        if self._board is not None:
            self._board.close()
        if self._messages is not None:
            self._messages.cleanup()
        self._agent = self._server = self._board = self._messages = None

    @property
    def name(self) -> str:
        """What the board calls itself; a virtual one says so."""
        return self._open.board

    def _start_virtual(self) -> tuple[str, int]:
        """Host and port of a virtual board of this build. It lives in this process, so that it cannot outlive it."""
        self._board = virtual_board(self.build_dir)
        self._server = Server(self._board, port=0)
        return self._server.host, self._server.port

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
