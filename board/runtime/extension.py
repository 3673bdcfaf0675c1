# SPDX-License-Identifier: Apache-2.0
"""Our own service beside PYNQ.remote's (proto/bitward.proto): thousands of words a call, inference, programming.

A row of a memory is read from its first word on and written to its last, which commits it (finn's axilite.sv). All rows
of a call are checked against the board's map before the first word is touched; should the bus refuse one all the same,
the error says how many were done.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bitward.errors import BitwardError

from .backend import Backend, Registers
from .files import read_shown
from .guard import MAX_MESSAGE_BYTES, MAX_STREAM_BYTES, Caller
from .held import scrubbed
from .lease import Leases
from .loader import Loader
from .proto import bitward_pb2
from .refusals import LimitError, RequestError
from .transfer import Transfers

PROTOCOL = 2
MAX_WORDS = 1 << 18  # of a call: 1 MiB, and no more than three such fields in a message
MAX_GROUPS = 1024  # of rows in a call
CHUNK_BYTES = 1 << 20
NAME = re.compile(r"[\w.-]{1,128}")
Words = npt.NDArray[np.uint32]


@dataclass(frozen=True)
class Span:
    """Rows of one group, checked: what answers there, the offsets of their first words, and words a row."""

    registers: Registers
    offsets: list[int]
    segments: int

    @property
    def words(self) -> int:
        """Number of words."""
        return len(self.offsets) * self.segments


class Board:
    """The service, but for `hello` and the lease's own methods (`Desk`)."""

    def __init__(self, backend: Backend, loader: Loader) -> None:
        self._backend = backend
        self._loader = loader
        self._transfers = Transfers(backend)

    def forget(self) -> None:
        """The buffers of the last holder are given back."""
        self._transfers.forget()

    def read(self, request: Any, _: Caller) -> Any:
        return bitward_pb2.WordsResponse(words=_pack(_read(self._spans(request.rows))))

    def write(self, request: Any, _: Caller) -> Any:
        spans = self._spans(request.rows)
        words = iter(_unpack("words", request.words, spans).tolist())
        with _Progress() as progress:
            for span in spans:
                write = span.registers.write
                for at in _places(span):
                    write(at, next(words))
                    progress.words += 1
        return bitward_pb2.WriteResponse()

    def flip(self, request: Any, _: Caller) -> Any:
        spans = self._spans(request.rows)
        flips = _unpack("flips", request.flips, spans)
        clears = _unpack("clears", request.clears, spans) if request.clears else np.zeros_like(flips)
        before: list[int] = []
        with _Progress() as progress:
            for span in spans:
                part = slice(len(before), len(before) + span.words)
                _flip(span, flips[part].tolist(), (~clears[part]).tolist(), before, progress)
        return bitward_pb2.WordsResponse(words=_pack(before))

    def check(self, request: Any, _: Caller) -> Any:
        spans = self._spans(request.rows)
        expected = _unpack("words", request.words, spans)
        found = np.array(_read(spans), dtype=np.uint32)
        places = np.flatnonzero(found != expected)
        return bitward_pb2.CheckResponse(places=_pack(places), words=_pack(found[places]))

    def scrub(self, request: Any, caller: Caller) -> Any:
        return scrubbed(self._backend, request, caller)

    def readfile(self, request: Any, _: Caller) -> Any:
        return bitward_pb2.FileResponse(data=read_shown(self._backend, request.path))

    def infer(self, requests: Sequence[Any], caller: Caller) -> list[Any]:
        first = requests[0]
        data = b"".join(request.data for request in requests)
        answer = self._transfers.infer(first.dma_base, data, first.out_bytes, caller.seconds)
        return [bitward_pb2.InferResponse(data=part) for part in chunks(answer)]

    def program(self, requests: Sequence[Any], _: Caller) -> Any:
        name = requests[0].name
        if not NAME.fullmatch(name):
            raise RequestError(f"a bitstream must be named with letters, digits and ._-, got {name[:70]!r}; rename it")
        self._transfers.forget()
        self._loader.program(name, b"".join(request.data for request in requests), requests[0].handoff)
        return bitward_pb2.ProgramResponse(sha256=self._loader.loaded.sha256 if self._loader.loaded else "")

    def _spans(self, rows: Sequence[Any]) -> list[Span]:
        """The rows of a request, all of them mapped; LimitError, RequestError or AddressError otherwise."""
        if not 0 < len(rows) <= MAX_GROUPS:
            raise LimitError(f"a call must have 1 to {MAX_GROUPS} groups of rows, got {len(rows)}; split it")
        left = MAX_WORDS
        for each in rows:
            left -= max(len(each.numbers) // 4, each.count) * max(each.segments, 1)
        if left < 0:
            raise LimitError(f"a call must have at most {MAX_WORDS} words, got {-left} more; split it")
        return [self._span(each) for each in rows]

    def _span(self, rows: Any) -> Span:
        stride, segments, size = rows.stride, rows.segments, len(rows.numbers)
        if segments < 1 or stride < 4 * segments or stride % 4 or rows.base % 4:
            raise RequestError(
                "rows must have whole words, at a base and stride of multiples of 4, the stride no shorter than a row, "
                f"got {segments} words at 0x{rows.base:x} every {stride} bytes; see the manifest"
            )
        if size % 4 or bool(size) == bool(rows.count):
            raise RequestError(
                f"rows must be named by 32-bit numbers or counted, got {size} bytes and a count of {rows.count}; "
                "send one of the two"
            )
        numbers = np.frombuffer(rows.numbers, "<u4") if size else np.arange(rows.count, dtype=np.uint32)
        first, last = int(numbers.min()), int(numbers.max())
        low = rows.base + first * stride  # in Python's integers: nothing wraps
        registers, offset = self._backend.span(low, (last - first) * stride + 4 * segments)
        offsets = offset + (numbers.astype(np.int64) - first) * stride
        return Span(registers, offsets.tolist(), segments)


class Desk:
    """Who is there, and whose turn it is: `hello` and the lease's methods, which do not wait for the board."""

    def __init__(self, backend: Backend, loader: Loader, leases: Leases) -> None:
        self._backend = backend
        self._loader = loader
        self._leases = leases

    def hello(self, _request: None, _: Caller) -> Any:
        loaded = self._loader.loaded
        holder, seconds_left = self._leases.now()
        return bitward_pb2.HelloResponse(
            protocol=PROTOCOL,
            board=self._backend.name,
            simulated=self._backend.simulated,
            overlay=loaded.name if loaded else "",
            overlay_sha256=loaded.sha256 if loaded else "",
            max_words=MAX_WORDS,
            max_message_bytes=MAX_MESSAGE_BYTES,
            max_stream_bytes=MAX_STREAM_BYTES,
            holder=holder,
            seconds_left=seconds_left,
        )

    def acquire(self, request: Any, caller: Caller) -> Any:
        lease = self._leases.acquire(request.holder, request.seconds, caller.peer)
        return bitward_pb2.LeaseResponse(fence=lease.fence, seconds=lease.seconds)

    def renew(self, request: Any, _: Caller) -> Any:
        lease = self._leases.renew(request.fence)
        return bitward_pb2.LeaseResponse(fence=lease.fence, seconds=lease.seconds)

    def release(self, request: Any, _: Caller) -> Any:
        self._leases.release(request.fence)
        return bitward_pb2.ReleaseResponse()


class _Progress:
    """Counts words; a failure inside leaves with that count in its sentence."""

    def __init__(self) -> None:
        self.words = 0

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, BitwardError) and self.words:
            raise type(error)(f"{error} ({self.words} words of this call were written before that)") from error


