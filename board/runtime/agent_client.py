# SPDX-License-Identifier: Apache-2.0
"""A board from the build environment: the agent's operations as calls, over the pipes of an agent process.

The process is started by the caller (only `bitward.tools` starts processes):
`AgentClient(tools.popen([board_python, *AGENT_ARGUMENTS], log=log), log=log)`.
"""

from __future__ import annotations

import select
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from bitward.errors import BoardError

from . import wire

AGENT_ARGUMENTS = ("-m", "bitward_runtime.agent")
ANSWER_WITHIN_S = 600.0  # a simulated batch takes minutes at most; a board that hangs must not hang its host
ENDS_WITHIN_S = 5.0  # what an agent whose pipes are closed may take to end
QUOTED_LINES = 3  # of the log of an agent that ended: a traceback's last ones say what happened


class AgentClient:
    """A board behind an agent process; BoardError, one sentence, where the board or the agent fails.

    `log` is the file that the process' stderr goes to; its last lines are quoted should the process end.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], answer_within_s: float = ANSWER_WITHIN_S, log: Path | None = None
    ) -> None:
        self._process = process
        self._within_s = answer_within_s
        self._log = log
        self.board = ""  # what the opened board calls itself
        self.clk_mhz = 0.0  # its PL clock 0

    def open(self, host: str, port: int, bit: str) -> None:
        """The overlay `bit` is loaded on the board at host:port."""
        answer, _ = self._ask({"op": "open", "host": host, "port": port, "bit": str(bit)})
        self.board, self.clk_mhz = answer["board"], answer["clk_mhz"]

    def read(self, address: int, words: int) -> np.ndarray:
        """The 32-bit words from byte `address` of the accelerator's window on; uint32, shape (words,)."""
        _, payload = self._ask({"op": "read", "address": int(address), "words": int(words)})
        return np.frombuffer(payload, dtype="<u4").astype(np.uint32)

    def write(self, address: int, words: np.ndarray) -> None:
        """`words` (uint32) are written from byte `address` of the accelerator's window on, lowest first."""
        self._ask({"op": "write", "address": int(address)}, np.asarray(words, dtype="<u4").tobytes())

    def infer(self, stream: bytes, out_bytes: int) -> bytes:
        """The `out_bytes` that the accelerator streams back for `stream`."""
        _, payload = self._ask({"op": "infer", "out_bytes": int(out_bytes)}, stream)
        return payload

    def close(self) -> None:
        """The board is given back and the agent has ended, also where either was gone before."""
        process = self._process
        try:
            if process.poll() is None:
                self._ask({"op": "close"})
        except BoardError:
            pass  # nothing left to give back: whoever used the board has been told already
        finally:
            self._end()

    def _ask(self, header: dict[str, Any], payload: bytes = b"") -> tuple[dict[str, Any], bytes]:
        process = self._process
        if process.stdin is None or process.stdout is None:
            raise BoardError("the board agent must be started with pipes for stdin and stdout, got none; pass PIPE")
        try:
            wire.send(process.stdin, header, payload)
            if not select.select([process.stdout], [], [], self._within_s)[0]:
                process.kill()
                self._end()
                raise BoardError(
                    f"the board must answer '{header['op']}' within {self._within_s:g} s, got nothing; "
                    "the agent was ended, start again"
                )
            answer, data = wire.receive(process.stdout)
        except (EOFError, OSError, ValueError) as error:
            self._end()
            raise BoardError(
                f"the board agent must answer '{header['op']}', got its end (exit status {process.returncode}); "
                f"{self._last_words()}"
            ) from error
        if not answer["ok"]:
            raise BoardError(answer["error"])
        return answer, data

    def _last_words(self) -> str:
        """What the ended agent wrote last, on one line."""
        if self._log is None:
            return "its messages say why"
        lines = [line.strip() for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return f"it said: {' / '.join(lines[-QUOTED_LINES:]) or 'nothing'}"

    def _end(self) -> None:
        """The process has ended: closed pipes end it, and if not, a signal."""
        for pipe in (self._process.stdin, self._process.stdout):
            try:
                if pipe is not None:
                    pipe.close()
            except OSError:
                pass  # a full pipe to a process that is gone cannot be flushed
        try:
            self._process.wait(ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
