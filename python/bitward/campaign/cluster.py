# SPDX-License-Identifier: Apache-2.0
"""The same campaign on Dask: chunks of trial numbers go to workers, here or on a cluster.

A worker fetches the campaign once and keeps its target open. When one is lost, Dask gives its chunk to another: no more
than that chunk is computed again, and the table stays what it is.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from bitward.campaign.plan import Campaign
from bitward.campaign.session import Events, Ready, Restored, Session, TargetFactory, Trials, chunks
from bitward.campaign.trial import Trial
from bitward.errors import ToolError
from bitward.signals import whole

LOCAL = "local"
CHUNK_TRIALS = 64  # trials of a task: what a lost worker costs
AHEAD = 2  # chunks that a worker has waiting or in work, so that it never waits for the next
START_S = 60  # what a scheduler and its first worker may take to answer
LARGE = "1GB"  # a campaign carries its memories' images; Dask would warn of 10 MB
_lock = threading.Lock()  # a target does one thing at a time, however many threads its worker has
_sessions: dict[str, tuple[str, Session]] = {}  # in a worker's process: by campaign, the run and its open target


@dataclass(frozen=True)
class _Done:
    """What came of a chunk. `ready` is there when the worker opened its target for it."""

    ready: Ready | None
    trials: Trials


@dataclass(frozen=True)
class _Work:
    """What every chunk needs: the campaign (by its fingerprint), the run of it, and how to make a target."""

    fingerprint: str
    run: str
    campaign: Campaign
    factory: TargetFactory


def from_cluster(
    campaign: Campaign,
    factory: TargetFactory,
    numbers: Iterable[int],
    fingerprint: str,
    scheduler: str,
    workers: int,
    stopped: Callable[[], bool] = lambda: False,
    chunk_trials: int = CHUNK_TRIALS,
) -> Events:
    """Ready, Trials and Restored as they come in; after `stopped()` no chunk is begun.

    `scheduler` is an address (tcp://host:port), or "local" for `workers` processes on this machine. ToolError where it
    does not answer, or chunks end their workers again and again; a BitwardError of a worker is raised here.
    """
    from distributed import as_completed

    work = _Work(fingerprint, uuid4().hex, campaign, factory)
    rest = chunks(numbers, chunk_trials)
    with _connected(scheduler, workers) as client:
        shared = client.submit(_same, work, pure=False)  # a task: made again elsewhere when its worker is lost
        waiting = as_completed(loop=client.loop)
        try:
            _begin(client, waiting, shared, rest)
            for future in waiting:
                done = _result(future)
                if done.ready is not None:
                    yield done.ready
                yield done.trials
                if not stopped():
                    _begin(client, waiting, shared, rest)
            for rows in client.run(_unrestored, fingerprint, work.run).values():
                if rows is not None:
                    yield Restored(rows)
        finally:
            with suppress(OSError, TimeoutError):  # the scheduler is gone, and its workers with it
                client.run(_close, fingerprint, work.run)


@contextmanager
def _connected(scheduler: str, workers: int) -> Iterator[Any]:
    """A client of the scheduler, with at least one worker."""
    import dask
    from distributed import Client, LocalCluster

    with ExitStack() as stack:
        stack.enter_context(dask.config.set({"distributed.admin.large-graph-warning-threshold": LARGE}))
        address: Any = scheduler
        if scheduler == LOCAL:
            with whole():  # Dask cannot close a cluster in order whose start was cut off
                cluster = LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    processes=True,
                    host="127.0.0.1",
                    dashboard_address="127.0.0.1:0",  # any free port: the scheduler's pages, for this machine alone
                    silence_logs=logging.CRITICAL,
                )
                stack.enter_context(cluster)
            address = cluster
        try:
            client = stack.enter_context(Client(address, timeout=START_S, set_as_default=False))
            client.wait_for_workers(1, timeout=START_S)
        except (OSError, TimeoutError, ValueError) as error:
            raise ToolError(
                f"the Dask scheduler must be {LOCAL}, or answer at tcp://host:port with a worker, got {scheduler}: "
                f"{str(error).splitlines()[0]}; start dask scheduler and dask worker first"
            ) from error
        yield client


def _begin(client: Any, waiting: Any, shared: Any, rest: Iterator[list[int]]) -> None:
    """Every worker has chunks waiting, as long as there are some; workers that joined are counted."""
    for _ in range(AHEAD * len(client.nthreads()) - waiting.count()):
        chunk = next(rest, None)
        if chunk is None:
            return
        waiting.add(client.submit(_attend, shared, chunk, pure=False))


def _result(future: Any) -> _Done:
    from distributed import KilledWorker

    try:
        done: _Done = future.result()
    except (KilledWorker, CancelledError) as error:
        raise ToolError(
            f"a chunk of trials must not end its workers, got {type(error).__name__}: start again to go on where it "
            "stopped, with fewer workers if memory was short"
        ) from error
    return done


def _same(work: _Work) -> _Work:
    """A task whose result every worker fetches once."""
    return work


def _attend(work: _Work, numbers: list[int]) -> _Done:
    """A chunk's trials on this worker's target, opened if need be."""
    with _lock:
        run, session = _sessions.get(work.fingerprint, ("", None))
        ready = None
        if session is None or run != work.run:
            if session is not None:  # left by a coordinator that was killed
                _sessions.pop(work.fingerprint)[1].close()
            session = Session(work.campaign, work.factory)
            _sessions[work.fingerprint] = work.run, session
            ready = session.ready
        return _Done(ready, Trials(tuple(each for each in session.trials(numbers) if isinstance(each, Trial))))


def _unrestored(fingerprint: str, run: str) -> tuple[str, ...] | None:
    """The rows of this worker's target that are not golden; None where it has none of this run."""
    with _lock:
        known, session = _sessions.get(fingerprint, ("", None))
        return session.unrestored() if session is not None and known == run else None


def _close(fingerprint: str, run: str) -> None:
    """This worker's target of the run is closed."""
    with _lock:
        if _sessions.get(fingerprint, ("", None))[0] == run:
            _sessions.pop(fingerprint)[1].close()
