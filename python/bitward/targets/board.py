# SPDX-License-Identifier: Apache-2.0
"""A board as a target, virtual or real: faults and images go over AXI, through the server that the board runs.

Where the server has our extension, a trial's faults are one call, and nothing but grpcio is needed. Where it has not,
the stock PYNQ client does the same word by word, in an agent process of `.venv-board`. Without a host, a virtual board
is started for the target and ended with it.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from bitward_runtime.connection import Connection, Credentials
from bitward_runtime.extension_client import ExtensionClient, LostError
from bitward_runtime.scrub import Pass
from bitward_runtime.server import Server
from bitward_virtual.board import VirtualBoard
from bitward_virtual.emulate import overlay_of, virtual_board

from bitward.errors import BoardError, ConfigError, LostBoardError
from bitward.faults import Trial
from bitward.hardware.vivado_reports import RECORD
from bitward.targets import Outcome
from bitward.targets._axi import AxiTarget
from bitward.targets._blocks import Block, Hit, Words, block_of, hits_of
from bitward.targets._links import AgentLink, ExtensionLink, Link
from bitward.targets.deadline import DeadlineError, deadline

log = logging.getLogger(__name__)

OPENED_WITHIN_S = 15.0  # in which a server that is starting again must be there
REVIVED_WITHIN_S = 60.0  # in which a server that was lost must be there again
TRY_AGAIN_S = 1.0
RETRIES_IN_A_ROW = 3  # trials that succeeded only at the second attempt; then the board is set aside


class BoardTarget(AxiTarget):
    """The design in a build directory, on the board at `host`:`port`; None starts a virtual board.

    `credentials` are for a server with TLS and a token. Without `load`, the board is taken as it is, upsets and all: it
    must have the overlay loaded. `retries` counts the trials that were run a second time.
    """

    limits_attempts = True  # a trial's second attempt, and what is done to the board before it, has its own time

    def __init__(
        self,
        build_dir: str | Path,
        host: str | None = None,
        port: int = 7967,
        credentials: Credentials | None = None,
        load: bool = True,
    ) -> None:
        super().__init__(build_dir)
        self._host, self._port, self._credentials = host, port, credentials
        self._loads = load
        self._board: VirtualBoard | None = None
        self._server: Server | None = None
        self._link: Link | None = None
        self._retries_in_a_row = 0
        self._canary: tuple[npt.NDArray[Any], npt.NDArray[Any]] | None = None  # an image and its golden outputs
        self.retries = 0

    def open(self) -> None:
        bit = overlay_of(self.build_dir).resolve()
        host, port = (self._host, self._port) if self._host is not None else self._start_virtual()
        self._link = self._awaited(host, port, bit)
        if self._loads:
            self._load()
        else:
            self._take()

    def close(self) -> None:
        if self._link is not None:
            self._link.close()
        if self._server is not None:
            self._server.stop()
        if self._board is not None:
            self._board.close()
        self._link = self._server = self._board = None

    @property
    def address(self) -> str:
        return str(Connection(self._host, self._port))

    @property
    def name(self) -> str:
        """What the board calls itself; a virtual one says so."""
        return self._open.board

    @property
    def is_simulated(self) -> bool:
        """Whether the board says that no hardware is there."""
        return self._open.is_simulated

    def read_file(self, path: str) -> bytes:
        """A system file of the board; BoardError where its server does not show it, or has no extension."""
        link = self._open
        if not isinstance(link, ExtensionLink):
            raise BoardError(f"{path} must be read through bitward's extension, got a server without: run bitward's")
        return link.read_file(path)

    def scrub_pass(self) -> Pass | None:
        """A pass on the server's side, timed by its clock; None where it has no extension."""
        link = self._open
        if not isinstance(link, ExtensionLink):
            return None
        done = link.scrub(self.manifest)
        self._stale.update(each.memory for each in done.memories if each.written)
        return done

    def identify(self) -> None:
        super().identify()
        wanted, register = _build_id(self.build_dir), self.manifest.registers.get("build_id")
        if wanted is not None and register is not None:
            (found,) = self._read_words(register, 1)
            if found != wanted:
                raise BoardError(
                    f"the loaded bitstream must be build 0x{wanted:08x} of {self.build_dir}, got build 0x{found:08x}; "
                    "use the overlay that was made with this build.json"
                )

    def outcomes(self, images: npt.NDArray[Any], trials: Sequence[Trial]) -> Iterator[Outcome]:
        """As every target's; and after each trial the rows it hit are read back and a canary image is inferred.

        A trial that ends in a BoardError (the board is lost, or it does not answer in time), or takes longer than
        `limit_s`, is run once more on the board loaded anew and golden; `first_failure` says why. A second failure is
        the trial's own. LostBoardError is not: the board could not be brought back, or too many trials in a row
        needed it.
        """
        self._canary = self._make_canary(images) if len(images) else None
        for faults in trials:
            self.first_failure = self.aftermath = None
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
        try:
            return images[:1], self.infer(images[:1])
        except BoardError as error:  # no trial was begun: this is no trial's outcome
            raise LostBoardError(f"a board loaded anew must infer the canary image, got: {error}") from error

    def _twice(self, images: npt.NDArray[Any], hits: Sequence[Hit]) -> npt.NDArray[Any]:
        """The outputs under the faults, at the second attempt if need be."""
        try:
            outputs = self._attempt(images, hits)
            self._retries_in_a_row = 0
            return outputs
        except (BoardError, DeadlineError) as error:
            if self._retries_in_a_row >= RETRIES_IN_A_ROW:
                raise LostBoardError(
                    f"at most {RETRIES_IN_A_ROW} trials in a row must need a second attempt, got one more ({error}); "
                    "set this board aside"
                ) from error
            log.warning(
                "a trial of %d rows failed (%s): it is run once more", sum(len(h.block.rows) for h in hits), error
            )
            self.first_failure = str(error)
        self.retries += 1
        self._revive()
        try:
            outputs = self._attempt(images, hits)
        except (BoardError, DeadlineError):
            self._revive()
            raise
        self._retries_in_a_row += 1
        return outputs

    def _attempt(self, images: npt.NDArray[Any], hits: Sequence[Hit]) -> npt.NDArray[Any]:
        """The outputs under the faults; what stays wrong afterwards costs a load, not the verdict."""
        with deadline(self.limit_s):
            outputs = self._under(images, hits)
        self.aftermath = self._found_wrong([hit.block for hit in hits])
        if self.aftermath is not None:
            log.warning("%s: the overlay is loaded anew", self.aftermath)
            self._revive()
        return outputs

    def _found_wrong(self, blocks: Sequence[Block]) -> str | None:
        """What read-back of the blocks and the canary image show; None where all is as it was."""
        if blocks and len(self._differing_words(blocks, self._golden_words(blocks))):
            return "a row of the last trial stayed wrong"
        if self._canary is not None and not np.array_equal(self.infer(self._canary[0]), self._canary[1]):
            return "the canary image is wrong after the last trial"
        return None

    def _revive(self) -> None:
        """The board is connected, loaded and golden again; LostBoardError where that fails for a minute."""
        ends, level = time.monotonic() + REVIVED_WITHIN_S, logging.WARNING
        while True:
            try:
                self._load_anew()
                return
            except BoardError as error:
                if time.monotonic() > ends:
                    raise LostBoardError(
                        f"the board must be golden again within {REVIVED_WITHIN_S:g} s, got: {error}"
                    ) from error
                log.log(level, "the board is not back yet: %s", error)
                level = logging.DEBUG  # once is enough
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

    def _take(self) -> None:
        """The board is the manifest's, and is left as it is: whatever its memories hold may be in flight."""
        link = self._open
        if not isinstance(link, ExtensionLink):
            raise BoardError("a board that is taken as it is must have bitward's extension, got none; let it be loaded")
        link.check_loaded()
        self.identify()
        self._stale.update(memory.name for memory in self.manifest.memories)

    def _awaited(self, host: str, port: int, bit: Path) -> Link:
        """The board is held; a server that is starting again is waited for. LostError where it does not come."""
        ends, is_told = time.monotonic() + OPENED_WITHIN_S, False
        while True:
            try:
                return self._linked(host, port, bit)
            except LostError as error:
                if time.monotonic() + TRY_AGAIN_S > ends:
                    raise LostError(f"{error} (asked for {OPENED_WITHIN_S:g} s)") from error
                if not is_told:
                    log.warning("%s:%d does not answer yet: asked again for %g s", host, port, OPENED_WITHIN_S)
                    is_told = True
            time.sleep(TRY_AGAIN_S)

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


def _build_id(build_dir: Path) -> int | None:
    """The build id that Vivado's run wrote into registers and record; None for a build that Vivado did not make.

    BoardError where the record is there and has none that can be read.
    """
    path = build_dir / "build.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8")).get(RECORD) if path.is_file() else None
        return None if record is None else int(record["build_id"], 16)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BoardError(
            f"{path} must say the bitstream's build id, got {error!r}; make the bitstream again"
        ) from error
