# SPDX-License-Identifier: Apache-2.0
"""`python -m bitward_runtime.agent`: a PynqBoard served on stdin and stdout, for another environment's AgentClient.

Requests are `wire` messages {"op": ..., arguments}; answers {"ok": true, ...} or {"ok": false, "error": sentence}. Ends
when stdin closes, so it never outlives the program that started it.
"""

from __future__ import annotations

import os
import sys
from typing import IO, Any

import numpy as np

from bitward.errors import BitwardError, BoardError

from . import wire
from .client import PynqBoard

Answer = tuple[dict[str, Any], bytes]


class Agent:
    """One board at a time; each public method is an operation of the same name."""

    def __init__(self) -> None:
        self._board: PynqBoard | None = None
        self._where: tuple[str, int] | None = None

    def open(self, header: dict[str, Any], _: bytes) -> Answer:
        where = (header["host"], header["port"])
        if self._board is not None and where == self._where:
            self._board.load(header["bit"])
        else:
            self.close({}, b"")
            self._board, self._where = PynqBoard(*where, header["bit"]), where
        return {"board": self._board.name, "clk_mhz": self._board.clk_mhz}, b""

    def read(self, header: dict[str, Any], _: bytes) -> Answer:
        return {}, self._opened().read(header["address"], header["words"]).astype("<u4").tobytes()

    def write(self, header: dict[str, Any], payload: bytes) -> Answer:
        self._opened().write(header["address"], np.frombuffer(payload, dtype="<u4"))
        return {}, b""

    def infer(self, header: dict[str, Any], payload: bytes) -> Answer:
        return {}, self._opened().infer(payload, header["out_bytes"])

    def close(self, _header: dict[str, Any], _: bytes) -> Answer:
        board, self._board = self._board, None
        if board is not None:
            board.close()
        return {}, b""

    def _opened(self) -> PynqBoard:
        if self._board is None:
            raise BoardError("a board must be opened before use, got none; open it first")
        return self._board


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer until `requests` ends."""
    agent = Agent()
    operations = {name: getattr(agent, name) for name in ("open", "read", "write", "infer", "close")}
    while True:
        try:
            header, payload = wire.receive(requests)
        except EOFError:
            return
        try:
            answer, data = operations[header["op"]](header, payload)
        except BitwardError as error:
            wire.send(answers, {"ok": False, "error": str(error)})
        else:
            wire.send(answers, {"ok": True, **answer}, data)


def main() -> None:
    """Serve stdin and stdout; whatever pynq prints goes to stderr, so that it cannot break a message."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
