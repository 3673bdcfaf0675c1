# SPDX-License-Identifier: Apache-2.0
"""Two ways to a board: our extension of its server, and, where that is missing, the stock PYNQ client in an agent."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import numpy as np
import numpy.typing as npt
from bitward_runtime.agent_client import AGENT_ARGUMENTS, AgentClient
from bitward_runtime.bitfile import firmware_of
from bitward_runtime.extension_client import LEASE_S, ExtensionClient, Keeper, Rows
from bitward_runtime.scrub import Pass

from bitward.errors import BoardError
from bitward.manifest import Manifest
from bitward.targets._blocks import Block, Words
from bitward.targets._handoff import PL0_REF_CTRL, read_handoff
from bitward.tools import board_python, popen


class Link(Protocol):
    """A board that is held and has the overlay loaded; addresses are of the accelerator's window."""

    @property
    def board(self) -> str:
        """What it calls itself."""

    @property
    def is_simulated(self) -> bool:
        """Whether no hardware is there, as far as the board says."""

    def load(self) -> None:
        """The overlay is loaded anew, its memories as configured."""

    def read(self, address: int, count: int) -> Sequence[int]:
        """32-bit words from a byte address on."""

    def write(self, address: int, words: Sequence[int]) -> None:
        """32-bit words are written from a byte address on."""

    def infer(self, data: bytes, out_bytes: int) -> bytes:
        """What the accelerator streams back."""

    def close(self) -> None:
        """The board is given back; closing twice is allowed."""


class ExtensionLink:
    """Through the extension: thousands of words a call, the lease renewed while nobody calls."""

    def __init__(self, client: ExtensionClient, bit: Path, holder: str) -> None:
        self._client = client
        self._bit = bit
        self._places = read_handoff(bit.with_suffix(".hwh"))
        hello = client.hello()
        self.board = hello.board if hello else ""
        self.is_simulated = hello is not None and hello.is_simulated
        client.acquire(holder)
        self._keeper = Keeper(client, LEASE_S / 3)

    def load(self) -> None:
        """The clock is set before the design that needs it is there."""
        self._client.write([Rows(PL0_REF_CTRL, 4, 1, count=1)], np.array([self._places.pl0_ref_ctrl], np.uint32))
        handoff = self._bit.with_suffix(".hwh").read_bytes()
        self._client.program(f"{self._bit.stem}.bin", firmware_of(self._bit.read_bytes()), handoff)

    def check_loaded(self) -> None:
        """BoardError unless the overlay is what the server loaded last."""
        hello = self._client.hello()
        wanted = hashlib.sha256(firmware_of(self._bit.read_bytes())).hexdigest()
        if hello is None or hello.overlay_sha256 != wanted:
            found = hello.overlay if hello and hello.overlay else "none since its server started"
            raise BoardError(
                f"{self.board} must have {self._bit.name} loaded to be taken as it is, got {found}; load it first"
            )

    def scrub(self, manifest: Manifest) -> Pass:
        """One call: a pass over all memories with redundancy, on the server's side."""
        return self._client.scrub(manifest.to_json(), self._places.accelerator)

    def read_file(self, path: str) -> bytes:
        """A system file that the server shows; does not wait for other calls."""
        return self._client.read_file(path)

    def read(self, address: int, count: int) -> Sequence[int]:
        """One call."""
        return self._client.read([Rows(self._places.accelerator + address, 4, 1, count=count)]).tolist()

    def write(self, address: int, words: Sequence[int]) -> None:
        """One call."""
        rows = Rows(self._places.accelerator + address, 4, 1, count=len(words))
        self._client.write([rows], np.array(words, dtype=np.uint32))

    def infer(self, data: bytes, out_bytes: int) -> bytes:
        """One call; the DMA is driven on the server's side."""
        return self._client.infer(self._places.dma, data, out_bytes)

    def read_blocks(self, blocks: Sequence[Block]) -> Words:
        """One call for up to 262,144 words."""
        return self._client.read(self._rows(blocks))

    def write_blocks(self, blocks: Sequence[Block], words: Words) -> None:
        """One call for up to 262,144 words."""
        self._client.write(self._rows(blocks), words)

    def flip_blocks(self, blocks: Sequence[Block], flips: Words, clears: Words) -> None:
        """One call for up to 262,144 words: read, changed and written on the server's side."""
        self._client.flip(self._rows(blocks), flips, clears if clears.any() else None)

    def differing_words(self, blocks: Sequence[Block], words: Words) -> npt.NDArray[np.int64]:
        """One call for up to 262,144 words: compared on the server's side."""
        return self._client.check(self._rows(blocks), words)[0]

    def close(self) -> None:
        """The lease is released, so that the next client need not wait."""
        self._keeper.close()
        self._client.close()

    def _rows(self, blocks: Sequence[Block]) -> list[Rows]:
        start = self._places.accelerator
        return [
            Rows(start + block.place.base, block.place.word_stride, block.place.segments, block.rows)
            for block in blocks
        ]


class AgentLink:
    """Through the stock PYNQ client, which lives in .venv-board and is asked over pipes; a call a word."""

    def __init__(self, host: str, port: int, bit: Path) -> None:
        python = board_python()
        if python is None:
            raise BoardError("the PYNQ client's environment .venv-board must be there, got none; run make setup")
        self._opening = (host, port, str(bit))
        self._messages = TemporaryDirectory(prefix="bitward-agent-")  # a build may be read-only
        log = Path(self._messages.name) / "agent.log"
        self._agent = AgentClient(popen([python, *AGENT_ARGUMENTS], log=log), log=log)

    @property
    def board(self) -> str:
        """What the board calls itself, once the overlay is loaded."""
        return self._agent.board

    @property
    def is_simulated(self) -> bool:
        """By its name: the stock protocol does not say."""
        return "virtual" in self.board

    def load(self) -> None:
        """The agent opens the board anew."""
        self._agent.open(*self._opening)

    def read(self, address: int, count: int) -> Sequence[int]:
        """A call a word."""
        return self._agent.read(address, count).tolist()

    def write(self, address: int, words: Sequence[int]) -> None:
        """One call."""
        self._agent.write(address, np.array(words, dtype=np.uint32))

    def infer(self, data: bytes, out_bytes: int) -> bytes:
        """The stock client's own DMA driver."""
        return self._agent.infer(data, out_bytes)

    def close(self) -> None:
        """The agent has ended."""
        self._agent.close()
        self._messages.cleanup()
