# SPDX-License-Identifier: Apache-2.0
"""The virtual board as a server, for any PYNQ client: `bitward emulate DIR`, `python -m bitward_virtual DIR`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bitward_runtime.bitfile import bit_body
from bitward_runtime.security import Access, access_of, check_host
from bitward_runtime.serve import serve
from bitward_runtime.server import DEFAULT_HOST, DEFAULT_PORT

from bitward.errors import BoardError
from bitward.hardware.overlay import content_sha256, read_overlay
from bitward.manifest import Manifest

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
    """The build's RTL in Verilator, freshly configured: UltraRAM is zero, as no bitstream can fill it (UG573)."""
    from bitward.hardware.simulate import Simulation

    simulation = Simulation(build_dir)
    clear_ultra_ram(simulation, simulation.manifest)
    return simulation


def clear_ultra_ram(accelerator: Accelerator, manifest: Manifest) -> None:
    """Each row of the memories in UltraRAM is zero."""
    for memory in manifest.memories:
        place = memory.hardware
        if place is not None and place.ram_style == "ultra":
            for row in range(place.depth):
                for segment in range(place.segments):
                    accelerator.axil_write(place.base + row * place.word_stride + 4 * segment, 0)


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
    access: Access | None = None,
    audit: Path | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM, from the main thread; prints one line when ready. Port 0 picks one.

    With `access`, the extension alone is served, over TLS. Calls that may change the board are logged in `audit`.
    """
    check_host(host, access)  # before anything takes time
    board = virtual_board(build_dir, accelerator)
    try:
        serve(board, f"simulated, no hardware; {overlay_of(build_dir)}", port, host, access, audit)
    finally:
        board.close()  # a call that is still at work there ends


__all__ = ["access_of", "clear_ultra_ram", "emulate", "overlay_of", "simulated", "virtual_board"]
