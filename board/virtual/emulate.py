# SPDX-License-Identifier: Apache-2.0
"""The virtual board as a server, for any PYNQ client: `bitward emulate DIR`, `python -m bitward_virtual DIR`."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from pathlib import Path

from bitward_runtime.server import DEFAULT_HOST, DEFAULT_PORT, Server

from bitward.errors import BoardError
from bitward.hardware.overlay import bit_body, content_sha256, read_overlay

from .accelerator import Accelerator
from .board import VirtualBoard


def overlay_of(build_dir: Path) -> Path:
    """The path of a build's one `.bit`; BoardError where there is none, or several."""
    bits = sorted((build_dir / "overlay").glob("*.bit"))
    if len(bits) != 1:
        raise BoardError(
            f"{build_dir}/overlay must hold one .bit, got {len(bits)}; "
            f"run bitward build --board virtual --out {build_dir}"
        )
    return bits[0]


def simulated(build_dir: Path) -> Accelerator:
    """The build's RTL in Verilator, freshly configured."""
    from bitward.hardware.simulate import Simulation

    return Simulation(build_dir)


def virtual_board(build_dir: Path, accelerator: Callable[[Path], Accelerator] = simulated) -> VirtualBoard:
    """The virtual board that takes the overlay of `build_dir`; BoardError where overlay and build differ."""
    build_dir = build_dir.resolve()  # the simulator may change the working directory
    bit = overlay_of(build_dir)
    overlay = read_overlay(bit_body(bit.read_bytes()))
    found = content_sha256(build_dir)
    if found != overlay.content_sha256:
        raise BoardError(
            f"{bit.name} must belong to the build beside it ({found[:12]}), got one of build "
            f"{overlay.content_sha256[:12]}; run bitward build again"
        )
    return VirtualBoard(overlay, lambda: accelerator(build_dir))


def emulate(
    build_dir: Path,
    port: int = DEFAULT_PORT,
    host: str = DEFAULT_HOST,
    accelerator: Callable[[Path], Accelerator] = simulated,
) -> None:
    """Serve until SIGINT or SIGTERM, from the main thread; prints one line when ready. Port 0 picks one."""
    board = virtual_board(build_dir, accelerator)
    ended = threading.Event()
    before = {number: signal.signal(number, lambda *_: ended.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with Server(board, host, port) as server:
            print(
                f"{board.name}: simulated, no hardware; {overlay_of(build_dir)} on {server.host}:{server.port}, "
                "ctrl-C ends it",
                flush=True,
            )
            ended.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
