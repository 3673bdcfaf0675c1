# SPDX-License-Identifier: Apache-2.0
"""What stands between gRPC and the board: token, limits, lease, the board's lock, deadlines, the audit log.

Every call goes the same way: the token is checked; the call is admitted, or refused where too many are under way; its
messages are received within limits of time and size; it enters the lease; it gets the board's lock before its deadline
or is never executed; its failures become gRPC statuses. All methods are served as streams, so that a client that opens
a call and sends nothing holds nobody but itself, and that no longer than `IDLE_S`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from bitward.errors import BitwardError

from .audit import Audit, shortened
from .backend import AddressError
from .lease import Lease, Leases
from .refusals import LateError, LimitError, RequestError, TokenError
from .security import check_token

MAX_MESSAGE_BYTES = 4 << 20  # what gRPC takes by default
MAX_STREAM_BYTES = 128 << 20  # of all messages of a call
MAX_MESSAGES = 65536  # of a call
MAX_CALLS = 24  # that are received, wait for the board, run or answer at once
RESERVED_WORKERS = 8  # for the health answer, and to refuse what is too much
IDLE_S = 5.0  # within which the next message of a call must come
RECEIVE_S = 60.0  # within which all of them must
SEND_S = 60.0  # within which an answer must be taken
WAIT_S = 600.0  # for the board, where the caller sets no deadline

STATUS: dict[type[BitwardError], grpc.StatusCode] = {  # the first that fits
    AddressError: grpc.StatusCode.OUT_OF_RANGE,
    RequestError: grpc.StatusCode.INVALID_ARGUMENT,
    LimitError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    LateError: grpc.StatusCode.DEADLINE_EXCEEDED,
    TokenError: grpc.StatusCode.UNAUTHENTICATED,
    BitwardError: grpc.StatusCode.FAILED_PRECONDITION,
}


class Rule(Enum):
    """How a method meets the lease."""

    FREE = "asks for nothing: it needs no lease, no message, and not the board"
    LEASE = "is about the lease itself, not about the board"
    BESIDE = "carries the fence of its lease, and does not wait for the board"
    FENCED = "carries the fence of its lease in its first message"
    PEER = "is a stock client's: its lease is its gRPC peer"


@dataclass(frozen=True)
class Caller:
    """Who calls, and how many seconds the answer may take."""

    peer: str
    seconds: float


@dataclass(frozen=True)
class Method:
    """A method of a service: `call(message, caller)`, or messages where the client streams."""

    descriptor: Any
    call: Callable[[Any, Caller], Any]
    rule: Rule
    changes_board: bool

    @property
    def path(self) -> str:
        """As gRPC names it."""
        return f"/{self.descriptor.containing_service.full_name}/{self.descriptor.name}"


class Watchdog:
    """Ends calls that take longer than they may; checks a few times a second. Daemon thread, ends with `close`."""

    def __init__(self, every_s: float = 0.2) -> None:
        self._every_s = every_s
        self._watched: dict[object, tuple[float, grpc.ServicerContext]] = {}
        self._ended = threading.Event()
        threading.Thread(target=self._run, name="bitward-watchdog", daemon=True).start()

    @contextmanager
    def limit(self, context: grpc.ServicerContext, seconds: float) -> Iterator[None]:
        """Whatever is inside, the call is cancelled after `seconds`."""
        key = object()
        self._watched[key] = (time.monotonic() + seconds, context)
        try:
            yield
        finally:
            del self._watched[key]

    def close(self) -> None:
        """No call is ended any more."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.wait(self._every_s):
            now = time.monotonic()
            for ends, context in list(self._watched.values()):
                if now >= ends:
                    context.cancel()


