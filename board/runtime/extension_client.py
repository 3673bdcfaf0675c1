# SPDX-License-Identifier: Apache-2.0
"""A board through our extension of its server: needs grpcio and protobuf alone, no pynq and no agent process.

    client = ExtensionClient.connect("127.0.0.1", 7967)
    if client.hello() is not None:                     # None: a server without the extension
        with client.holding("my campaign"):
            client.flip([Rows(base, stride, segments, numbers)], masks)

BoardError, one sentence, where anything fails; the server's own sentences come as they are.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt

from bitward.errors import BoardError

from .connection import Connection, Credentials
from .diagnosis import trusted, why_not
from .proto import bitward_pb2
from .scrub import SCRUBBED_FIELDS, Pass, Scrubbed
from .security import HEADER, read_token

PROTOCOL = 2
NO_CONNECTION = "must answer, got no connection; is its server (`bitward emulate`) running, and the port right?"
LEASE_S = 10.0
LEASE_WITHIN_S = 15.0  # longer than a lease: one left behind by a process that was killed ends meanwhile
TRY_EVERY_S = 0.25
ANSWER_WITHIN_S = 600.0  # a simulated batch takes minutes at most; a board that hangs must not hang its host
DESK_WITHIN_S = 10.0  # hello, the lease and files: they do not wait for the board
CHUNK_BYTES = 1 << 20
OPTIONS = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))  # a connection, and so a peer, of its own
Words = npt.NDArray[np.uint32]


@dataclass(frozen=True)
class Rows:
    """Rows of `segments` words at `base + number * stride`: those numbered, or `count` from row 0 on."""

    base: int
    stride: int
    segments: int
    numbers: npt.NDArray[np.integer[Any]] | None = None
    count: int = 0

    @property
    def words(self) -> int:
        """Number of words."""
        return (self.count if self.numbers is None else len(self.numbers)) * self.segments

    def message(self) -> Any:
        """As the wire has it."""
        numbers = b"" if self.numbers is None else np.asarray(self.numbers).astype("<u4").tobytes()
        return bitward_pb2.Rows(
            base=self.base, stride=self.stride, segments=self.segments, numbers=numbers, count=self.count
        )


@dataclass(frozen=True)
class Hello:
    """What a server says of itself; `holder` is empty where the board is free."""

    board: str
    is_simulated: bool
    overlay: str
    overlay_sha256: str
    max_words: int
    holder: str
    seconds_left: float


class LostError(BoardError):
    """The server does not answer: it is gone, or it answers too late."""


class ExtensionClient:
    """Calls to the extension at one server. `fence` is of the lease that it holds; None: it holds none."""

    def __init__(
        self, channel: grpc.Channel, where: str, token: str | None = None, at: Connection | None = None
    ) -> None:
        self._channel = channel
        self._where = where
        self._at = at or Connection()
        self._metadata = ((HEADER, f"Bearer {token}"),) if token else None
        self._max_words = 1 << 16
        self.fence: int | None = None

    @classmethod
    def connect(cls, host: str, port: int, credentials: Credentials | None = None) -> ExtensionClient:
        """A client of the server at host:port; nothing is sent yet."""
        at = Connection(host, port, credentials)
        where = f"the board at {host}:{port}"
        if credentials is None:
            return cls(grpc.insecure_channel(str(at), options=OPTIONS), where, None, at)
        trust = grpc.ssl_channel_credentials(trusted(credentials.certificate))
        token = read_token(credentials.token_file)
        return cls(grpc.secure_channel(str(at), trust, options=OPTIONS), where, token, at)

    def hello(self, within_s: float = DESK_WITHIN_S) -> Hello | None:
        """What the server says of itself; None where it does not have the extension, LostError where it is silent.

        BoardError where it is there and client and server differ about TLS, or about who is to be trusted.
        """
        try:
            answer = self._ask("hello", bitward_pb2.HelloRequest(), within_s)
        except BoardError as error:
            if _code(error) is grpc.StatusCode.UNIMPLEMENTED:
                return None
            if _code(error) is grpc.StatusCode.UNAVAILABLE and (why := why_not(self._where, self._at)) is not None:
                raise why from error
            raise
        if answer.protocol != PROTOCOL:
            raise BoardError(
                f"{self._where} must speak protocol {PROTOCOL} of the extension, got {answer.protocol}; "
                "use the same version of bitward on both sides"
            )
        self._max_words = answer.max_words
        return Hello(
            answer.board, answer.simulated, answer.overlay, answer.overlay_sha256, answer.max_words, answer.holder,
            answer.seconds_left,
        )  # fmt: skip

    def acquire(self, holder: str, seconds: float = LEASE_S, within_s: float = LEASE_WITHIN_S) -> None:
        """The lease is held; where the board is another's, it is asked for again until `within_s` have passed."""
        ends = time.monotonic() + within_s
        request = bitward_pb2.AcquireRequest(holder=holder, seconds=seconds)
        while True:
            try:
                self.fence = self._ask("acquire", request, DESK_WITHIN_S).fence
                return
            except BoardError as error:
                if _code(error) is not grpc.StatusCode.FAILED_PRECONDITION or time.monotonic() > ends:
                    raise
            time.sleep(TRY_EVERY_S)

    def renew(self) -> None:
        """The lease lasts its seconds from now on."""
        self._ask("renew", bitward_pb2.RenewRequest(fence=self._held), DESK_WITHIN_S)

    def release(self) -> None:
        """The board is free; nothing happens where no lease is held."""
        if self.fence is not None:
            fence, self.fence = self.fence, None
            self._ask("release", bitward_pb2.ReleaseRequest(fence=fence), DESK_WITHIN_S)

    @contextmanager
    def holding(self, holder: str, seconds: float = LEASE_S, within_s: float = LEASE_WITHIN_S) -> Iterator[None]:
        """Inside, the lease is held and renewed, also while no call is made."""
        self.acquire(holder, seconds, within_s)
        keeper = Keeper(self, seconds / 3)
        try:
            yield
        finally:
            keeper.close()
            self.release()

    def read(self, rows: Sequence[Rows]) -> Words:
        """The words of all rows, group by group, row by row, lowest address first."""
        parts = []
        for part, _ in self._split(rows):
            request = bitward_pb2.ReadRequest(fence=self._held, rows=[each.message() for each in part])
            parts.append(_words(self._ask("read", request).words))
        return np.concatenate(parts) if parts else np.zeros(0, np.uint32)

    def write(self, rows: Sequence[Rows], words: Words) -> None:
        """The rows hold `words`, in the order in which `read` gives them."""
        for part, at in self._split(rows):
            request = bitward_pb2.WriteRequest(
                fence=self._held, rows=[each.message() for each in part], words=_packed(words[at])
            )
            self._ask("write", request)

    def flip(self, rows: Sequence[Rows], flips: Words, clears: Words | None = None) -> Words:
        """Each word is (word & ~clear) ^ flip; the words as they were are given. One call for up to 262,144 words."""
        parts = []
        for part, at in self._split(rows):
            request = bitward_pb2.FlipRequest(
                fence=self._held,
                rows=[each.message() for each in part],
                flips=_packed(flips[at]),
                clears=b"" if clears is None else _packed(clears[at]),
            )
            parts.append(_words(self._ask("flip", request).words))
        return np.concatenate(parts) if parts else np.zeros(0, np.uint32)

    def check(self, rows: Sequence[Rows], words: Words) -> tuple[npt.NDArray[np.int64], Words]:
        """(places, found): which of the rows' words are not `words`, counted from 0, and what they are."""
        places, found = [np.zeros(0, np.int64)], [np.zeros(0, np.uint32)]
        for part, at in self._split(rows):
            request = bitward_pb2.CheckRequest(
                fence=self._held, rows=[each.message() for each in part], words=_packed(words[at])
            )
            answer = self._ask("check", request)
            places.append(_words(answer.places).astype(np.int64) + at.start)
            found.append(_words(answer.words))
        return np.concatenate(places), np.concatenate(found)

    def scrub(self, manifest: str, base: int, memories: Sequence[str] = ()) -> Pass:
        """One pass over those memories of the manifest's design, or all with redundancy: read, voted, written there.

        `base` is of the accelerator's window; seconds are of the server's clock.
        """
        request = bitward_pb2.ScrubRequest(fence=self._held, manifest=manifest, base=base, memories=list(memories))
        answer = self._ask("scrub", request)
        return Pass(
            answer.seconds,
            tuple(Scrubbed(*(getattr(each, name) for name in SCRUBBED_FIELDS)) for each in answer.memories),
        )

    def read_file(self, path: str, within_s: float = DESK_WITHIN_S) -> bytes:
        """A system file of the board that its server shows; does not wait for calls that have the board."""
        return bytes(self._ask("readfile", bitward_pb2.FileRequest(fence=self._held, path=path), within_s).data)

    def infer(self, dma_base: int, stream: bytes, out_bytes: int, within_s: float = ANSWER_WITHIN_S) -> bytes:
        """The `out_bytes` that the accelerator streams back for `stream`."""
        fence = self._held

        def requests() -> Iterator[Any]:
            for at in range(0, max(len(stream), 1), CHUNK_BYTES):
                data = stream[at : at + CHUNK_BYTES]
                if at:
                    yield bitward_pb2.InferRequest(data=data)
                else:
                    yield bitward_pb2.InferRequest(fence=fence, dma_base=dma_base, out_bytes=out_bytes, data=data)

        return b"".join(part.data for part in self._ask("infer", requests(), within_s))

    def program(self, name: str, bitstream: bytes, handoff: bytes = b"", within_s: float = ANSWER_WITHIN_S) -> None:
        """The PL holds the bitstream: a .bit's body, byte-swapped as the FPGA manager takes it; and its .hwh."""
        fence = self._held

        def requests() -> Iterator[Any]:
            for at in range(0, max(len(bitstream), 1), CHUNK_BYTES):
                data = bitstream[at : at + CHUNK_BYTES]
                first = {"fence": fence, "name": name, "handoff": handoff}
                yield bitward_pb2.ProgramRequest(**({} if at else first), data=data)

        self._ask("program", requests(), within_s)

    def close(self) -> None:
        """The lease is given back, as far as the server can be reached, and the connection is closed."""
        try:
            self.release()
        except BoardError:
            pass  # a server that is gone has no lease to give back, and a lease that ended is back already
        self._channel.close()

    @property
    def _held(self) -> int:
        if self.fence is None:
            raise BoardError(f"{self._where} must be held before it is used, got no lease; acquire it first")
        return self.fence

    def _split(self, rows: Sequence[Rows]) -> Iterator[tuple[list[Rows], slice]]:
        """The rows in calls of at most `max_words`, each with which of all words are its."""
        call: list[Rows] = []
        start, words = 0, 0
        for piece in (piece for each in rows for piece in _pieces(each, self._max_words)):
            if call and (words + piece.words > self._max_words or len(call) >= 1024):
                yield call, slice(start, start + words)
                call, start, words = [], start + words, 0
            call.append(piece)
            words += piece.words
        if call:
            yield call, slice(start, start + words)

    def _ask(self, name: str, request: Any, within_s: float = ANSWER_WITHIN_S) -> Any:
        """The answer, or the list of them where the server streams; the call is cancelled if this is interrupted."""
        method = _METHODS[name]
        kind = f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
        stub = getattr(self._channel, kind)(
            f"/{method.containing_service.full_name}/{name}",
            request_serializer=_CLASSES[method.input_type.name].SerializeToString,
            response_deserializer=_CLASSES[method.output_type.name].FromString,
        )
        try:
            if method.server_streaming:
                return list(_cancelling(stub(request, timeout=within_s, metadata=self._metadata)))
            return _result(stub.future(request, timeout=within_s, metadata=self._metadata))
        except grpc.RpcError as error:
            raise self._sentence(name, error, within_s) from error

    def _sentence(self, name: str, error: Any, within_s: float) -> BoardError:
        code = error.code()
        if code is grpc.StatusCode.UNAVAILABLE:
            return LostError(f"{self._where} {NO_CONNECTION}")
        if code in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED):
            return LostError(
                f"{self._where} must answer '{name}' within {within_s:g} s, got {error.details() or 'nothing'}; "
                "try again, or start its server again"
            )
        return BoardError(error.details() or f"{self._where} must say what is wrong, got {code}; see its messages")


