# SPDX-License-Identifier: Apache-2.0
"""The services that the stock pynq 4.0 client calls (PYNQ.remote): registers, buffers, files.

Each method takes a message, or a list of them where the client streams, and answers one, or a list where the server
streams. Calls never overlap; `forget` drops what the last holder of the board had opened.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bitward.errors import BoardError

from .backend import AddressError, Backend, Buffer
from .files import BITSTREAM, RemoteFiles
from .proto import buffer_pb2, mmio_pb2, remote_device_pb2

CHUNK_BYTES = 1 << 20  # gRPC refuses messages over 4 MiB
MAX_HANDLES = 4096


class Mmio:
    """Registers and memories at physical addresses, checked against the board's map at opening and at each access."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._windows: dict[str, tuple[int, int]] = {}

    def forget(self) -> None:
        """No window is open."""
        self._windows.clear()

    def get_mmio(self, request: Any) -> Any:
        base, length = request.base_addr, request.length
        if base % 4 or not length:
            raise BoardError(
                f"an MMIO window must start at a multiple of 4 and have a length, got 0x{base:x} and {length}"
            )
        self._backend.check(base, length)
        key = f"0x{base:x}+0x{length:x}"  # the same window opened again is the same handle: clients never close one
        if len(self._windows) >= MAX_HANDLES and key not in self._windows:
            raise BoardError(f"at most {MAX_HANDLES} MMIO windows may be open, got one more; start the server again")
        self._windows[key] = (base, length)
        return mmio_pb2.GetMmioResponse(status=True, mmio_id=key)

    def read(self, request: Any) -> Any:
        if request.length not in (1, 2, 4):
            raise BoardError(
                f"an MMIO read must have 1, 2 or 4 bytes, got {request.length}; "
                "PYNQ.remote answers with 32 bits, so read a longer word in parts"
            )
        word = self._backend.read(self._address(request, 4))
        mask = (1 << 8 * request.length) - 1
        return mmio_pb2.ReadResponse(status=True, data=word & mask)

    def write(self, request: Any) -> Any:
        data = request.data
        if not data or len(data) % 4:
            raise BoardError(f"an MMIO write must have a positive multiple of 4 bytes, got {len(data)}; pad the data")
        base = self._address(request, len(data))
        for at in range(0, len(data), 4):
            self._backend.write(base + at, int.from_bytes(data[at : at + 4], "little"))
        return mmio_pb2.WriteResponse(status=True)

    def _address(self, request: Any, size: int) -> int:
        if request.mmio_id not in self._windows:
            raise BoardError(f"an MMIO window must be opened before use, got {request.mmio_id!r}; open it again")
        base, length = self._windows[request.mmio_id]
        if request.offset % 4:
            raise AddressError(f"an MMIO offset must be a multiple of 4, got 0x{request.offset:x}; align the access")
        if request.offset + size > length:
            raise AddressError(
                f"an MMIO access must lie inside its window of 0x{length:x} bytes at 0x{base:x}, "
                f"got {size} bytes at offset 0x{request.offset:x}; open a longer window"
            )
        return base + request.offset


