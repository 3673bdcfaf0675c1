# SPDX-License-Identifier: Apache-2.0
"""One holder of the board at a time: a lease that expires, with a fencing number that only grows.

A client of our extension acquires a lease and sends its fence with each call. A stock PYNQ client cannot: its lease is
its gRPC peer, taken by its first call where the board is free. Each call renews the lease; it never expires while a
call of its holder is waiting or running, so nothing is done in the name of somebody who has lost it.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from .refusals import LeaseError, RequestError

IDLE_S = 3.0  # after which the lease of a silent stock client may be taken
MAX_SECONDS = 600.0
NAME = re.compile(r"[\w .:@/-]{1,64}")


@dataclass
class Lease:
    """Who holds the board. The fence tells one holder's state (windows, buffers) from the next one's."""

    fence: int
    holder: str
    peer: str
    seconds: float  # of silence that it lasts
    is_explicit: bool  # acquired, not taken by a stock client's first call
    ends: float = 0.0
    running: int = 0  # calls that wait or run


class Leases:
    """The lease of one board, for many threads; `clock` counts seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._lease: Lease | None = None
        self._fence = time.time_ns()  # a fence from before a restart is below every new one

    def acquire(self, holder: str, seconds: float, peer: str) -> Lease:
        """The lease is `holder`'s; LeaseError where the board is another's. A stock client's own becomes explicit."""
        if not NAME.fullmatch(holder):
            raise RequestError(
                f"a holder must be named with 1 to 64 letters, digits, spaces or .:@/_-, got {holder[:70]!r}; rename it"
            )
        if not 0 < seconds <= MAX_SECONDS:
            raise RequestError(f"a lease must be for 0 to {MAX_SECONDS:g} s, got {seconds:g}; renew it instead")
        with self._lock:
            lease = self._lease
            if lease and not lease.is_explicit and lease.peer == peer:
                lease.holder, lease.seconds, lease.is_explicit = holder, seconds, True
            elif lease is None or self._is_free():
                lease = self._grant(holder, seconds, peer, is_explicit=True)
            else:
                raise self._held(lease)
            lease.ends = self._clock() + lease.seconds
            return lease

    def renew(self, fence: int) -> Lease:
        """The lease lasts its seconds from now on; LeaseError where it has ended."""
        with self._lock:
            lease = self._current(fence)
            lease.ends = self._clock() + lease.seconds
            return lease

    def release(self, fence: int) -> None:
        """The board is free; LeaseError where the lease is another's by now."""
        with self._lock:
            if self._lease is None or self._lease.fence != fence:
                raise self._ended(fence)
            self._lease = None

    def check_fence(self, fence: int) -> None:
        """LeaseError unless the lease of this fence holds."""
        with self._lock:
            self._current(fence)

    def check_peer(self, peer: str) -> None:
        """LeaseError where the board is another's than this stock client's."""
        with self._lock:
            lease = self._lease
            if lease is not None and lease.peer != peer and not self._is_free():
                raise self._held(lease)

    @contextmanager
    def by_fence(self, fence: int) -> Iterator[Lease]:
        """Inside, the lease cannot end; LeaseError where it has."""
        with self._lock:
            lease = self._current(fence)
            lease.running += 1
        yield from self._during(lease)

    @contextmanager
    def by_peer(self, peer: str) -> Iterator[Lease]:
        """The same for a stock client, which takes the lease where the board is free."""
        with self._lock:
            lease = self._lease
            if lease is not None and lease.peer != peer and not self._is_free():
                raise self._held(lease)
            if lease is None or lease.peer != peer:
                lease = self._grant(f"PYNQ client {peer}", IDLE_S, peer, is_explicit=False)
            lease.running += 1
        yield from self._during(lease)

    def now(self) -> tuple[str, float]:
        """The holder and the seconds until its lease ends if it stays silent; ("", 0) where the board is free."""
        with self._lock:
            if self._lease is None or self._is_free():
                return "", 0.0
            return self._lease.holder, self._left(self._lease)

    def _during(self, lease: Lease) -> Iterator[Lease]:
        try:
            yield lease
        finally:
            with self._lock:
                lease.running -= 1
                lease.ends = self._clock() + lease.seconds

    def _grant(self, holder: str, seconds: float, peer: str, is_explicit: bool) -> Lease:
        self._fence += 1
        self._lease = Lease(self._fence, holder, peer, seconds, is_explicit)
        return self._lease

    def _is_free(self) -> bool:
        lease = self._lease
        return lease is None or (lease.running == 0 and self._clock() >= lease.ends)

    def _left(self, lease: Lease) -> float:
        return lease.seconds if lease.running else max(lease.ends - self._clock(), 0.0)

    def _current(self, fence: int) -> Lease:
        if self._lease is None or self._lease.fence != fence or self._is_free():
            raise self._ended(fence)
        return self._lease

    def _held(self, lease: Lease) -> LeaseError:
        return LeaseError(
            f"the board must be free or yours, got one held by {lease.holder} for {self._left(lease):.1f} s more; "
            "wait, or end that client"
        )

    def _ended(self, fence: int) -> LeaseError:
        by = "free" if self._lease is None or self._is_free() else f"held by {self._lease.holder}"
        return LeaseError(f"a call must carry the fence of the present lease, got {fence} and a board {by}; acquire it")
