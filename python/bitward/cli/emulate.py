# SPDX-License-Identifier: Apache-2.0
"""Be a virtual board with a build loaded, for any PYNQ client."""

from __future__ import annotations

from pathlib import Path

import click

SECTION = "Boards"

FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("build_dir", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option("--port", type=click.IntRange(0, 65535), default=7967, show_default=True, help="0 picks a free one.")
@click.option("--host", default="127.0.0.1", show_default=True,
              help="Address to serve; another than loopback needs TLS and a token.")  # fmt: skip
@click.option("--tls-cert", type=FILE, help="Certificate chain (PEM). With TLS only bitward's extension is served.")
@click.option("--tls-key", type=FILE, help="Its private key (PEM).")
@click.option("--token-file", type=FILE, help="Holds the token that each call must carry (at least 16 characters).")
@click.option("--audit", type=FILE, help="Log each call that may change the board, a line of JSON (default: no log).")
def command(
    build_dir: Path,
    port: int,
    host: str,
    tls_cert: Path | None,
    tls_key: Path | None,
    token_file: Path | None,
    audit: Path | None,
) -> None:
    """Serve the overlay of the build in DIR on loopback, as a virtual KV260 (simulated), until ctrl-C.

    Then, where pynq 4.0 is: PYNQ_REMOTE_DEVICES=127.0.0.1 python -c 'from pynq import Overlay; Overlay("....bit")'.

    On another address than loopback, the stock PYNQ client is not served (its protocol knows no credentials), but
    bitward's own extension is, over TLS, to whoever has the token.

    \b
    Example:
      bitward emulate runs/digits/build/hardened --port 0
    """
    from bitward_virtual.emulate import access_of, emulate

    emulate(build_dir, port, host, access=access_of(tls_cert, tls_key, token_file), audit=audit)
