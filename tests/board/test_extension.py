# SPDX-License-Identifier: Apache-2.0
"""Our extension of the server: many words a call, all or nothing, fenced; inference and programming; TLS and tokens."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from bitward_runtime import extension_client, guard
from bitward_runtime.audit import Audit
from bitward_runtime.bitfile import firmware_of
from bitward_runtime.extension import MAX_WORDS
from bitward_runtime.extension_client import Credentials, ExtensionClient, Keeper, LostError, Rows
from bitward_runtime.proto import bitward_pb2, mmio_pb2
from bitward_runtime.refusals import LateError
from bitward_runtime.security import Access, read_token
from bitward_runtime.server import Server
from bitward_virtual import dma as regs
from bitward_virtual.board import VirtualBoard
from bitward_virtual.emulate import access_of
from fake_accelerator import DEADLOCK, RAM, RAM_WORDS, FakeAccelerator

from bitward.errors import BoardError, ConfigError, OutputError

BASE, DMA = 0xA000_0000, 0xAFFF_0000
ALL = Rows(BASE + RAM, 4, 1, count=RAM_WORDS)


def firmware(bit: Path) -> bytes:
    return firmware_of(bit.read_bytes())


@pytest.fixture
def connect(server: Server) -> Iterator[Callable[[], ExtensionClient]]:
    clients: list[ExtensionClient] = []

    def connect() -> ExtensionClient:
        clients.append(ExtensionClient.connect(server.host, server.port))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


@pytest.fixture
def client(connect: Callable[[], ExtensionClient], bit: Path) -> ExtensionClient:
    """A client that holds the board, the overlay loaded."""
    client = connect()
    client.acquire("test")
    client.program("digits.bin", firmware(bit))
    return client


def at(words: list[int], segments: int = 1) -> Rows:
    return Rows(BASE + RAM, 4 * segments, segments, np.array(words))


# ---- hello and the lease --------------------------------------------------------------------------------------------


def test_hello_says_what_is_there_without_a_lease(connect: Any, bit: Path):
    client = connect()
    hello = client.hello()
    assert hello.board == "KV260 (virtual, bitward)" and hello.is_simulated
    assert (hello.overlay, hello.overlay_sha256, hello.holder, hello.seconds_left) == ("", "", "", 0)
    with client.holding("test of hello"):
        client.program("digits.bin", firmware(bit))
        hello = client.hello()
        assert hello.overlay == "digits.bin" and len(hello.overlay_sha256) == 64 and hello.max_words == MAX_WORDS
        assert hello.holder == "test of hello" and 0 < hello.seconds_left <= extension_client.LEASE_S
        with pytest.raises(BoardError, match=r"^the virtual board must be given a virtual overlay"):
            client.program("digits.bin", b"1234")
        assert client.hello().overlay == ""  # what is loaded after a failure is not known
    assert client.hello().holder == ""


def test_only_the_holder_is_served(client: ExtensionClient, connect: Any):
    other = connect()
    with pytest.raises(BoardError, match=r"^the board at .* must be held before it is used, got no lease; acquire it"):
        other.read([ALL])
    other.fence = client.fence + 1
    for call in (lambda: other.read([ALL]), lambda: other.infer(DMA, b"a", 1), lambda: other.program("a.bin", b"1234")):
        with pytest.raises(
            BoardError, match=r"^a call must carry the fence of the present lease, got \d+ and a board "
        ):
            call()
    other.fence = None
    with pytest.raises(BoardError, match=r"^the board must be free or yours, got one held by test for "):
        other.acquire("other", within_s=0)
    client.release()
    other.acquire("other", within_s=0)
    with pytest.raises(BoardError, match=r"must be held before it is used"):
        client.write([ALL], np.zeros(RAM_WORDS, np.uint32))


def test_a_late_write_of_an_expired_holder_is_refused(client: ExtensionClient, connect: Any):
    fence = client.fence
    client.release()
    client.acquire("test", seconds=0.2)
    time.sleep(0.3)
    before = client.fence
    with pytest.raises(
        BoardError, match=rf"^a call must carry the fence of the present lease, got {before} and a board"
    ):
        client.write([at([0])], np.array([7], np.uint32))
    other = connect()
    other.acquire("other", within_s=0)
    assert other.fence > before > fence and other.read([at([0])])[0] == 0


def test_a_keeper_renews_while_nobody_calls(client: ExtensionClient, connect: Any):
    client.release()
    with client.holding("kept", seconds=0.4):
        time.sleep(1.0)
        with pytest.raises(BoardError, match=r"held by kept"):
            connect().acquire("other", within_s=0)
        assert client.read([at([1])])[0] == 0x01010101
    keeper = Keeper(client, 0.01)  # without a lease there is nothing to renew: it ends by itself
    time.sleep(0.2)
    assert not keeper._thread.is_alive()


def test_a_stock_client_is_refused_while_the_board_is_held_and_its_windows_are_gone_after(
    client: ExtensionClient, server: Server
):
    with grpc.insecure_channel(f"{server.host}:{server.port}") as channel:
        stock = channel.unary_unary(
            "/mmio.Mmio/get_mmio", mmio_pb2.GetMmioRequest.SerializeToString, mmio_pb2.GetMmioResponse.FromString
        )
        read = channel.unary_unary(
            "/mmio.Mmio/read", mmio_pb2.ReadRequest.SerializeToString, mmio_pb2.ReadResponse.FromString
        )
        request = mmio_pb2.GetMmioRequest(base_addr=BASE, length=16)
        with pytest.raises(grpc.RpcError, match=r"the board must be free or yours, got one held by test for "):
            stock(request)
        client.release()
        window = mmio_pb2.ReadRequest(mmio_id=stock(request).mmio_id, length=4)
        assert read(window).data
        with pytest.raises(BoardError, match=r"^the board must be free or yours, got one held by PYNQ client ipv4:"):
            client.acquire("test", within_s=0)
        client.acquire("test")  # waits for the few seconds that a stock client may be silent
        client.read([ALL])
        client.release()
        with pytest.raises(grpc.RpcError, match=r"an MMIO window must be opened before use"):
            read(window)


# ---- words ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("segments", [1, 3])
def test_rows_are_read_written_flipped_and_checked(client: ExtensionClient, segments: int):
    random = np.random.default_rng(segments)
    model = client.read([ALL])
    assert model.tolist() == [word * 0x01010101 for word in range(RAM_WORDS)]
    for _ in range(5):
        rows = random.integers(0, RAM_WORDS // segments, 40)  # some of them twice
        places = (rows[:, None] * segments + np.arange(segments)).reshape(-1)
        flips, clears = (random.integers(0, 1 << 32, len(places), dtype=np.uint32) for _ in range(2))
        before = client.flip([at(rows, segments)], flips, clears)
        for number, place in enumerate(places):
            assert before[number] == model[place] or np.count_nonzero(rows == place // segments) > 1
        for row in range(len(rows)):  # row by row: the second flip of a row sees the first
            for segment in range(segments):
                number = row * segments + segment
                model[places[number]] = (model[places[number]] & ~clears[number]) ^ flips[number]
        assert np.array_equal(client.read([ALL]), model)
    words = random.integers(0, 1 << 32, 2 * segments, dtype=np.uint32)
    client.write([at([2], segments), at([5], segments)], words)
    assert np.array_equal(client.read([at([2, 5], segments)]), words)
    expected = client.read([ALL])
    assert len(client.check([ALL], expected)[0]) == 0
    wrong = expected.copy()
    wrong[[3, 200]] ^= 1
    places, found = client.check([ALL], wrong)
    assert places.tolist() == [3, 200] and np.array_equal(found, expected[[3, 200]])


def test_a_row_is_written_whole_its_last_word_last(client: ExtensionClient, bit: Path, monkeypatch: Any):
    """What finn's axilite.sv demands of memories wider than 32 bits: all segments, the last commits; read 0 first."""
    seen: list[tuple[str, int]] = []
    read = FakeAccelerator.axil_read

    def noted_read(self: FakeAccelerator, addr: int) -> int:
        seen.append(("read", (addr - RAM) // 4))
        return read(self, addr)

    def noted_write(self: FakeAccelerator, addr: int, data: int) -> None:
        assert addr in self.words
        seen.append(("write", (addr - RAM) // 4))
        self.words[addr] = data

    monkeypatch.setattr(FakeAccelerator, "axil_read", noted_read)
    monkeypatch.setattr(FakeAccelerator, "axil_write", noted_write)
    client.program("digits.bin", firmware(bit))
    client.flip([at([4, 1], 2)], np.array([1, 0, 0, 0], np.uint32))  # the other segment is not flipped, but written
    expected = [(what, place) for row in (4, 1) for what in ("read", "write") for place in (2 * row, 2 * row + 1)]
    assert seen == expected


def test_more_words_than_a_call_may_have_are_split_by_the_client(client: ExtensionClient, monkeypatch: Any):
    random = np.random.default_rng(3)
    rows = random.integers(0, RAM_WORDS, MAX_WORDS + 5)
    before = client.flip([at(rows)], np.ones(len(rows), np.uint32))
    assert len(before) == len(rows)
    expected = np.arange(RAM_WORDS) * 0x01010101 ^ np.bincount(rows, minlength=RAM_WORDS) % 2
    assert np.array_equal(client.read([ALL]), expected)
    client._max_words = 7
    assert np.array_equal(client.read([ALL, at([3, 9], 2)]), expected[[*range(RAM_WORDS), 6, 7, 18, 19]])
    wrong = expected.astype(np.uint32)
    wrong[100] ^= 4
    assert client.check([ALL], wrong)[0].tolist() == [100]
    client._max_words = 2 * MAX_WORDS
    with pytest.raises(BoardError, match=rf"^a call must have at most {MAX_WORDS} words, got 5 more; split it$"):
        client.read([at(rows)])


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (Rows(BASE + RAM + 2, 4, 1, count=1), r"^rows must have whole words, at a base and stride of multiples of 4"),
        (Rows(BASE + RAM, 6, 1, count=2), r"^rows must have whole words"),
        (Rows(BASE + RAM, 4, 2, count=2), r"^rows must have whole words, .*, got 2 words at 0xa0001000 every 4 bytes"),
        (
            Rows(0x8000_0000, 4, 1, count=1),
            r"^an address must be mapped on [^,]+(, bitward\))?, got 4 bytes at ",
        ),
        (Rows(BASE + (1 << 20) - 4, 4, 1, count=2), r"^an address must be mapped on .*, got 8 bytes at 0xa00ffffc; "),
        (Rows((1 << 64) - 4, 4, 1, count=2), r"^an address must be mapped on .*, got 8 bytes at 0xfffffffffffffffc; "),
        (
            Rows(BASE + RAM, 1 << 31, 1, np.array([0, (1 << 32) - 1])),
            r"^an address must be mapped on .*, got 9223372034",
        ),
    ],
    ids=["base", "stride", "overlap", "unmapped", "one beyond", "wraps", "far"],
)
def test_rows_that_cannot_be_are_refused_before_a_word_is_touched(client: ExtensionClient, rows: Rows, sentence: str):
    before = client.read([ALL])
    with pytest.raises(BoardError, match=sentence):
        client.flip([at([0]), rows], np.ones(1 + rows.words, np.uint32))
    with pytest.raises(BoardError, match=sentence):
        client.write([at([0]), rows], np.ones(1 + rows.words, np.uint32))
    assert np.array_equal(client.read([ALL]), before)


def test_a_word_that_the_bus_refuses_is_told_with_how_many_were_done(client: ExtensionClient):
    last = RAM_WORDS - 2
    with pytest.raises(
        BoardError, match=r"^an accelerator address must be .* \(2 words of this call were written befo"
    ):
        client.write([at([last, last + 1, last + 2])], np.array([1, 2, 3], np.uint32))
    assert client.read([at([last, last + 1])]).tolist() == [1, 2]


def raw(server: Server, name: str, message: Any, timeout: float | None = None) -> Any:
    """A call of the extension that the client would not make."""
    with grpc.insecure_channel(f"{server.host}:{server.port}") as channel:
        data = message if isinstance(message, bytes) else message.SerializeToString()
        return channel.unary_unary(f"/bitward.Board/{name}")(data, timeout=timeout)


@pytest.mark.parametrize(
    ("name", "fields", "sentence"),
    [
        ("read", {"rows": []}, "a call must have 1 to 1024 groups of rows, got 0; split it"),
        ("read", {"rows": [{"base": BASE, "stride": 4, "segments": 1}]}, "rows must be named by "),
        ("read", {"rows": [{"base": BASE, "stride": 4, "segments": 1, "numbers": b"123"}]}, "rows must be named by "),
        ("read", {"rows": [{"base": BASE, "stride": 4, "segments": 1, "count": (1 << 32) - 1}]}, "a call must have "),
        ("write", {"rows": [{"base": BASE + RAM, "stride": 4, "segments": 1, "count": 1}], "words": b"12345678"},
         "words must be 4 bytes for 1 words of rows, got 8; send all"),
        ("flip", {"rows": [{"base": BASE + RAM, "stride": 4, "segments": 1, "count": 1}], "flips": b"123"},
         "flips must be 4 bytes for 1 words of rows, got 3; send all"),
        ("program", {"name": "../x.bin"}, "a bitstream must be named with letters, digits and ._-, got '../x.bin'"),
        ("infer", {"dma_base": DMA + 1, "out_bytes": 1, "data": b"a"}, "a DMA must lie at a multiple of 4"),
        ("infer", {"dma_base": DMA, "out_bytes": 0, "data": b"a"}, "1 to 67108863 bytes must be received"),
        ("infer", {"dma_base": DMA, "out_bytes": 1}, "1 to 67108863 bytes must be sent at a time, got 0; send fewer"),
        ("infer", {"dma_base": 0x9000_0000, "out_bytes": 1, "data": b"a"}, "an address must be mapped on "),
    ],
)  # fmt: skip
def test_requests_that_cannot_be_are_refused(
    client: ExtensionClient, server: Server, name: str, fields: Any, sentence: str
):
    kind = getattr(bitward_pb2, f"{name.capitalize()}Request")
    with pytest.raises(grpc.RpcError, match=f'details = "{sentence}'.replace("(", r"\(")):
        raw(server, name, kind(fence=client.fence, **fields))


def test_messages_that_are_none_are_refused(client: ExtensionClient, server: Server):
    with pytest.raises(
        grpc.RpcError, match=r"a message to /bitward.Board/read must be a bitward.ReadRequest, got 2 byt"
    ):
        raw(server, "read", b"\xff\xff")
    with grpc.insecure_channel(f"{server.host}:{server.port}") as channel:
        with pytest.raises(
            grpc.RpcError, match=r"a call of /bitward.Board/read must carry a message, got none; send one"
        ):
            channel.stream_unary("/bitward.Board/read")(iter(()))


# ---- inference ------------------------------------------------------------------------------------------------------


def test_inference_in_one_call_of_many_chunks(client: ExtensionClient):
    for count in (1, 5, 5, 3 * (1 << 20) + 7):
        stream = np.random.default_rng(count).integers(0, 200, count, dtype=np.uint8)
        assert client.infer(DMA, stream.tobytes(), count) == (stream + 1).tobytes()


def test_failures_of_an_inference_leave_a_dma_that_can_start_again(client: ExtensionClient):
    with pytest.raises(BoardError, match=r"^the accelerator must stream 8 bytes for 4, got 4; do the overlay and its "):
        client.infer(DMA, bytes(4), 8)
    with pytest.raises(
        BoardError, match=r"^the accelerator must end within 1000 cycles, got none; load the overlay aga"
    ):
        client.infer(DMA, bytes([DEADLOCK]), 1)
    assert client.infer(DMA, b"a", 1) == b"b"


class SlowDma:
    """A backend whose DMA answers as the registers here say."""

    def __init__(self, board: VirtualBoard, status: int, control: int = 0) -> None:
        self.allocate, self.check = board.allocate, board.check
        self._status, self._control = status, control

    def read(self, address: int) -> int:
        return self._status if address % 0x30 % 0x20 == 4 or address & 0xFF in (4, 0x34) else self._control

    def write(self, address: int, data: int) -> None: ...


@pytest.mark.parametrize(
    ("status", "control", "sentence"),
    [
        (
            1 << 6,
            0,
            r"^the DMA must end without error, got decode error \(status 0x00000040\); load the overlay again$",
        ),
        (1 << 4 | 1 << 5, 0, r"^the DMA must end without error, got internal error and slave error "),
        (0, 0, r"^the DMA must end in time, got one still busy \(status 0x00000000\); load the overlay again$"),
        (0, 4, r"^the DMA must end its reset within 0\.01 s, got none; start the board$"),
    ],
)
def test_a_dma_that_fails_is_told(
    client: ExtensionClient, board: VirtualBoard, monkeypatch: Any, status: int, control: int, sentence: str
):
    from bitward_runtime import transfer

    monkeypatch.setattr(transfer, "RESET_WITHIN_S", 0.01)
    with pytest.raises(BoardError, match=sentence):
        transfer.Transfers(SlowDma(board, status, control)).infer(DMA, b"a", 1, 0.01)


# ---- limits, deadlines, stalls --------------------------------------------------------------------------------------


def test_a_call_whose_deadline_passed_while_it_waited_is_never_executed(
    client: ExtensionClient, connect: Any, monkeypatch: Any
):
    monkeypatch.setattr(FakeAccelerator, "stream", lambda self, beats, size: time.sleep(1.0) or bytes(size))
    busy = threading.Thread(target=client.infer, args=(DMA, b"a", 1))
    busy.start()
    time.sleep(0.3)
    late = connect()
    late.fence = client.fence
    request = bitward_pb2.WriteRequest(fence=client.fence, rows=[at([0]).message()], words=b"\7\0\0\0")
    with pytest.raises(LostError, match=r"^the board at .* must answer 'write' within 0\.2 s, got "):
        late._ask("write", request, 0.2)
    started = time.perf_counter()
    assert late.hello() is not None and time.perf_counter() - started < 0.5  # while the board is busy
    busy.join()
    assert client.read([at([0])])[0] == 0
    late.fence = None


def test_stalled_calls_are_ended_and_never_hold_up_the_others(
    client: ExtensionClient, server: Server, monkeypatch: Any
):
    monkeypatch.setattr(guard, "IDLE_S", 0.5)

    def silence() -> Iterator[bytes]:
        time.sleep(3)
        yield b""

    with grpc.insecure_channel(f"{server.host}:{server.port}") as channel:
        calls = [channel.stream_unary("/bitward.Board/write").future(silence()) for _ in range(guard.MAX_CALLS + 6)]
        time.sleep(0.2)
        assert client.hello() is not None
        codes = [call.code() for call in calls]
        assert codes.count(grpc.StatusCode.RESOURCE_EXHAUSTED) >= 6
        assert codes.count(grpc.StatusCode.CANCELLED) == guard.MAX_CALLS
        refused = next(call for call in calls if call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED)
        assert refused.details() == "at most 24 calls may be under way, got one more; call again when one has ended"
        assert client.read([at([1])])[0] == 0x01010101
        for call in calls:
            call.cancel()


def test_a_stream_that_is_too_long_is_refused(client: ExtensionClient, monkeypatch: Any):
    monkeypatch.setattr(guard, "MAX_STREAM_BYTES", 3 << 20)
    with pytest.raises(
        BoardError, match=r"^a call must have at most 3145728 bytes in 65536 messages within 60 s, got m"
    ):
        client.infer(DMA, bytes(5 << 20), 1)
    assert client.infer(DMA, b"a", 1) == b"b"


def test_a_busy_board_is_told_where_no_deadline_is_set(client: ExtensionClient, server: Server, monkeypatch: Any):
    monkeypatch.setattr(guard, "WAIT_S", 0.1)
    monkeypatch.setattr(FakeAccelerator, "stream", lambda self, beats, size: time.sleep(1.0) or bytes(size))
    busy = threading.Thread(target=client.infer, args=(DMA, b"a", 1))
    busy.start()
    time.sleep(0.3)
    with pytest.raises(grpc.RpcError, match=r"the board must be free within 0\.1 s, got one still busy; wait longer"):
        raw(server, "read", bitward_pb2.ReadRequest(fence=client.fence, rows=[at([0]).message()]))
    busy.join()


class GivenUp:
    """The context of a call whose client has left."""

    def time_remaining(self) -> float:
        return 10.0

    def is_active(self) -> bool:
        return False


def test_a_call_that_was_given_up_while_it_waited_is_not_executed(server: Server):
    lease = server._leases.acquire("test", 1, "a")
    with pytest.raises(
        LateError, match=r"^a call must be wanted when its turn comes, got one given up; it was not exec"
    ):
        with server._guard._turn(GivenUp(), lease):
            pytest.fail("it was executed")


def test_an_error_without_a_sentence_is_named_by_its_code(server: Server):
    class Mute(grpc.RpcError):
        def code(self) -> grpc.StatusCode:
            return grpc.StatusCode.INTERNAL

        def details(self) -> str:
            return ""

    client = ExtensionClient.connect(server.host, server.port)
    sentence = str(client._sentence("read", Mute(), 1.0))
    assert re.match(r"^the board at \S+ must say what is wrong, got StatusCode.INTERNAL; see its messages$", sentence)
    client.close()


def test_a_server_that_is_gone_or_silent_is_told(client: ExtensionClient, server: Server, monkeypatch: Any):
    monkeypatch.setattr(FakeAccelerator, "stream", lambda self, beats, size: time.sleep(1.0) or bytes(size))
    with pytest.raises(LostError, match=r"^the board at .* must answer 'infer' within 0\.2 s, got "):
        client.infer(DMA, b"a", 1, within_s=0.2)
    server._server.stop(0).wait()
    with pytest.raises(LostError, match=r"^the board at .* must answer, got no connection; is its server "):
        client.hello()


def test_a_server_without_the_extension_says_none_and_another_protocol_is_refused(monkeypatch: Any, connect: Any):
    handler = grpc.method_handlers_generic_handler("mmio.Mmio", {})
    stock = grpc.server(guard.workers())
    stock.add_generic_rpc_handlers((handler,))
    port = stock.add_insecure_port("127.0.0.1:0")
    stock.start()
    client = ExtensionClient.connect("127.0.0.1", port)
    assert client.hello() is None
    client.close()
    stock.stop(0)
    monkeypatch.setattr(extension_client, "PROTOCOL", 3)
    with pytest.raises(
        BoardError, match=r"^the board at .* must speak protocol 3 of the extension, got 2; use the same"
    ):
        connect().hello()


# ---- TLS, token, audit ----------------------------------------------------------------------------------------------


def test_elsewhere_the_extension_alone_is_served_over_tls_to_who_has_the_token(
    board: VirtualBoard, bit: Path, tls: Access, tmp_path: Path
):
    with Server(board, "0.0.0.0", 0, access=tls) as server:
        client = ExtensionClient.connect("127.0.0.1", server.port, Credentials(tls.certificate, tls.token_file))
        assert client.hello() is not None
        with client.holding("afar"):
            client.program("digits.bin", firmware(bit))
            assert client.read([at([2])])[0] == 0x02020202
        client.close()
        wrong = tmp_path / "token"
        for text in ("0123456789abcdef0123456789abcdee", "0123456789abcdef"):
            wrong.write_text(text)
            stranger = ExtensionClient.connect("127.0.0.1", server.port, Credentials(tls.certificate, wrong))
            for call in (stranger.hello, lambda: stranger.acquire("stranger", within_s=0)):  # noqa: B023
                with pytest.raises(
                    BoardError, match=r"^a call must carry the server's token, got none or a wrong one; "
                ):
                    call()
            stranger.close()
        trusted = grpc.ssl_channel_credentials(tls.certificate.read_bytes())
        with grpc.secure_channel(f"127.0.0.1:{server.port}", trusted) as channel:
            for metadata in ((), (("authorization", "Bearer "),), (("authorization", "x"), ("authorization", "y"))):
                with pytest.raises(grpc.RpcError, match=r"StatusCode.UNAUTHENTICATED"):
                    channel.unary_unary("/bitward.Board/hello")(b"", metadata=metadata)
            with pytest.raises(grpc.RpcError, match=r"StatusCode.UNIMPLEMENTED"):  # PYNQ.remote is not there at all
                channel.unary_unary("/mmio.Mmio/get_mmio")(b"")
        with pytest.raises(BoardError, match=r"^the board at \S+ must be spoken to over TLS, got a client with"):
            ExtensionClient.connect("127.0.0.1", server.port).hello()  # nor is anything without TLS


def test_what_tls_and_tokens_must_be(tmp_path: Path):
    with pytest.raises(
        BoardError, match=r"^\S+/none must be a readable file, got No such file or directory; name the "
    ):
        read_token(tmp_path / "none")
    (tmp_path / "short").write_text("short\n")
    with pytest.raises(
        BoardError, match=r"^\S+/short must hold a token of at least 16 ASCII characters, got 5; make on"
    ):
        read_token(tmp_path / "short")
    for name in ("cert", "key"):
        (tmp_path / name).write_text("none")
    with pytest.raises(
        BoardError, match=r"^\S+/cert and \S+/key must be a certificate and its private key in PEM, got f"
    ):
        Access(tmp_path / "cert", tmp_path / "key", tmp_path / "short").credentials()
    assert access_of(None, None, None) is None
    with pytest.raises(
        ConfigError, match=r"^--tls-cert, --tls-key and --token-file must be given together, got 2 of th"
    ):
        access_of(tmp_path, tmp_path, None)


def test_the_audit_log_has_a_line_for_each_call_that_may_change_the_board(
    board: VirtualBoard, bit: Path, tmp_path: Path
):
    audit = Audit(tmp_path / "audit")
    with Server(board, port=0, audit=audit) as server:
        client = ExtensionClient.connect(server.host, server.port)
        with client.holding("audited"):
            client.program("digits.bin", firmware(bit))
            client.read([ALL])
            client.flip([at([1, 2])], np.ones(2, np.uint32))
            with pytest.raises(BoardError, match=r"^an address must be mapped"):
                client.write([Rows(0, 4, 1, count=1)], np.ones(1, np.uint32))
        client.fence = 7
        with pytest.raises(BoardError, match=r"^a call must carry the fence"):
            client.write([at([0])], np.ones(1, np.uint32))
        client.fence = None
        client.close()
    audit.close()
    lines = [json.loads(line) for line in (tmp_path / "audit").read_text().splitlines()]
    assert [line["method"].split("/")[-1] for line in lines] == [
        "acquire",
        "program",
        "flip",
        "write",
        "release",
        "write",
    ]
    assert [line["holder"] for line in lines] == ["", "audited", "audited", "audited", "", ""]
    assert [line["outcome"] == "done" for line in lines] == [True, True, True, False, True, False]
    assert lines[2]["what"]["rows"] == [{"base": BASE + RAM, "stride": 4, "segments": 1, "numbers": "8 bytes"}]
    assert lines[3]["outcome"].startswith("an address must be mapped") and lines[3]["fence"] > 7
    assert all(line["peer"].startswith("ipv4:127.0.0.1:") and line["time"].endswith("+00:00") for line in lines)


def test_a_stream_of_no_messages_is_refused_and_in_the_log(board: VirtualBoard, tmp_path: Path):
    audit = Audit(tmp_path / "audit")
    with Server(board, port=0, audit=audit) as server, grpc.insecure_channel(f"{server.host}:{server.port}") as channel:
        message = r"a call of /bitward\.Board/program must carry a message, got none; send one"
        with pytest.raises(grpc.RpcError, match=f'details = "{message}"'):
            channel.stream_unary("/bitward.Board/program")(iter([]))
    audit.close()
    (line,) = (json.loads(line) for line in (tmp_path / "audit").read_text().splitlines())
    assert line["what"] == {} and re.fullmatch(message, line["outcome"])


def test_a_keeper_goes_on_while_a_server_starts_again():
    """Lost calls do not end it; a lease that has ended does."""

    class Lost:
        calls = 0

        def renew(self) -> None:
            self.calls += 1
            raise LostError("gone") if self.calls < 3 else BoardError("the lease has ended")

    keeper = Keeper(client := Lost(), 0.01)
    keeper._thread.join(10)
    assert not keeper._thread.is_alive() and client.calls == 3


def test_the_audit_log_rotates_and_says_where_it_cannot_be_written(tmp_path: Path):
    audit = Audit(tmp_path / "audit", max_bytes=200, kept=2)
    for number in range(20):
        audit.record(number=number)
    audit.close()
    kept = [tmp_path / name for name in ("audit.2", "audit.1", "audit")]
    numbers = [json.loads(line)["number"] for path in kept for line in path.read_text().splitlines()]
    assert numbers == list(range(numbers[0], 20)) and all(path.stat().st_size <= 200 for path in kept)
    assert not (tmp_path / "audit.3").exists()
    with pytest.raises(
        OutputError, match=r"^the audit log \S+/none/audit must be writable, got No such file or directo"
    ):
        Audit(tmp_path / "none" / "audit")


def test_a_call_that_cannot_be_logged_does_not_answer_ok(board: VirtualBoard, tmp_path: Path, monkeypatch: Any):
    audit = Audit(tmp_path / "audit")
    with Server(board, port=0, audit=audit) as server:
        client = ExtensionClient.connect(server.host, server.port)

        def refuse(**_: Any) -> None:
            raise OutputError("the audit log x must be writable, got No space left on device; name another file")

        monkeypatch.setattr(audit, "record", refuse)
        with pytest.raises(BoardError, match=r"^the audit log x must be writable"):
            client.acquire("test", within_s=0)
        client.close()
    audit.close()


def test_idle_connections_do_not_keep_hello_waiting(client: ExtensionClient, server: Server):
    sockets = [socket.create_connection((server.host, server.port)) for _ in range(200)]
    started = time.perf_counter()
    assert client.hello() is not None and time.perf_counter() - started < 1
    for each in sockets:
        each.close()


def test_registers_of_the_dma_are_those_of_the_virtual_one():
    """The transfer on the board's side is written after PG021 by itself; the virtual DMA is the other reading of it."""
    from bitward_runtime import transfer

    names = ("MM2S", "S2MM", "ADDRESS", "ADDRESS_MSB", "LENGTH", "RUN", "RESET", "HALTED", "IDLE")
    assert [getattr(transfer, name) for name in names] == [getattr(regs, name) for name in names]
