# SPDX-License-Identifier: Apache-2.0
"""A PYNQ.remote server in front of a `Backend`, so that the stock pynq 4.0 client drives a board, real or virtual.

The protocol has no authentication, so only loopback addresses are served (FACTS, sections 4 and 7; a board elsewhere is
reached through an ssh tunnel). Every failure is a gRPC status with one sentence, never an answer of zeros.
"""

from __future__ import annotations

import ipaddress
import threading
from collections.abc import Callable
from concurrent import futures
from typing import Any

import grpc
from google.protobuf.message_factory import GetMessageClass

from bitward.errors import BitwardError, BoardError

from .backend import AddressError, Backend, Buffer
from .files import RemoteFiles
from .proto import buffer_pb2, mmio_pb2, remote_device_pb2

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 7967  # pynq's
CHUNK_BYTES = 1 << 20  # gRPC refuses messages over 4 MiB
MAX_HANDLES = 4096


class Mmio:
    """Registers and memories at physical addresses, checked against the board's map at opening and at each access."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._windows: dict[str, tuple[int, int]] = {}

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

    def allocate(self, request: Any) -> Any:
        if request.size <= 0:
            raise BoardError(f"a buffer must have at least one byte, got {request.size}; allocate a larger array")
        buffer = self._backend.allocate(request.size)
        self._count += 1
        key = str(self._count)
        self._buffers[key] = buffer
        return buffer_pb2.AllocateResponse(buffer_id=key)

    def write(self, requests: list[Any]) -> Any:
        at: dict[str, int] = {}
        for request in requests:
            buffer = self._buffer(request)
            start = request.start or at.get(request.buffer_id, 0)
            self._check(buffer, start, len(request.data))
            buffer.write(start, request.data)
            at[request.buffer_id] = start + len(request.data)
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

    def __init__(self, backend: Backend) -> None:
        self._files = RemoteFiles(backend)

    def set_bitstream_attrs(self, request: Any) -> Any:
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


_SHAPES = {  # (client streams, server streams) -> how gRPC calls the method
    (False, False): grpc.unary_unary_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
}


def _guarded(call: Callable[[Any], Any], streams_in: bool, lock: threading.Lock) -> Callable[[Any, Any], Any]:
    """`call` under the board's lock, its BitwardErrors turned into gRPC statuses."""

    def guarded(request: Any, context: grpc.ServicerContext) -> Any:
        message = list(request) if streams_in else request  # receive before the lock: a slow client blocks nobody
        try:
            with lock:
                answer = call(message)
        except AddressError as error:
            context.abort(grpc.StatusCode.OUT_OF_RANGE, str(error))
        except BitwardError as error:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        return iter(answer) if isinstance(answer, list) else answer

    return guarded


def _handler(service: object, descriptor: Any, lock: threading.Lock) -> grpc.GenericRpcHandler:
    """The methods that `service` has of those the .proto declares; gRPC answers UNIMPLEMENTED to the others."""
    methods = {}
    for method in descriptor.methods:
        call = getattr(service, method.name, None)
        if call is not None:
            shape = _SHAPES[method.client_streaming, method.server_streaming]
            methods[method.name] = shape(
                _guarded(call, method.client_streaming, lock),
                request_deserializer=GetMessageClass(method.input_type).FromString,
                response_serializer=GetMessageClass(method.output_type).SerializeToString,
            )
    return grpc.method_handlers_generic_handler(descriptor.full_name, methods)


def check_host(host: str) -> str:
    """`host`, where it is a loopback address; BoardError otherwise."""
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise BoardError(
            f"the server's host must be a loopback address, got {host!r}: PYNQ.remote has no authentication; "
            "use 127.0.0.1, and an ssh tunnel from elsewhere"
        )
    return host


class Server:
    """A running PYNQ.remote server; `port` is the one it got. Ends with `stop()` or its `with` block.

    Port 0 picks a free one. BoardError where the host is not loopback or the port is taken.
    """

    def __init__(self, backend: Backend, host: str = DEFAULT_HOST, port: int = DEFAULT_PORT) -> None:
        lock = threading.Lock()
        services = (
            (Mmio(backend), mmio_pb2.DESCRIPTOR.services_by_name["Mmio"]),
            (RemoteBuffer(backend), buffer_pb2.DESCRIPTOR.services_by_name["RemoteBuffer"]),
            (RemoteDevice(backend), remote_device_pb2.DESCRIPTOR.services_by_name["RemoteDevice"]),
        )
        self.host = check_host(host)
        # Without so_reuseport=0 a second server would share the port silently, and each call go to either.
        self._server = grpc.server(futures.ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
        for service, descriptor in services:
            self._server.add_generic_rpc_handlers((_handler(service, descriptor, lock),))
        try:
            self.port = self._server.add_insecure_port(f"{host}:{port}")
        except RuntimeError:
            self.port = 0
        if not self.port:
            raise BoardError(
                f"port {port} of {host} must be free, got one in use; end the other server, or choose another port "
                "(0 picks one)"
            )
        self._server.start()

    def stop(self, grace_s: float = 1.0) -> None:
        """No call is served any more; those running have `grace_s` seconds to end."""
        self._server.stop(grace_s).wait()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
