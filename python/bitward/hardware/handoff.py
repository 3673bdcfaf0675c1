# SPDX-License-Identifier: Apache-2.0
"""The hardware handoff file of Vivado against what the overlay must say: the client relies on it for every address."""

from __future__ import annotations

from xml.etree import ElementTree

from bitward.errors import ToolError
from bitward.hardware.overlay import ACCELERATOR, DMA, GPIO, PS, Overlay, Window, dma_parameters

CONTROL_PORT = "M_AXI_HPM0_FPD"
CLOCK_TOLERANCE = 1e-3  # relative; the board's crystal is named 33.333 MHz, so that 200 MHz reads 199.998


def check_handoff(text: str, overlay: Overlay, where: str = "the .hwh") -> None:
    """Nothing where the .hwh gives the client what it needs: addresses, DMA, PL clock 0. Raises ToolError otherwise."""
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ToolError(f"{where} must be XML, got {error}: see Vivado's log") from error
    modules = {module.get("INSTANCE", ""): module for module in root.iter("MODULE")}
    for name in (PS, ACCELERATOR, DMA, GPIO):
        if name not in modules:
            raise ToolError(f"{where} must hold the block {name}, got {', '.join(sorted(modules))}: mend design.tcl")
    windows = {ACCELERATOR: overlay.accelerator, DMA: overlay.dma, GPIO: overlay.gpio}
    _compare(where, "addresses", {name: _address(window) for name, window in windows.items()}, _addresses(modules[PS]))
    found, wanted = _parameters(modules[DMA]), dma_parameters(overlay)
    _compare(where, "AXI DMA", wanted, {name: found.get(name, "nothing") for name in wanted})
    _check_clock(where, _parameters(modules[PS]), overlay)


def _address(window: Window) -> str:
    return f"0x{window.base:X} to 0x{window.base + window.size - 1:X}, REGISTER"


def _addresses(ps: ElementTree.Element) -> dict[str, str]:
    ranges = [at for at in ps.iter("MEMRANGE") if at.get("MASTERBUSINTERFACE") == CONTROL_PORT]
    return {
        at.get("INSTANCE", ""): (
            f"0x{int(at.get('BASEVALUE', '0'), 16):X} to 0x{int(at.get('HIGHVALUE', '0'), 16):X}, {at.get('MEMTYPE')}"
        )
        for at in ranges
    }


def _parameters(module: ElementTree.Element) -> dict[str, str]:
    return {at.get("NAME", ""): at.get("VALUE", "") for at in module.iter("PARAMETER")}


def _compare(where: str, what: str, wanted: dict[str, str], found: dict[str, str]) -> None:
    for name in sorted(wanted.keys() | found.keys()):
        first, second = wanted.get(name, "nothing"), found.get(name, "nothing")
        if first != second:
            raise ToolError(f"{where}: {what}: {name} must be {first}, got {second}: mend design.tcl")


def _check_clock(where: str, parameters: dict[str, str], overlay: Overlay) -> None:
    """The client sets the divisors that stand here, so that their product decides the clock the design runs at."""
    register = "PSU__CRL_APB__PL0_REF_CTRL__"
    try:
        divisor = int(parameters[f"{register}DIVISOR0"]) * int(parameters[f"{register}DIVISOR1"])
        mhz = float(parameters[f"{register}ACT_FREQMHZ"])
    except (KeyError, ValueError) as error:
        raise ToolError(
            f"{where} must hold the divisors of PL clock 0, got none of {error}: see Vivado's log"
        ) from error
    source = parameters.get(f"{register}SRCSEL", "nothing")
    near = abs(mhz - overlay.clk_mhz) <= CLOCK_TOLERANCE * overlay.clk_mhz
    if source != "IOPLL" or divisor != overlay.clk_divisor or not near:
        raise ToolError(
            f"{where}: PL clock 0 must be IOPLL / {overlay.clk_divisor} = {overlay.clk_mhz:g} MHz, got {source} / "
            f"{divisor} = {mhz:g} MHz: mend ps.tcl"
        )
