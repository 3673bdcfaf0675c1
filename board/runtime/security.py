# SPDX-License-Identifier: Apache-2.0
"""Who may reach the server: everybody on this machine, or whoever has the token, over TLS."""

from __future__ import annotations

import hmac
import ipaddress
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from bitward.errors import BoardError, ConfigError

from .refusals import TokenError

HEADER = "authorization"
MIN_TOKEN_CHARACTERS = 16


@dataclass(frozen=True)
class Access:
    """TLS and a token: a certificate chain and its private key (PEM files), and a file that holds the token."""

    certificate: Path
    key: Path
    token_file: Path

    def credentials(self) -> grpc.ServerCredentials:
        """What gRPC serves TLS with; BoardError where a file cannot be read, or the two do not belong together."""
        for path in (self.certificate, self.key):
            read(path)
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.certificate, self.key)
        except ssl.SSLError as error:
            raise BoardError(
                f"{self.certificate} and {self.key} must be a certificate and its private key in PEM, got files that "
                f"are not ({error.reason or error}); name the right ones"
            ) from error
        return grpc.ssl_server_credentials([(read(self.key), read(self.certificate))])

    def token(self) -> str:
        """The token; BoardError where it is missing or short."""
        return read_token(self.token_file)


def access_of(certificate: Path | None, key: Path | None, token_file: Path | None) -> Access | None:
    """What the three options say together; None where none is given, ConfigError where only some are."""
    given = [path for path in (certificate, key, token_file) if path is not None]
    if not given:
        return None
    if certificate is None or key is None or token_file is None:
        raise ConfigError(
            f"--tls-cert, --tls-key and --token-file must be given together, got {len(given)} of them; give all three"
        )
    return Access(certificate, key, token_file)


def read(path: Path) -> bytes:
    """The file's content; BoardError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise BoardError(f"{path} must be a readable file, got {error.strerror}; name the right one") from error


def read_token(path: Path) -> str:
    """The token in a file, without white space around it; BoardError where it is short or not ASCII."""
    text = read(path).decode("ascii", "replace").strip()
    if len(text) < MIN_TOKEN_CHARACTERS or not text.isascii() or not text.isprintable():
        raise BoardError(
            f"{path} must hold a token of at least {MIN_TOKEN_CHARACTERS} ASCII characters, got {len(text)}; "
            "make one with: openssl rand -hex 32"
        )
    return text


def check_token(metadata: Any, token: str) -> None:
    """TokenError unless the call's metadata holds the token; compared in a time that says nothing of it."""
    given = [value for key, value in metadata if key == HEADER]
    offered = given[0] if len(given) == 1 and isinstance(given[0], str) else ""
    if not hmac.compare_digest(offered.encode("utf-8", "replace"), f"Bearer {token}".encode()):
        raise TokenError("a call must carry the server's token, got none or a wrong one; pass the token file")


def check_host(host: str, access: Access | None = None) -> str:
    """`host`, where it is a loopback address that is up, or served with TLS and a token; BoardError otherwise."""
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback and access is None:
        raise BoardError(
            f"the server's host must be a loopback address, got {host!r}: PYNQ.remote has no authentication; "
            "use 127.0.0.1 and an ssh tunnel from elsewhere, or TLS and a token for the extension alone"
        )
    if host.startswith("127."):
        _check_up(host)
    return host


def _check_up(host: str) -> None:
    """Nothing is sent: a datagram socket only asks the kernel for the way."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect((host, 9))  # any port
        except OSError as error:
            raise BoardError(
                f"loopback must be up to reach a server on this machine, got {error.strerror} for {host}: "
                "ip link set lo up"
            ) from error
