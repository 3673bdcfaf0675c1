# SPDX-License-Identifier: Apache-2.0
"""Where a board's server is, and what shows it that one may use it; needs no grpc."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from bitward.errors import ConfigError

PORT = 7967  # pynq's
_BRACKETED = re.compile(r"\[([0-9A-Fa-f:.%\w]+)\](?::(\d{1,5}))?")
_NAMED = re.compile(r"([\w.-]+)(?::(\d{1,5}))?", re.ASCII)
_BARE_IPV6 = re.compile(r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")


@dataclass(frozen=True)
class Credentials:
    """What a server that is not on loopback demands: its certificate (or its authority's), and the token; files."""

    certificate: Path
    token_file: Path


@dataclass(frozen=True)
class Connection:
    """A board's server at `host`:`port`, with TLS and a token where there are credentials; no host: a virtual board."""

    host: str | None = None
    port: int = PORT
    credentials: Credentials | None = None

    def __str__(self) -> str:
        if self.host is None:
            return "a virtual board"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def connection_of(
    where: str | None, port: int | None = None, tls_ca: Path | None = None, token_file: Path | None = None
) -> Connection:
    """What --host HOST[:PORT], --port, --tls-ca and --token-file say together; ConfigError where that is nothing.

    >>> connection_of("kria:8000").port, connection_of("::1").host, connection_of("[::1]:8000").port
    (8000, '::1', 8000)
    """
    given = [path for path in (tls_ca, token_file) if path is not None]
    if where is None:
        if given:
            raise ConfigError("--tls-ca and --token-file must go with --host, got no host: name the board's")
        return Connection(None, port or PORT)
    host, named = _split(where)
    if port is not None and named is not None and port != named:
        raise ConfigError(f"the board's port must be given once, got {named} by --host and {port} by --port: drop one")
    if len(given) == 1:
        raise ConfigError(
            f"--tls-ca and --token-file must be given together, got {given[0]} alone: a server that demands one "
            "demands the other"
        )
    credentials = Credentials(tls_ca, token_file) if tls_ca is not None and token_file is not None else None
    return Connection(host, named or port or PORT, credentials)


def _split(where: str) -> tuple[str, int | None]:
    """Host and port, None where it names none."""
    if _BARE_IPV6.fullmatch(where):
        return where, None
    found = _BRACKETED.fullmatch(where) or _NAMED.fullmatch(where)
    port = int(found[2]) if found and found[2] else None
    if found is None or (port is not None and not 0 < port < 65536):
        raise ConfigError(
            f"--host must be HOST or HOST:PORT with a port of 1 to 65535, got {where!r}: write [::1]:7967 for IPv6"
        )
    return found[1], port
