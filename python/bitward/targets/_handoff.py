# SPDX-License-Identifier: Apache-2.0
"""What an overlay's .hwh says to whoever loads it without pynq: addresses of its blocks, and PL clock 0."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from bitward.errors import BoardError
from bitward.hardware.overlay import ACCELERATOR, DMA

CLOCK = "PSU__CRL_APB__PL0_REF_CTRL__"
PL0_REF_CTRL = 0xFF5E00C0  # UG1087, CRL_APB
ACTIVE, SOURCES = 1 << 24, {"IOPLL": 0, "RPLL": 2, "DPLL": 3}


@dataclass(frozen=True)
class Handoff:
    """Byte addresses of the accelerator's AXI-Lite window and of the AXI DMA; what PL0_REF_CTRL must hold."""

    accelerator: int
    dma: int
    pl0_ref_ctrl: int


def read_handoff(path: Path) -> Handoff:
    """What the .hwh at `path` says; BoardError where it lacks something."""
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise BoardError(f"{path} must be the handoff file beside the overlay, got {error}; build it again") from error
    bases = {at.get("INSTANCE"): at.get("BASEVALUE", "") for at in root.iter("MEMRANGE")}
    values = {at.get("NAME", ""): at.get("VALUE", "") for at in root.iter("PARAMETER")}
    try:
        first, second = (int(values[f"{CLOCK}DIVISOR{number}"]) for number in (0, 1))
        control = ACTIVE | second << 16 | first << 8 | SOURCES[values[f"{CLOCK}SRCSEL"]]
        return Handoff(int(bases[ACCELERATOR], 16), int(bases[DMA], 16), control)
    except (KeyError, ValueError) as error:
        raise BoardError(
            f"{path} must say where {ACCELERATOR} and {DMA} are and how PL clock 0 is made, got no usable {error}; "
            "build the overlay again"
        ) from error
