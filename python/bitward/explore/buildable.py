# SPDX-License-Identifier: Apache-2.0
"""Whether hardware can be made of a point as it is: signed integers, quantized activations, room on the chip."""

from __future__ import annotations

from bitward.formats import Int
from bitward.hardware.boards import load_board
from bitward.manifest import Manifest

BRAM36_BITS, URAM_BITS = 36 * 1024, 288 * 1024


def chip_bits(board: str = "kv260") -> int:
    """The bits of all block and ultra RAMs of a board's chip."""
    found = load_board(board).resources
    return found["bram36"] * BRAM36_BITS + found["uram"] * URAM_BITS


def buildable(manifest: Manifest, stored_bits: int, has_quantized_activations: bool) -> tuple[bool, str]:
    """Whether RTL can be made of the design, and why (not). Room is that for stored weights alone, as a bound."""
    reasons = []
    weights = [memory for memory in manifest.memories if memory.role == "weight"]
    if not all(isinstance(memory.format, Int) for memory in weights):
        reasons.append("weights are no signed integers")
    if not has_quantized_activations:
        reasons.append("activations are floating point")
    room = chip_bits()
    if stored_bits > room:
        reasons.append(f"{stored_bits / 1e6:.1f} Mb do not fit the K26's {room / 1e6:.1f} Mb")
    if reasons:
        return False, ", ".join(reasons)
    return True, f"signed integers, quantized activations, {stored_bits / 1e6:.2f} of the K26's {room / 1e6:.1f} Mb"
