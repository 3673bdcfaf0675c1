# SPDX-License-Identifier: Apache-2.0
"""Be a virtual board with a build loaded, for any PYNQ client."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("build_dir", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option("--port", type=click.IntRange(0, 65535), default=7967, show_default=True, help="0 picks a free one.")
def command(build_dir: Path, port: int) -> None:
    """Serve the overlay of the build in DIR on loopback, as a virtual KV260 (simulated), until ctrl-C.

    Then, where pynq 4.0 is: PYNQ_REMOTE_DEVICES=127.0.0.1 python -c 'from pynq import Overlay; Overlay("....bit")'.
    """
    from bitward_virtual.emulate import emulate

    emulate(build_dir, port)
