# SPDX-License-Identifier: Apache-2.0
"""The server in front of a `Backend`: PYNQ.remote for the stock pynq 4.0 client, and our extension, on one port.

On loopback both are served, without credentials (a board elsewhere is reached through an ssh tunnel). With `Access` the
extension alone is served, over TLS, to whoever has the token: PYNQ.remote knows no authentication. Every failure is a
gRPC status with one sentence, never an answer of zeros.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc

from bitward.errors import BoardError

from .audit import Audit
from .backend import Backend
from .connection import PORT
from .extension import Board, Desk
from .guard import MAX_MESSAGE_BYTES, Caller, Guard, Method, Rule, workers
from .lease import Leases
from .loader import Loader
from .proto import bitward_pb2, buffer_pb2, mmio_pb2, remote_device_pb2
from .remote import CHUNK_BYTES, Mmio, RemoteBuffer, RemoteDevice
from .security import Access, check_host

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = PORT
STOCK = (
    (mmio_pb2, "Mmio", {"write"}),
    (buffer_pb2, "RemoteBuffer", {"allocate", "write", "freebuffer"}),
    (remote_device_pb2, "RemoteDevice", {"set_bitstream_attrs", "writefile"}),
)  # and which of their methods change the board
LEASE_METHODS = {"acquire": Rule.LEASE, "renew": Rule.LEASE, "release": Rule.LEASE}
RULES = {"hello": Rule.FREE, **LEASE_METHODS, "readfile": Rule.BESIDE}  # the others: FENCED
CHANGING = {"acquire", "release", "write", "flip", "scrub", "infer", "program"}
KEEPALIVE_MS = 10_000  # how often a silent connection is asked whether it is still there
OPTIONS = (
    ("grpc.so_reuseport", 0),  # or a second server would share the port silently, and each call go to either
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
)


class Server:
    """A running server; `port` is the one it got. Ends with `stop()` or its `with` block.

    Port 0 picks a free one. BoardError where the host is not loopback and there is no `access`, or the port is taken.
    """

    def __init__(
        self,
        backend: Backend,
        host: str = DEFAULT_HOST,
        port: int = DEFAULT_PORT,
        access: Access | None = None,
        audit: Audit | None = None,
    ) -> None:
        self.host = check_host(host, access)
        self._leases = Leases()
        self._forgetting: list[Callable[[], None]] = []
        token = access.token() if access else None
        self._guard = Guard(self._leases, self._forget, audit, token)
        self._server = grpc.server(workers(), options=OPTIONS)
        self._add_services(backend, with_stock=access is None)
        try:
            self.port = self._bind(port, access)
        except BoardError:
            self._guard.close()
            raise
        self._server.start()

    def stop(self, grace_s: float = 1.0) -> None:
        """No call is served any more; those running have `grace_s` seconds to end."""
        self._server.stop(grace_s).wait()
        self._guard.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _forget(self) -> None:
        for forget in self._forgetting:
            forget()

    def _add_services(self, backend: Backend, with_stock: bool) -> None:
        loader = Loader(backend)
        board, desk = Board(backend, loader), Desk(backend, loader, self._leases)
        self._forgetting.append(board.forget)
        self._add(bitward_pb2.DESCRIPTOR.services_by_name["Board"], _extension(board, desk))
        if not with_stock:
            return
        services: tuple[Mmio | RemoteBuffer | RemoteDevice, ...] = (
            Mmio(backend),
            RemoteBuffer(backend),
            RemoteDevice(backend, loader.program),
        )
        for service, (messages, name, changing) in zip(services, STOCK, strict=True):
            self._forgetting.append(service.forget)
            self._add(messages.DESCRIPTOR.services_by_name[name], _stock(service, changing))

    def _add(self, descriptor: Any, method_of: Callable[[Any], Method | None]) -> None:
        methods = [method for each in descriptor.methods if (method := method_of(each)) is not None]
        self._server.add_generic_rpc_handlers((self._guard.handler(descriptor.full_name, methods),))

    def _bind(self, port: int, access: Access | None) -> int:
        """The port that is served; BoardError where it is taken."""
        address = f"[{self.host}]:{port}" if ":" in self.host else f"{self.host}:{port}"
        try:
            if access is None:
                bound = self._server.add_insecure_port(address)
            else:
                bound = self._server.add_secure_port(address, access.credentials())
        except RuntimeError:
            bound = 0
        if not bound:
            raise BoardError(
                f"port {port} of {self.host} must be free, got one in use; end the other server, or choose another "
                "port (0 picks one)"
            )
        return int(bound)


def _extension(board: Board, desk: Desk) -> Callable[[Any], Method]:
    def method_of(descriptor: Any) -> Method:
        name = descriptor.name
        call = getattr(desk if hasattr(desk, name) else board, name)
        return Method(descriptor, call, RULES.get(name, Rule.FENCED), name in CHANGING)

    return method_of


def _stock(service: object, changing: set[str]) -> Callable[[Any], Method | None]:
    """Those methods that the service has; gRPC answers UNIMPLEMENTED to the others."""

    def method_of(descriptor: Any) -> Method | None:
        call = getattr(service, descriptor.name, None)
        if call is None:
            return None

        def of_peer(message: Any, _: Caller) -> Any:
            return call(message)

        return Method(descriptor, of_peer, Rule.PEER, descriptor.name in changing)

    return method_of


__all__ = ["CHUNK_BYTES", "DEFAULT_HOST", "DEFAULT_PORT", "Server", "check_host"]