class Keeper:
    """Renews a lease every few seconds, in a thread of its own, until `close`, or until the lease has ended."""

    def __init__(self, client: ExtensionClient, every_s: float) -> None:
        self._client = client
        self._every_s = every_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bitward-lease", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """The lease is renewed no more."""
        self._ended.set()
        self._thread.join(DESK_WITHIN_S)  # a channel that was broken off in mid-call may never answer it

    def _run(self) -> None:
        while not self._ended.wait(self._every_s):
            try:
                self._client.renew()
            except LostError:
                continue  # a server that starts again in time is not lost
            except BoardError:
                return  # the lease has ended: the next call says so to whoever makes it


def _pieces(rows: Rows, max_words: int) -> Iterator[Rows]:
    """The rows in groups of at most `max_words` words."""
    if rows.words <= max_words:
        if rows.words:
            yield rows
        return
    most = max(max_words // rows.segments, 1)
    numbers = np.arange(rows.count) if rows.numbers is None else rows.numbers
    for at in range(0, len(numbers), most):
        yield Rows(rows.base, rows.stride, rows.segments, numbers[at : at + most])


def _result(call: Any) -> Any:
    try:
        return call.result()
    except BaseException:
        call.cancel()  # a call that is interrupted must not be executed later
        raise


def _cancelling(call: Any) -> Iterator[Any]:
    try:
        yield from call
    except BaseException:
        call.cancel()
        raise


def _code(error: BoardError) -> grpc.StatusCode | None:
    cause = error.__cause__
    return cause.code() if isinstance(cause, grpc.RpcError) else None


def _words(data: bytes) -> Words:
    return np.frombuffer(data, "<u4").astype(np.uint32)


def _packed(words: Words) -> bytes:
    return np.asarray(words).astype("<u4").tobytes()


_METHODS = {method.name: method for method in bitward_pb2.DESCRIPTOR.services_by_name["Board"].methods}
_CLASSES = {name: getattr(bitward_pb2, name) for name in bitward_pb2.DESCRIPTOR.message_types_by_name}

__all__ = ["Credentials", "ExtensionClient", "Hello", "Keeper", "LostError", "Rows"]
