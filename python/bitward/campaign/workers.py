# SPDX-License-Identifier: Apache-2.0
"""Generators that run in processes of their own, their events gathered into one iterator as they come.

Processes are spawned, not forked: a fork would copy simulators, threads and locks, and would keep the pipes of its
siblings open, so that they could not notice the parent's death.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from bitward.errors import BitwardError, ToolError

Event = TypeVar("Event")
END_S = 5.0  # what a process that was told to end may take


@dataclass(frozen=True)
class _Failed:
    error: BitwardError


@dataclass(frozen=True)
class _Ended:
    pass


def from_workers(
    generator: Callable[..., Iterator[Event]],
    shares: Sequence[tuple[Any, ...]],
    stopped: Callable[[], bool] = lambda: False,
) -> Generator[Event, None, None]:
    """The events of `generator(*share, told)` of every share, one process each, in the order they come in.

    Once `stopped()` is true, `told()` is in every process: they are to come to their end.

    `generator`, shares and events must be picklable. A BitwardError in one process is raised here, and ends the others,
    as does whatever ends this iterator; ToolError when one dies otherwise (its traceback is on stderr). A process whose
    parent was killed ends at its next event.
    """
    context = multiprocessing.get_context("spawn")
    processes: dict[Connection, BaseProcess] = {}
    try:
        for share in shares:
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, generator, share), daemon=True)
            process.start()
            theirs.close()  # else the pipe would stay open when the process dies
            processes[ours] = process
        running = set(processes)
        told: set[Connection] = set()
        while running:
            if stopped():
                _tell(running - told)
                told |= running
            for connection in [each for each in wait(list(running)) if isinstance(each, Connection)]:
                event = _receive(connection, processes[connection])
                if isinstance(event, _Ended):
                    running.discard(connection)
                else:
                    yield event
    finally:
        for each in processes.values():
            each.terminate()
        for each in processes.values():
            each.join(END_S)
            if each.is_alive():
                each.kill()


def _tell(connections: set[Connection]) -> None:
    """The processes behind the connections are to end."""
    for connection in connections:
        with suppress(BrokenPipeError, ConnectionResetError):  # it is at its end already
            connection.send(None)


def _receive(connection: Connection, process: BaseProcess) -> Any:
    try:
        event = connection.recv()
    except (EOFError, ConnectionResetError):
        process.join(END_S)
        raise ToolError(
            f"a worker process must end after its last trial, got exit code {process.exitcode}: start again to go on "
            "where it stopped, with fewer workers if memory was short"
        ) from None
    if isinstance(event, _Failed):
        raise event.error
    return event


def _work(connection: Connection, generator: Callable[..., Iterator[Any]], share: tuple[Any, ...]) -> None:
    """The main function of a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C goes to the whole group: the parent ends us in order
    with suppress(BrokenPipeError, ConnectionResetError):  # the parent was killed
        try:
            for event in generator(*share, connection.poll):
                connection.send(event)
            connection.send(_Ended())
        except BitwardError as error:
            connection.send(_Failed(error))
