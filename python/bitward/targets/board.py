# SPDX-License-Identifier: Apache-2.0
"""A board as a target, virtual or real: faults and images go over AXI, through the server that the board runs.

Where the server has our extension, a trial's faults are one call, and nothing but grpcio is needed. Where it has not,
the stock PYNQ client does the same word by word, in an agent process of `.venv-board`. Without a host, a virtual board
is started for the target and ended with it.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from bitward_runtime.extension_client import Credentials, ExtensionClient
from bitward_runtime.server import Server
from bitward_virtual.board import VirtualBoard
from bitward_virtual.emulate import overlay_of, virtual_board

from bitward.errors import BoardError, ConfigError, LostBoardError
from bitward.faults import Trial
from bitward.targets import Outcome
from bitward.targets._axi import AxiTarget
from bitward.targets._blocks import Block, Hit, Words, block_of, hits_of
from bitward.targets._links import AgentLink, ExtensionLink, Link

log = logging.getLogger(__name__)

REVIVED_WITHIN_S = 60.0  # in which a server that was lost must be there again
TRY_AGAIN_S = 1.0
RETRIES_IN_A_ROW = 3  # trials that succeeded only at the second attempt; then the board is set aside


class BoardTarget(AxiTarget):
    """The design in a build directory, on the board at `host`:`port`; None starts a virtual board.

    `credentials` are for a server with TLS and a token. `retries` counts the trials that were run a second time.
    """

    def __init__(
        self, build_dir: str | Path, host: str | None = None, port: int = 7967, credentials: Credentials | None = None
    ) -> None:
        super().__init__(build_dir)
        self._host, self._port, self._credentials = host, port, credentials
        self._board: VirtualBoard | None = None
        self._server: Server | None = None
        self._link: Link | None = None
        self._retries_in_a_row = 0
        self._canary: tuple[npt.NDArray[Any], npt.NDArray[Any]] | None = None  # an image and its golden outputs
        self.retries = 0

    def open(self) -> None:
        bit = overlay_of(self.build_dir).resolve()
        host, port = (self._host, self._port) if self._host is not None else self._start_virtual()
        self._link = self._linked(host, port, bit)
        self._load()

    def close(self) -> None:
        if self._link is not None:
            self._link.close()
        if self._server is not None:
            self._server.stop()
        if self._board is not None:
            self._board.close()
        self._link = self._server = self._board = None

    @property
    def name(self) -> str:
        """What the board calls itself; a virtual one says so."""
        return self._open.board

    def outcomes(self, images: npt.NDArray[Any], trials: Sequence[Trial]) -> Iterator[Outcome]:
        """As every target's; and after each trial the rows it hit are read back and a canary image is inferred.

        A trial that ends in a BoardError (the board is lost, or it does not answer in time) is run once more on the
        board loaded anew and golden. A second BoardError is the trial's own. LostBoardError is not: the board could
        not be brought back, or too many trials in a row needed it.
        """
        self._canary = self._make_canary(images) if len(images) else None
        for faults in trials:
            hits = hits_of(faults, self.manifest)
            started = time.perf_counter()
            outputs = self._twice(images, hits)
            yield Outcome(outputs, "full", time.perf_counter() - started)

    def _make_canary(self, images: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """The first image and its outputs on a board that is golden; at the second attempt if need be."""
        if self._canary is not None and np.array_equal(self._canary[0], images[:1]):
            return self._canary
        self._canary = None
        try:
            return images[:1], self.infer(images[:1])
        except BoardError as error:
            log.warning("the canary image failed (%s): the overlay is loaded anew", error)
        self._revive()
        return images[:1], self.infer(images[:1])

    def _twice(self, images: npt.NDArray[Any], hits: Sequence[Hit]) -> npt.NDArray[Any]:
        """The outputs under the faults, at the second attempt if need be."""
        try:
            outputs = self._attempt(images, hits)
            self._retries_in_a_row = 0
            return outputs
        except BoardError as error:
            if self._retries_in_a_row >= RETRIES_IN_A_ROW:
                raise LostBoardError(
                    f"at most {RETRIES_IN_A_ROW} trials in a row must need a second attempt, got one more ({error}); "
                    "set this board aside"
                ) from error
            log.warning(
                "a trial of %d rows failed (%s): it is run once more", sum(len(h.block.rows) for h in hits), error
            )
        self.retries += 1
        self._revive()
        try:
            outputs = self._attempt(images, hits)
        except BoardError:
            self._revive()
            raise
        self._retries_in_a_row += 1
        return outputs

    def _attempt(self, images: npt.NDArray[Any], hits: Sequence[Hit]) -> npt.NDArray[Any]:
        """The outputs under the faults; what stays wrong afterwards costs a load, not the verdict."""
        outputs = self._under(images, hits)
        blocks = [hit.block for hit in hits]
        if blocks and len(self._differing_words(blocks, self._golden_words(blocks))):
            log.warning("a row of the last trial stayed wrong: the overlay is loaded anew")
            self._revive()
        elif self._canary is not None and not np.array_equal(self.infer(self._canary[0]), self._canary[1]):
            log.warning("the canary image is wrong after the last trial: the overlay is loaded anew")
            self._revive()
        return outputs

    def _revive(self) -> None:
        """The board is connected, loaded and golden again; LostBoardError where that fails for a minute."""
        ends = time.monotonic() + REVIVED_WITHIN_S
        while True:
            try:
                self._load_anew()
                return
            except BoardError as error:
                if time.monotonic() > ends:
                    raise LostBoardError(
                        f"the board must be golden again within {REVIVED_WITHIN_S:g} s, got: {error}"
                    ) from error
                log.warning("the board is not back yet: %s", error)
            time.sleep(TRY_AGAIN_S)

    def _load_anew(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()
        host, port = (self._host, self._port)
        if self._server is not None:
            host, port = self._server.host, self._server.port
        self._link = self._linked(host or "", port, overlay_of(self.build_dir).resolve())
        self._load()
        blocks = [block_of(self.manifest, memory.name) for memory in self.manifest.memories]
        wrong = len(self._differing_words(blocks, self._golden_words(blocks)))
        if wrong:
            raise BoardError(f"a board loaded anew must hold the golden image, got {wrong} other words; load it again")
        if self._canary is not None and not np.array_equal(self.infer(self._canary[0]), self._canary[1]):
            raise BoardError("a board loaded anew must compute what it did before, got other outputs; load it again")

    def _load(self) -> None:
        """The overlay is loaded and identified; UltraRAM, which a bitstream cannot fill, is written and verified."""
        self._open.load()
        self._images_per_transfer = 0
        self._stale.clear()
        self.identify()
        for memory in self.manifest.memories:
            if memory.hardware is not None and memory.hardware.ram_style == "ultra":
                blocks = [block_of(self.manifest, memory.name)]
                self._write_blocks(blocks, self._golden_words(blocks))
                self._stale.add(memory.name)
                wrong = len(self._differing_words(blocks, self._golden_words(blocks)))
                if wrong:
                    raise BoardError(
                        f"UltraRAM {memory.name} must hold what was written, got {wrong} other words; load it again"
                    )

    def _linked(self, host: str, port: int, bit: Path) -> Link:
        """The board is held: through the extension where its server has it."""
        client = ExtensionClient.connect(host, port, self._credentials)
        try:
            hello = client.hello()
            if hello is not None:
                log.info("%s at %s:%d: through bitward's extension", hello.board, host, port)
                return ExtensionLink(client, bit, f"bitward {self.manifest.design} {os.getpid()}")
        except BaseException:
            client.close()
            raise
        client.close()
        log.info("the board at %s:%d has no extension of bitward's: through the stock PYNQ client", host, port)
        return AgentLink(host, port, bit)

    def _start_virtual(self) -> tuple[str, int]:
        """Host and port of a virtual board of this build. It lives in this process, so that it cannot outlive it."""
        self._board = virtual_board(self.build_dir)
        self._server = Server(self._board, port=0)
        return self._server.host, self._server.port

    def _read_words(self, address: int, count: int) -> Sequence[int]:
        return self._open.read(address, count)

    def _write_words(self, address: int, words: Sequence[int]) -> None:
        self._open.write(address, words)

    def _transfer(self, data: bytes, out_bytes: int) -> bytes:
        return self._open.infer(data, out_bytes)

    def _read_blocks(self, blocks: Sequence[Block]) -> Words:
        link = self._open
        return link.read_blocks(blocks) if isinstance(link, ExtensionLink) else super()._read_blocks(blocks)

    def _write_blocks(self, blocks: Sequence[Block], words: Words) -> None:
        link = self._open
        if isinstance(link, ExtensionLink):
            link.write_blocks(blocks, words)
        else:
            super()._write_blocks(blocks, words)

    def _flip_blocks(self, blocks: Sequence[Block], flips: Words, clears: Words) -> None:
        link = self._open
        if isinstance(link, ExtensionLink):
            link.flip_blocks(blocks, flips, clears)
        else:
            super()._flip_blocks(blocks, flips, clears)

    def _differing_words(self, blocks: Sequence[Block], words: Words) -> npt.NDArray[np.int64]:
        link = self._open
        if isinstance(link, ExtensionLink):
            return link.differing_words(blocks, words)
        return super()._differing_words(blocks, words)

    @property
    def _open(self) -> Link:
        if self._link is None:
            raise ConfigError(f"the board of {self.build_dir} must be open, got a closed one; call open() first")
        return self._link
