# SPDX-License-Identifier: Apache-2.0
"""Generators that run in processes of their own, their events gathered into one iterator as they come.

Processes are spawned, not forked: a fork would copy simulators, threads and locks, and would keep the pipes of its
siblings open, so that they could not notice the parent's death.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Protocol, TypeVar

from bitward.errors import BitwardError, ToolError
from bitward.signals import whole

Event = TypeVar("Event")
END_S = 5.0  # what a process that was told to end may take


@dataclass(frozen=True)
class Failed:
    """What a process ended in: to be raised by whoever started it."""

    error: BitwardError


@dataclass(frozen=True)
class Ended:
    """A process has done everything, and given back what it took."""


@dataclass(frozen=True)
class _Worker:
    number: int
    process: BaseProcess


class Watching(Protocol[Event]):
    """Knows how long a worker may be silent; workers are known by the place of their share."""

    def heard(self, worker: int, event: Event) -> None:
        """An event came from the worker."""

    def left_s(self, worker: int) -> float | None:
        """Seconds until the worker must be ended; None where it may take its time."""

    def gave_up(self, worker: int) -> tuple[Event, Any]:
        """The worker was ended: an event that says so, and the share of the process that takes its place."""


def from_workers(
    generator: Callable[..., Iterator[Event]],
    shares: Sequence[Any],
    stopped: Callable[[], bool] = lambda: False,
    watch: Watching[Event] | None = None,
) -> Generator[Event, None, None]:
    """The events of `generator(share, told)` of every share, one process each, in the order they come in.

    Once `stopped()` is true, `told()` is in every process: they are to come to their end. A process that `watch` says
    has been silent for too long is killed, and another one begins with what is left of its share.

    `generator`, shares and events must be picklable. A BitwardError in one process is raised here, and ends the others,
    as does whatever ends this iterator; ToolError when one dies otherwise (its traceback is on stderr). A process whose
    parent was killed ends at its next event.
    """
    workers: dict[Connection, _Worker] = {}
    try:
        for number, share in enumerate(shares):
            workers.update(_started(number, generator, share))
        running = set(workers)
        told: set[Connection] = set()
        while running:
            if stopped():
                tell(running - told)
                told |= running
            ready = wait(list(running), _patience(watch, [workers[each].number for each in running]))
            for connection in [each for each in ready if isinstance(each, Connection)]:
                event = _receive(connection, workers[connection].process)
                if isinstance(event, Ended):
                    running.discard(connection)
                    continue
                if watch is not None:
                    watch.heard(workers[connection].number, event)
                yield event
            if watch is not None:
                for connection in _overdue(watch, workers, running):
                    running.discard(connection)
                    workers[connection].process.kill()
                    event, share = watch.gave_up(workers[connection].number)
                    fresh = _started(workers[connection].number, generator, share)
                    workers.update(fresh)
                    running |= set(fresh)
                    yield event
    finally:
        end([worker.process for worker in workers.values()])


def started(function: Callable[..., None], *arguments: Any) -> tuple[Connection, BaseProcess]:
    """A process that calls `function(its end of a pipe, *arguments)`, and our end of that pipe.

    A BitwardError in it is sent as Failed; it ends quietly when its parent is gone. All must be picklable.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, function, *arguments), daemon=True)
    with whole():
        process.start()
    theirs.close()  # else the pipe would stay open when the process dies
    return ours, process


def _started(number: int, generator: Callable[..., Iterator[Any]], share: Any) -> dict[Connection, _Worker]:
    """A process that works at a share, by our end of its pipe."""
    ours, process = started(_pump, generator, share)
    return {ours: _Worker(number, process)}


def _patience(watch: Watching[Any] | None, numbers: Sequence[int]) -> float | None:
    """How long to wait for the next event: until a worker is overdue."""
    left = [] if watch is None else [seconds for each in numbers if (seconds := watch.left_s(each)) is not None]
    return max(0.0, min(left)) if left else None


def _overdue(watch: Watching[Any], workers: dict[Connection, _Worker], running: set[Connection]) -> list[Connection]:
    """The workers whose time is up, and who have said nothing that nobody has heard yet."""
    left = {each: watch.left_s(workers[each].number) for each in running}
    return [each for each, seconds in left.items() if seconds is not None and seconds <= 0 and not each.poll()]


def end(processes: Sequence[BaseProcess]) -> None:
    """None of the processes is there any more."""
    for each in processes:
        each.terminate()
    for each in processes:
        each.join(END_S)
        if each.is_alive():
            each.kill()
            each.join()


def tell(connections: set[Connection]) -> None:
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
    if isinstance(event, Failed):
        raise event.error
    return event


def _work(connection: Connection, function: Callable[..., None], *arguments: Any) -> None:
    """The main function of a process."""
    with suppress(BrokenPipeError, ConnectionResetError, EOFError):  # the parent was killed
        try:
            function(connection, *arguments)
        except BitwardError as error:
            connection.send(Failed(error))


def _pump(connection: Connection, generator: Callable[..., Iterator[Any]], share: Any) -> None:
    """The events of a generator go out, and that it ended."""
    for event in generator(share, connection.poll):
        connection.send(event)
    connection.send(Ended())
