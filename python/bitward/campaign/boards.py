# SPDX-License-Identifier: Apache-2.0
"""One campaign on several boards: chunks of trial numbers go to whoever is free, a lost board's to the others.

Each board has a process of its own, which asks for the next chunk when it has done one. A trial is the same wherever it
is run, so the table is what one board alone would give.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from bitward.campaign.plan import Campaign
from bitward.campaign.session import Events, Restored, Session, SetAside, TargetFactory, Trials, chunks, in_batches
from bitward.campaign.workers import END_S, Ended, Failed, end, started, tell
from bitward.errors import BoardError, LostBoardError

CHUNK_TRIALS = 16  # trials that a board is given at a time: what the others may have to do for it


@dataclass(frozen=True)
class _Free:
    """A board has done its chunk."""


@dataclass(frozen=True)
class _Lost:
    why: str


@dataclass
class _Board:
    """A board at work: `left` are the trials of its chunk that have not come in; None when it has no chunk."""

    name: str
    process: BaseProcess
    left: dict[int, None] | None = field(default_factory=dict)  # ordered; at first it opens its target


def from_boards(
    campaign: Campaign,
    factories: Mapping[str, TargetFactory],
    numbers: Iterable[int],
    stopped: Callable[[], bool] = lambda: False,
    chunk_trials: int = CHUNK_TRIALS,
) -> Events:
    """Ready, Trials and Restored of all boards as they come in; after `stopped()` no trial is begun.

    A board that raises a BoardError, or whose process dies, is set aside, and the others do what it left.
    LostBoardError when none is left to do the trials, or to read its memories back; any other error of a board is
    raised here.
    """
    pool = _Pool(campaign, factories, chunks(numbers, chunk_trials))
    try:
        while pool.running:
            if stopped():
                pool.stop()
            pool.deal()
            for connection in wait(list(pool.running)):
                if isinstance(connection, Connection):
                    yield from pool.hear(connection)
        pool.check()
    finally:
        end([board.process for board in pool.all.values()])


class _Pool:
    """Who is at what."""

    def __init__(self, campaign: Campaign, factories: Mapping[str, TargetFactory], rest: Iterator[list[int]]) -> None:
        self._rest = rest
        self._returned: deque[list[int]] = deque()
        self._lost: dict[str, str] = {}
        self._are_restored = False
        self.all: dict[Connection, _Board] = {}
        for name, factory in factories.items():
            connection, process = started(_work_at, campaign, factory)
            self.all[connection] = _Board(name, process)
        self.running = set(self.all)
        self._told: set[Connection] = set()

    def stop(self) -> None:
        """Nothing is left to do, and everybody is told: a board at work ends its chunk early."""
        self._rest = iter(())
        self._returned.clear()
        self._tell(self.running)

    def deal(self) -> None:
        """Boards that are free have a chunk, or know that there will be none."""
        free = [each for each in self.running - self._told if self.all[each].left is None]
        for connection in free:
            chunk = self._returned.popleft() if self._returned else next(self._rest, None)
            if chunk is not None:
                self.all[connection].left = dict.fromkeys(chunk)
                self._send(connection, chunk)
        if all(self.all[each].left is None for each in self.running):
            self._tell(self.running)

    def hear(self, connection: Connection) -> Iterator[Any]:
        """What a board says, for whoever counts."""
        board = self.all[connection]
        try:
            event = connection.recv()
        except (EOFError, ConnectionResetError):
            board.process.join(END_S)
            event = _Lost(f"its process ended with exit code {board.process.exitcode}")
        if isinstance(event, Failed):
            raise event.error
        if isinstance(event, _Lost):
            yield self._set_aside(connection, event.why)
        elif isinstance(event, _Free):
            board.left = None
        elif isinstance(event, Ended):
            self.running.discard(connection)
        else:
            if isinstance(event, Trials) and board.left is not None:
                for trial in event.trials:
                    board.left.pop(trial.trial)
            self._are_restored |= isinstance(event, Restored)
            yield event

    def check(self) -> None:
        """LostBoardError where no board was left at the end."""
        if not self._are_restored:
            why = "; ".join(f"{name}: {why}" for name, why in self._lost.items())
            raise LostBoardError(
                f"one board of {len(self.all)} must be left to end the campaign, got none ({why}): mend one, and start "
                "again to go on where it stopped"
            )

    def _set_aside(self, connection: Connection, why: str) -> SetAside:
        board = self.all[connection]
        self.running.discard(connection)
        self._lost[board.name] = why
        if board.left:
            self._returned.append(list(board.left))
        return SetAside(board.name, why)

    def _send(self, connection: Connection, chunk: list[int]) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # it is lost: what it says last, or its end, comes next
            connection.send(chunk)

    def _tell(self, connections: set[Connection]) -> None:
        tell(connections - self._told)
        self._told |= connections


def _work_at(connection: Connection, campaign: Campaign, factory: TargetFactory) -> None:
    """The process of a board: chunks come in until there is None, events go out."""
    try:
        with closing(Session(campaign, factory)) as session:
            connection.send(session.ready)
            connection.send(_Free())
            while (chunk := connection.recv()) is not None:
                for event in in_batches(session.trials(chunk, connection.poll)):
                    if isinstance(event, Trials):
                        connection.send(event)
                connection.send(_Free())
            connection.send(Restored(session.unrestored()))
        connection.send(Ended())
    except BoardError as error:
        connection.send(_Lost(str(error)))