def _places(span: Span) -> Iterator[int]:
    """The offsets of all words, row by row, lowest first."""
    if span.segments == 1:
        return iter(span.offsets)
    steps = range(0, 4 * span.segments, 4)
    return (offset + step for offset in span.offsets for step in steps)


def _read(spans: Sequence[Span]) -> list[int]:
    return [word for span in spans for word in map(span.registers.read, _places(span))]


def _flip(span: Span, flips: list[int], keeps: list[int], before: list[int], progress: _Progress) -> None:
    """Rows one after another: all words read, then all written. `before` is longer by the words as they were."""
    read, write, segments = span.registers.read, span.registers.write, span.segments
    if segments == 1:
        for offset, keep, flip in zip(span.offsets, keeps, flips, strict=True):
            word = read(offset)
            write(offset, word & keep ^ flip)
            before.append(word)
            progress.words += 1
        return
    for number, offset in enumerate(span.offsets):
        places = range(offset, offset + 4 * segments, 4)
        words = [read(place) for place in places]
        at = number * segments
        for place, word, keep, flip in zip(
            places, words, keeps[at : at + segments], flips[at : at + segments], strict=True
        ):
            write(place, word & keep ^ flip)
            progress.words += 1
        before += words


def _unpack(what: str, data: bytes, spans: Sequence[Span]) -> Words:
    """As many words as the rows have; RequestError otherwise."""
    words = sum(span.words for span in spans)
    if len(data) != 4 * words:
        raise RequestError(f"{what} must be {4 * words} bytes for {words} words of rows, got {len(data)}; send all")
    return np.frombuffer(data, "<u4")


def _pack(words: npt.ArrayLike) -> bytes:
    return np.asarray(words, dtype="<u4").tobytes()


def chunks(data: bytes) -> Iterator[bytes]:
    """The data in parts that fit into a message; one empty part where there is none."""
    return (data[at : at + CHUNK_BYTES] for at in range(0, max(len(data), 1), CHUNK_BYTES))
