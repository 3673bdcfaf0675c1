# SPDX-License-Identifier: Apache-2.0
"""The PYNQ.remote front end over raw gRPC: what it refuses, and that failures are statuses with a sentence."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from bitward_runtime import remote
from bitward_runtime.files import MANAGER, MAX_FILE_BYTES, MAX_KEPT_FILES, RemoteFiles
from bitward_runtime.proto import buffer_pb2, mmio_pb2, remote_device_pb2
from bitward_runtime.server import CHUNK_BYTES, Server, check_host
from bitward_virtual.board import VirtualBoard
from bitward_virtual.memory import CRL_BASE
from google.protobuf.message_factory import GetMessageClass

from bitward.errors import BoardError

Call = Callable[..., Any]
SERVICES = [pb2.DESCRIPTOR.services_by_name[name] for pb2, name in (
    (mmio_pb2, "Mmio"), (buffer_pb2, "RemoteBuffer"), (remote_device_pb2, "RemoteDevice")
)]  # fmt: skip


@pytest.fixture
def call(server: Server) -> Iterator[Call]:
    """`call("Mmio.read", mmio_id=...)`; one dict a message where the client streams; a list where the server does."""
    with grpc.insecure_channel(f"{server.host}:{server.port}") as channel:

        def call(name: str, *stream: dict[str, Any], **fields: Any) -> Any:
            service, method = next((s, m) for s in SERVICES for m in s.methods if f"{s.name}.{m.name}" == name)
            kind = (
                f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
            )
            request = GetMessageClass(method.input_type)
            stub = getattr(channel, kind)(
                f"/{service.full_name}/{method.name}",
                request_serializer=request.SerializeToString,
                response_deserializer=GetMessageClass(method.output_type).FromString,
            )
            answer = stub(iter([request(**part) for part in stream]) if method.client_streaming else request(**fields))
            return list(answer) if method.server_streaming else answer

        yield call


def refusal(message: str) -> Any:
    """The gRPC error whose details begin with `message`."""
    return pytest.raises(grpc.RpcError, match=f'details = "{re.escape(message)}')


def test_registers_are_read_and_written_in_words(call: Call):
    handle = call("Mmio.get_mmio", base_addr=CRL_BASE, length=0x100).mmio_id
    assert call("Mmio.get_mmio", base_addr=CRL_BASE, length=0x100).mmio_id == handle
    call("Mmio.write", mmio_id=handle, offset=0xC0, data=bytes([1, 2, 3, 4, 5, 6, 7, 8]))  # two registers in one write
    assert call("Mmio.read", mmio_id=handle, offset=0xC0, length=4).data == 0x04030201
    assert call("Mmio.read", mmio_id=handle, offset=0xC4, length=4).data == 0x08070605
    assert call("Mmio.read", mmio_id=handle, offset=0xC4, length=2).data == 0x0605


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"offset": 0x100, "length": 4},
            "an MMIO access must lie inside its window of 0x100 bytes at 0xff5e0000, got 4",
        ),
        ({"offset": 2, "length": 4}, "an MMIO offset must be a multiple of 4, got 0x2; align the access"),
        (
            {"offset": 0xC0, "length": 8},
            "an MMIO read must have 1, 2 or 4 bytes, got 8; PYNQ.remote answers with 32 bits",
        ),
        ({"offset": 0, "length": 4}, "a register of CRL_APB must be one that the virtual board models"),
        (
            {"mmio_id": "0x0+0x10", "length": 4},
            "an MMIO window must be opened before use, got '0x0+0x10'; open it again",
        ),
    ],
)
def test_reads_that_cannot_be_are_refused(call: Call, fields: dict[str, Any], message: str):
    handle = call("Mmio.get_mmio", base_addr=CRL_BASE, length=0x100).mmio_id
    with refusal(message):
        call("Mmio.read", **{"mmio_id": handle, **fields})


def test_writes_that_cannot_be_are_refused(call: Call):
    handle = call("Mmio.get_mmio", base_addr=CRL_BASE, length=0x100).mmio_id
    with refusal("an MMIO write must have a positive multiple of 4 bytes, got 3; pad the data"):
        call("Mmio.write", mmio_id=handle, offset=0xC0, data=bytes(3))
    with refusal("an MMIO access must lie inside its window"):
        call("Mmio.write", mmio_id=handle, offset=0xFC, data=bytes(8))


@pytest.mark.parametrize("base", [0x0, 0xA000_0000, 0x6000_0000, 0xFF5E_0100, 1 << 40])
def test_unmapped_windows_are_errors_not_zeros(call: Call, base: int):
    with refusal("an address must be mapped on KV260 (virtual, bitward) (no overlay is loaded), got 4 bytes at "):
        call("Mmio.get_mmio", base_addr=base, length=4)
    with refusal("an MMIO window must start at a multiple of 4 and have a length, got "):
        call("Mmio.get_mmio", base_addr=base + 1, length=4)


def test_offsets_are_checked_against_lengths_without_wrapping(call: Call):
    handle = call("Mmio.get_mmio", base_addr=CRL_BASE, length=0x100).mmio_id
    for offset in (0x100, (1 << 64) - 4, (1 << 63)):
        with refusal("an MMIO access must lie inside its window of 0x100 bytes at 0xff5e0000, got 4 bytes at offset "):
            call("Mmio.read", mmio_id=handle, offset=offset, length=4)
    for length in ((1 << 64) - CRL_BASE, (1 << 64) - 1, 0x101):
        with refusal("an address must be mapped on KV260 (virtual, bitward) (no overlay is loaded), got "):
            call("Mmio.get_mmio", base_addr=CRL_BASE, length=length)


def test_after_a_map_that_failed_nothing_reads_as_zero(call: Call):
    with refusal("an address must be mapped on "):
        call("Mmio.get_mmio", base_addr=0xA000_0000, length=4)
    with refusal("an MMIO window must be opened before use, got '0xa0000000+0x4'; open it again"):
        call("Mmio.read", mmio_id="0xa0000000+0x4", length=4)
    with refusal("an MMIO window must be opened before use, got ''; open it again"):
        call("Mmio.read", length=4)


def test_a_write_is_stored_whole_or_refused_whole(call: Call):
    handle = call("Mmio.get_mmio", base_addr=CRL_BASE + 0xC0, length=8).mmio_id
    before = [call("Mmio.read", mmio_id=handle, offset=at, length=4).data for at in (0, 4)]
    for data in (bytes(6), bytes(12)):
        with refusal("an MMIO "):
            call("Mmio.write", mmio_id=handle, offset=0, data=data)
    assert [call("Mmio.read", mmio_id=handle, offset=at, length=4).data for at in (0, 4)] == before


def test_start_and_end_of_a_copy_are_heeded_and_a_copy_is_whole_or_refused(call: Call):
    buffer = call("RemoteBuffer.allocate", size=8).buffer_id
    call("RemoteBuffer.write", {"buffer_id": buffer, "data": b"cd", "start": 2, "end": 4})
    assert call("RemoteBuffer.read", buffer_id=buffer)[0].data == b"\0\0cd\0\0\0\0"
    for end in (3, 5, -1):
        with refusal(f"a copy to byte 2 must end where its data does, at 4, got {end}; leave `end` out"):
            call("RemoteBuffer.write", {"buffer_id": buffer, "data": b"xy", "start": 2, "end": end})
    with refusal("a copy must lie inside its buffer of 8 bytes, got 5 bytes at byte 4; copy whole buffers"):
        call("RemoteBuffer.write", {"buffer_id": buffer, "data": b"xxxx"}, {"buffer_id": buffer, "data": b"xxxxx"})
    with refusal("a copy must lie inside its buffer of 8 bytes, got 4 bytes at byte -2; "):
        call("RemoteBuffer.write", {"buffer_id": buffer, "data": b"wxyz", "start": -2})
    assert call("RemoteBuffer.read", buffer_id=buffer)[0].data == b"\0\0cd\0\0\0\0"  # nothing of the refused ones
    with refusal("a copy must lie inside its buffer of 8 bytes, got 8 bytes at byte 1; "):
        call("RemoteBuffer.read", buffer_id=buffer, start=1, end=9)


def test_buffers_are_limited_in_number(call: Call, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(remote, "MAX_HANDLES", 2)
    kept = [call("RemoteBuffer.allocate", size=1).buffer_id for _ in range(2)]
    with refusal("at most 2 buffers may be allocated, got one more; free some"):
        call("RemoteBuffer.allocate", size=1)
    call("RemoteBuffer.freebuffer", buffer_id=kept[0])
    assert call("RemoteBuffer.allocate", size=1).buffer_id not in kept


def test_windows_are_limited_in_number_and_one_opened_again_is_the_same(call: Call, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(remote, "MAX_HANDLES", 2)
    bases = [CRL_BASE, CRL_BASE + 4, CRL_BASE + 8]
    kept = [call("Mmio.get_mmio", base_addr=base, length=4).mmio_id for base in bases[:2]]
    with refusal("at most 2 MMIO windows may be open, got one more; start the server again"):
        call("Mmio.get_mmio", base_addr=bases[2], length=4)
    assert [call("Mmio.get_mmio", base_addr=base, length=4).mmio_id for base in bases[:2]] == kept


@pytest.mark.parametrize("name", ["../x.bin", "/tmp/x.bin", "x.bin/../y.bin", ".bin", "x.sh", "x.bin\n", "é.bin", ""])
def test_names_of_bitstreams_are_sanitised(call: Call, name: str):
    with refusal("a bitstream must be called NAME.bin, of letters, digits and ._-, got "):
        call("RemoteDevice.set_bitstream_attrs", binfile_name=name, partial=False)
    with refusal("/lib/firmware/" if name else "a file to write must be "):
        if not name:
            call("RemoteDevice.writefile", {"file_path": "/lib/firmware/", "data": b"x"})
        call("RemoteDevice.writefile", {"file_path": f"{MANAGER}/firmware", "data": name.encode()})


def test_a_large_buffer_survives_the_round_trip_in_chunks(call: Call):
    size = 5 * CHUNK_BYTES + 3
    data = np.random.default_rng(1).bytes(size)
    buffer = call("RemoteBuffer.allocate", size=size, dtype="|u1", cacheable=True).buffer_id
    call(
        "RemoteBuffer.write",
        *({"buffer_id": buffer, "data": data[at : at + (2 << 20)]} for at in range(0, size, 2 << 20)),
    )
    call("RemoteBuffer.flush", buffer_id=buffer)
    call("RemoteBuffer.invalidate", buffer_id=buffer)
    assert b"".join(part.data for part in call("RemoteBuffer.read", buffer_id=buffer)) == data
    assert [part.data for part in call("RemoteBuffer.read", buffer_id=buffer, start=7, end=9)] == [data[7:9]]
    assert (
        call("RemoteBuffer.physical_address", buffer_id=buffer).address
        and call("RemoteBuffer.cacheable", buffer_id=buffer).cacheable
    )
    call("RemoteBuffer.freebuffer", buffer_id=buffer)
    with refusal(f"a buffer must be allocated and not yet freed, got id '{buffer}'; allocate it"):
        call("RemoteBuffer.read", buffer_id=buffer)


def test_copies_outside_a_buffer_are_refused(call: Call):
    buffer = call("RemoteBuffer.allocate", size=4).buffer_id
    with refusal("a copy must lie inside its buffer of 4 bytes, got 5 bytes at byte 0; copy whole buffers"):
        call("RemoteBuffer.write", {"buffer_id": buffer, "data": bytes(5)})
    with refusal("a copy must lie inside its buffer of 4 bytes, got -1 bytes at byte 3; "):
        call("RemoteBuffer.read", buffer_id=buffer, start=3, end=2)
    with refusal("a buffer must have at least one byte, got 0; allocate a larger array"):
        call("RemoteBuffer.allocate", size=0)


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "/tmp/../etc/passwd", "/lib/firmware/../x.bin", "/tmp/never-written", "/tmp/..", "/tmp/a\n"]
)
def test_other_files_do_not_exist_and_are_not_shown(call: Call, path: str):
    assert not call("RemoteDevice.existsfile", file_path=path).exists
    with refusal("a file to read must be one of /proc/version, "):
        call("RemoteDevice.readfile", file_path=path)


def test_a_sensor_that_is_not_there_does_not_exist(call: Call):
    """Its files may be shown, but there are none."""
    assert not call("RemoteDevice.existsfile", file_path="/sys/class/hwmon/hwmon9/name").exists


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "/tmp/../etc/passwd", "/lib/firmware/x.sh", "/proc/version", "relative", "/tmp/.."]
)
def test_other_files_are_not_written(call: Call, path: str):
    with refusal("a file to write must be /lib/firmware/NAME.bin, /tmp/NAME or "):
        call("RemoteDevice.writefile", {"file_path": path, "data": b"x"})


def test_scratch_files_stay_in_memory(call: Call):
    call(
        "RemoteDevice.writefile",
        {"file_path": "/tmp/bitward-x", "data": b"a"},
        {"file_path": "/tmp/bitward-x", "data": b"b"},
    )
    assert [part.data for part in call("RemoteDevice.readfile", file_path="/tmp/bitward-x")] == [b"ab"]
    assert not Path("/tmp/bitward-x").exists()


def test_what_people_see_says_virtual(call: Call):
    for path in ("/proc/version", "/proc/device-tree/chosen/pynq_board"):
        assert b"virtual" in call("RemoteDevice.readfile", file_path=path)[0].data


def test_partial_bitstreams_are_refused(call: Call):
    assert call("RemoteDevice.set_bitstream_attrs", binfile_name="x.bin", partial=False).status
    with refusal("x.bin must be a full bitstream, got a partial one; load a whole overlay"):
        call("RemoteDevice.set_bitstream_attrs", binfile_name="x.bin", partial=True)
    with refusal("/sys/class/fpga_manager/fpga0/flags must be 0 (a full bitstream), got '1'; load the whole overlay"):
        call("RemoteDevice.writefile", {"file_path": "/sys/class/fpga_manager/fpga0/flags", "data": b"1"})


def test_programming_needs_the_firmware_and_uses_it_up(call: Call):
    load = {"file_path": "/sys/class/fpga_manager/fpga0/firmware", "data": b"x.bin"}
    with refusal("/lib/firmware/x.bin must be written before the FPGA manager loads it, got no such file; "):
        call("RemoteDevice.writefile", load)
    call("RemoteDevice.writefile", {"file_path": "/lib/firmware/x.bin", "data": b"12345"})
    assert call("RemoteDevice.existsfile", file_path="/lib/firmware/x.bin").exists
    with refusal("the virtual board must be given a virtual overlay, got 4 bytes of something else; "):
        call("RemoteDevice.writefile", load)
    assert not call("RemoteDevice.existsfile", file_path="/lib/firmware/x.bin").exists


def test_kept_files_are_bounded_in_size_and_number(board: VirtualBoard):
    files = RemoteFiles(board)
    with pytest.raises(BoardError, match=r"^/tmp/big must have at most 67108864 bytes, got 67108865; "):
        files.write("/tmp/big", bytes(MAX_FILE_BYTES + 1))
    for count in range(MAX_KEPT_FILES + 1):
        files.write(f"/tmp/{count}", b"")
    assert not files.exists("/tmp/0") and files.exists("/tmp/1")


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.2.99", "::", "board.local", ""])
def test_other_hosts_than_loopback_are_refused(host: str):
    with pytest.raises(
        BoardError, match=r"^the server's host must be a loopback address, got .*: PYNQ\.remote has no "
    ):
        check_host(host)


def test_loopback_is_accepted():
    assert [check_host(host) for host in ("127.0.0.1", "localhost", "::1")] == ["127.0.0.1", "localhost", "::1"]


def test_a_loopback_that_is_down_is_told_as_such():
    """In a network namespace of its own, as a locked-down container has one; skipped where none can be made."""
    asked = "from bitward_runtime.security import check_host; check_host('127.0.0.1')"
    if subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode:
        pytest.skip("no network namespace can be made here")
    found = subprocess.run(["unshare", "-rn", sys.executable, "-c", asked], capture_output=True, text=True)
    assert (
        "BoardError: loopback must be up to reach a server on this machine, got Network is unreachable" in found.stderr
    )


def test_a_second_server_on_a_port_is_refused(server: Server, board: VirtualBoard):
    with pytest.raises(BoardError, match=rf"^port {server.port} of 127\.0\.0\.1 must be free, got one in use; "):
        Server(board, port=server.port)