class RemoteBuffer:
    """DDR buffers by id. A stream's chunks follow each other; nothing is ever written outside its buffer."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._buffers: dict[str, Buffer] = {}
        self._count = 0

    def forget(self) -> None:
        """All buffers are given back; their ids are never given again."""
        while self._buffers:
            self._buffers.popitem()[1].free()

    def allocate(self, request: Any) -> Any:
        if request.size <= 0:
            raise BoardError(f"a buffer must have at least one byte, got {request.size}; allocate a larger array")
        if len(self._buffers) >= MAX_HANDLES:
            raise BoardError(f"at most {MAX_HANDLES} buffers may be allocated, got one more; free some")
        buffer = self._backend.allocate(request.size)
        self._count += 1
        key = str(self._count)
        self._buffers[key] = buffer
        return buffer_pb2.AllocateResponse(buffer_id=key)

    def write(self, requests: list[Any]) -> Any:
        at: dict[str, int] = {}
        parts = []
        for request in requests:  # all are checked before the first is written
            buffer = self._buffer(request)
            start = request.start or at.get(request.buffer_id, 0)
            end = start + len(request.data)
            if request.end not in (0, end):
                raise AddressError(
                    f"a copy to byte {start} must end where its data does, at {end}, got {request.end}; leave `end` out"
                )
            self._check(buffer, start, len(request.data))
            parts.append((buffer, start, request.data))
            at[request.buffer_id] = end
        for buffer, start, data in parts:
            buffer.write(start, data)
        return buffer_pb2.BufferWriteResponse()

    def read(self, request: Any) -> list[Any]:
        buffer = self._buffer(request)
        end = request.end or buffer.size
        self._check(buffer, request.start, end - request.start)
        data = buffer.read(request.start, end - request.start)
        return [
            buffer_pb2.BufferReadResponse(data=data[at : at + CHUNK_BYTES]) for at in range(0, len(data), CHUNK_BYTES)
        ]

    def freebuffer(self, request: Any) -> Any:
        self._buffer(request).free()
        del self._buffers[request.buffer_id]
        return buffer_pb2.FreeBufferResponse()

    def flush(self, request: Any) -> Any:
        self._buffer(request).flush()
        return buffer_pb2.FlushResponse()

    def invalidate(self, request: Any) -> Any:
        self._buffer(request).invalidate()
        return buffer_pb2.InvalidateResponse()

    def physical_address(self, request: Any) -> Any:
        return buffer_pb2.AddressResponse(address=self._buffer(request).address)

    def cacheable(self, request: Any) -> Any:
        self._buffer(request)
        return buffer_pb2.CacheableResponse(cacheable=True)

    def _buffer(self, request: Any) -> Buffer:
        if request.buffer_id not in self._buffers:
            raise BoardError(f"a buffer must be allocated and not yet freed, got id {request.buffer_id!r}; allocate it")
        return self._buffers[request.buffer_id]

    def _check(self, buffer: Buffer, start: int, size: int) -> None:
        if start < 0 or size < 0 or start + size > buffer.size:
            raise AddressError(
                f"a copy must lie inside its buffer of {buffer.size} bytes, got {size} bytes at byte {start}; "
                "copy whole buffers"
            )


class RemoteDevice:
    """Files, and through them the FPGA manager."""

    def __init__(self, backend: Backend, program: Callable[[str, bytes], None] | None = None) -> None:
        self._files = RemoteFiles(backend, program)

    def forget(self) -> None:
        """No file is kept."""
        self._files.forget()

    def set_bitstream_attrs(self, request: Any) -> Any:
        if not BITSTREAM.fullmatch(request.binfile_name):
            raise BoardError(
                f"a bitstream must be called NAME.bin, of letters, digits and ._-, got {request.binfile_name!r}; "
                "rename it"
            )
        if request.partial:
            raise BoardError(
                f"{request.binfile_name} must be a full bitstream, got a partial one; load a whole overlay"
            )
        return remote_device_pb2.SetBitstreamAttrsResponse(status=True)

    def existsfile(self, request: Any) -> Any:
        return remote_device_pb2.ExistsFileResponse(exists=self._files.exists(request.file_path))

    def readfile(self, request: Any) -> list[Any]:
        data = self._files.read(request.file_path)
        return [
            remote_device_pb2.ReadFileResponse(data=data[at : at + CHUNK_BYTES])
            for at in range(0, len(data), CHUNK_BYTES)
        ]

    def writefile(self, requests: list[Any]) -> Any:
        content: dict[str, bytearray] = {}
        for request in requests:
            content.setdefault(request.file_path, bytearray()).extend(request.data)
        for path, data in content.items():
            self._files.write(path, bytes(data))
        return remote_device_pb2.WriteFileResponse()
