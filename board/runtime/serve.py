# SPDX-License-Identifier: Apache-2.0
"""`bitward-serve`, or `python3 -m bitward_runtime.serve`: this KV260, served to bitward and PYNQ until ctrl-C.

As root, in Kria-PYNQ's environment (docs/guide/boards.md). Not yet run on hardware.
"""

from __future__ import annotations

import argparse
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bitward.errors import BitwardError, ConfigError

from .audit import Audit
from .backend import Backend
from .connection import PORT
from .kria import KriaBoard
from .security import Access, access_of, check_host
from .server import DEFAULT_HOST, Server


def serve(
    board: Backend,
    says: str,
    port: int = PORT,
    host: str = DEFAULT_HOST,
    access: Access | None = None,
    audit: Path | None = None,
) -> None:
    """Serve the board until SIGINT or SIGTERM, from the main thread; prints one line when ready. Port 0 picks one.

    With `access`, the extension alone is served, over TLS. Calls that may change the board are logged in `audit`.
    """
    check_host(host, access)
    record = Audit(audit) if audit else None
    try:
        with _Ending() as ending, Server(board, host, port, access, record) as server:
            print(f"{board.name}: {says} on {server.host}:{server.port}, ctrl-C ends it", flush=True)
            ending.wait()
    finally:
        if record:
            record.close()


class _Ending:
    """Inside, SIGINT and SIGTERM end `wait` and nothing else, whichever thread the kernel gives them to.

    A handler in Python would not do: it runs in the main thread, which sleeps where another thread got the signal.
    """

    NUMBERS = (signal.SIGINT, signal.SIGTERM)

    def __enter__(self) -> _Ending:
        self._come, send = socket.socketpair()
        send.setblocking(False)  # as set_wakeup_fd demands
        self._send = send
        self._before = {number: signal.signal(number, lambda *_: None) for number in self.NUMBERS}
        self._wakeup = signal.set_wakeup_fd(send.fileno(), warn_on_full_buffer=False)
        return self

    def wait(self) -> None:
        """One of the two has come, since `with` began."""
        while self._come.recv(1)[0] not in self.NUMBERS:
            pass

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._come.close()
        self._send.close()


def add_serving(parser: argparse.ArgumentParser) -> None:
    """The options of `serve`, and the three files of `access_of`."""
    parser.add_argument("--port", type=int, default=PORT, help="0 picks a free one")
    parser.add_argument("--host", default=DEFAULT_HOST, help="a loopback address, unless TLS and a token are given")
    parser.add_argument("--tls-cert", type=Path, help="certificate chain (PEM); with it only the extension is served")
    parser.add_argument("--tls-key", type=Path, help="its private key (PEM)")
    parser.add_argument("--token-file", type=Path, help="holds the token that each call must carry")
    parser.add_argument("--audit", type=Path, help="log of the calls that may change the board (default: none)")


def check_versions() -> None:
    """The wheels `bitward` and `bitward-board`, which share modules, are of one version where both are installed."""
    found: dict[str, str] = {}
    for name in ("bitward", "bitward-board"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    if len(set(found.values())) > 1:
        raise ConfigError(
            "bitward and bitward-board must be of one version where both are installed, as they share modules, got "
            f"{found['bitward']} and {found['bitward-board']}: uninstall both, then install one."
        )


def travelled_overlays() -> list[Path]:
    """The folder of overlays that came with the wheel bitward-board; none in a checkout."""
    folder = Path(__file__).with_name("overlays")
    return [folder] if folder.is_dir() else []


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve this board; 1 and one sentence where that cannot be."""
    parser = argparse.ArgumentParser(prog="bitward_runtime.serve", description="This KV260, for bitward and PYNQ.")
    parser.add_argument("--overlays", type=Path, action="append", default=[], metavar="DIR",
                        help="folder of .bit and .hwh files for PYNQ clients; may be given again")  # fmt: skip
    add_serving(parser)
    given = parser.parse_args(arguments)
    try:
        check_versions()
        access = access_of(given.tls_cert, given.tls_key, given.token_file)
        check_host(given.host, access)
        board = KriaBoard([*given.overlays, *travelled_overlays()])
        try:
            serve(board, "its programmable logic", given.port, given.host, access, given.audit)
        finally:
            board.close()
    except BitwardError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