class Guard:
    """The way to one board. `forget` is called, under the lock, before another holder's first call."""

    def __init__(
        self, leases: Leases, forget: Callable[[], None], audit: Audit | None = None, token: str | None = None
    ) -> None:
        self._leases = leases
        self._forget = forget
        self._audit = audit
        self._token = token
        self._board = threading.Lock()
        self._admitted = threading.BoundedSemaphore(MAX_CALLS)
        self._watchdog = Watchdog()
        self._owner = 0  # the fence of the holder whose windows and buffers the services hold

    def close(self) -> None:
        """The watchdog has ended."""
        self._watchdog.close()

    def handler(self, service: str, methods: Sequence[Method]) -> grpc.GenericRpcHandler:
        """The methods as gRPC wants them; it answers UNIMPLEMENTED to all others."""
        return grpc.method_handlers_generic_handler(
            service, {method.descriptor.name: self._handle(method) for method in methods}
        )

    def _handle(self, method: Method) -> grpc.RpcMethodHandler:
        """Requests as raw bytes: what cannot be parsed is refused in a sentence, by us."""
        serialize = GetMessageClass(method.descriptor.output_type).SerializeToString

        def unary(requests: Iterator[bytes], context: grpc.ServicerContext) -> Any:
            with self._statuses(context), self._admit(method):
                return self._serve(method, requests, context)

        def stream(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[Any]:
            with self._statuses(context), self._admit(method):
                parts = self._serve(method, requests, context)
                with self._watchdog.limit(context, SEND_S):
                    yield from parts

        if method.descriptor.server_streaming:
            return grpc.stream_stream_rpc_method_handler(stream, response_serializer=serialize)
        return grpc.stream_unary_rpc_method_handler(unary, response_serializer=serialize)

    @contextmanager
    def _statuses(self, context: grpc.ServicerContext) -> Iterator[None]:
        try:
            yield
        except BitwardError as error:
            code = next(code for kind, code in STATUS.items() if isinstance(error, kind))
            context.abort(code, str(error))

    @contextmanager
    def _admit(self, method: Method) -> Iterator[None]:
        if method.rule is Rule.FREE:
            yield
            return
        if not self._admitted.acquire(blocking=False):
            raise LimitError(f"at most {MAX_CALLS} calls may be under way, got one more; call again when one has ended")
        try:
            yield
        finally:
            self._admitted.release()

    def _serve(self, method: Method, requests: Iterator[bytes], context: grpc.ServicerContext) -> Any:
        """The answer; what the call was and how it ended is in the audit log, whatever happens."""
        if self._audit is None or not method.changes_board:
            return self._execute(method, requests, context, [], {})
        messages: list[Any] = []
        entry: dict[str, Any] = {"holder": "", "fence": 0}
        outcome = "failed"
        try:
            answer = self._execute(method, requests, context, messages, entry)
            outcome = "done"
            return answer
        except BitwardError as error:
            outcome = str(error)
            raise
        finally:
            self._audit.record(
                peer=context.peer(), **entry, method=method.path, what=shortened(messages), outcome=outcome
            )

    def _execute(
        self,
        method: Method,
        requests: Iterator[bytes],
        context: grpc.ServicerContext,
        messages: list[Any],
        entry: dict[str, Any],
    ) -> Any:
        """The call from token to answer; fills in its messages and who holds the lease as they become known."""
        if self._token is not None:
            check_token(context.invocation_metadata(), self._token)
        if method.rule is Rule.FREE:
            return method.call(None, Caller(context.peer(), 0))
        if method.rule is Rule.PEER:
            self._leases.check_peer(context.peer())
        self._receive(method, requests, context, messages)
        message = messages if method.descriptor.client_streaming else messages[0]
        if method.rule is Rule.LEASE:
            return method.call(message, Caller(context.peer(), 0))
        if method.rule is Rule.BESIDE:
            with self._leases.by_fence(messages[0].fence):
                return method.call(message, Caller(context.peer(), 0))
        with self._lease(method, messages, context) as lease:
            entry.update(holder=lease.holder, fence=lease.fence)
            with self._turn(context, lease) as seconds:
                return method.call(message, Caller(context.peer(), seconds))

    def _lease(
        self, method: Method, messages: list[Any], context: grpc.ServicerContext
    ) -> AbstractContextManager[Lease]:
        if method.rule is Rule.FENCED:
            return self._leases.by_fence(messages[0].fence)
        return self._leases.by_peer(context.peer())

    def _receive(
        self, method: Method, requests: Iterator[bytes], context: grpc.ServicerContext, messages: list[Any]
    ) -> None:
        """`messages` has all of the call's; one where the client does not stream. LimitError, RequestError."""
        kind = GetMessageClass(method.descriptor.input_type)
        ends, size = time.monotonic() + RECEIVE_S, 0
        while True:
            with self._watchdog.limit(context, IDLE_S):
                data = next(requests, None)
            if data is None:
                break
            size += len(data)
            if size > MAX_STREAM_BYTES or len(messages) >= MAX_MESSAGES or time.monotonic() > ends:
                raise LimitError(
                    f"a call must have at most {MAX_STREAM_BYTES} bytes in {MAX_MESSAGES} messages within "
                    f"{RECEIVE_S:g} s, got more; send less at a time"
                )
            try:
                messages.append(kind.FromString(data))
            except DecodeError as error:
                raise RequestError(
                    f"a message to {method.path} must be a {kind.DESCRIPTOR.full_name}, got {len(data)} bytes that "
                    "are none; use this server's .proto files"
                ) from error
            if not method.descriptor.client_streaming:
                break
            if method.rule is Rule.FENCED and len(messages) == 1:
                self._leases.check_fence(messages[0].fence)  # before anything more is kept for it
        if not messages and not (method.rule is Rule.PEER and method.descriptor.client_streaming):
            raise RequestError(f"a call of {method.path} must carry a message, got none; send one")

    @contextmanager
    def _turn(self, context: grpc.ServicerContext, lease: Lease) -> Iterator[float]:
        """Inside, the board is this call's alone, for the seconds given; LateError where the caller waits no more."""
        remaining = context.time_remaining()
        seconds = WAIT_S if remaining is None else min(remaining, WAIT_S)
        ends = time.monotonic() + seconds
        if not self._board.acquire(timeout=seconds):
            raise LateError(f"the board must be free within {seconds:.1f} s, got one still busy; wait longer")
        try:
            left = ends - time.monotonic()
            if left <= 0 or not context.is_active():
                raise LateError("a call must be wanted when its turn comes, got one given up; it was not executed")
            if self._owner != lease.fence:
                self._forget()
                self._owner = lease.fence
            yield left
        finally:
            self._board.release()


def workers() -> futures.ThreadPoolExecutor:
    """Threads for all calls that may be under way, and some more."""
    return futures.ThreadPoolExecutor(MAX_CALLS + RESERVED_WORKERS, thread_name_prefix="bitward-call")
