# SPDX-License-Identifier: Apache-2.0
"""A .hwh that would lead the client elsewhere is refused; the virtual board's own is the one that is right."""

from __future__ import annotations

import pytest
from shell_builds import make_shell

from bitward.errors import ToolError
from bitward.hardware.handoff import check_handoff
from bitward.hardware.overlay import hwh_text


@pytest.fixture
def overlay(tmp_path, monkeypatch):
    return make_shell(tmp_path / "build", monkeypatch).overlay


def test_the_virtual_boards_handoff_is_right(overlay):
    check_handoff(hwh_text(overlay), overlay)


def test_what_else_a_handoff_says_does_not_matter(overlay):
    more = '<MODULE INSTANCE="reset" MODTYPE="proc_sys_reset"/><MODULE INSTANCE="psu_ddr"/>'
    text = hwh_text(overlay).replace("<MODULES>", f"<MODULES>{more}").replace('VALUE="250"', 'VALUE="249.997498"')
    ranges = '<MEMORYMAP><MEMRANGE INSTANCE="ocm" BASEVALUE="0x0" HIGHVALUE="0x1" MASTERBUSINTERFACE="S"/>'
    check_handoff(text.replace("<MEMORYMAP>", ranges), overlay)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("</EDKSYSTEM>", "", r" must be XML, got .*: see Vivado's log$"),
        ('INSTANCE="axi_dma" FULL', 'INSTANCE="axi_dma_0" FULL', r" must hold the block axi_dma, got accelerator"),
        ("0xA0000000", "0xA1000000", r": addresses: accelerator must be 0xA0000000 to 0xA00FFFFF, REGISTER, got 0xA10"),
        ("0xA00FFFFF", "0xA00FFFFE", r": addresses: accelerator must be "),
        ("0xAFFF0000", "0xAFFF8000", r": addresses: axi_dma must be "),
        ('MEMTYPE="REGISTER"', 'MEMTYPE="MEMORY"', r": addresses: accelerator must be .*REGISTER, got .*MEMORY: mend"),
        ('"c_include_sg" VALUE="0"', '"c_include_sg" VALUE="1"', r": AXI DMA: c_include_sg must be 0, got 1: mend des"),
        ('c_s_axis_s2mm_tdata_width" VALUE="32"', 'x" VALUE="32"', r": AXI DMA: c_s_axis_s2mm_tdata_width must be "),
        ('PL0_REF_CTRL__DIVISOR0" VALUE="4"', 'PL0_REF_CTRL__DIVISOR0" VALUE="6"', r": PL clock 0 must be IOPLL / 4"),
        ('PL0_REF_CTRL__SRCSEL" VALUE="IO', 'PL0_REF_CTRL__SRCSEL" VALUE="R', r": PL clock 0 must be .* got RPLL / 4"),
        ('PL0_REF_CTRL__ACT_FREQMHZ" VALUE="250"', 'PL0_REF_CTRL__ACT_FREQMHZ" VALUE="251"', r": PL.* = 251 MHz: mend"),
        ("PL0_REF_CTRL__DIVISOR1", "x", r" must hold the divisors of PL clock 0, got none of 'PSU"),
    ],
)  # fmt: skip
def test_a_handoff_that_differs_is_refused(overlay, old, new, message):
    text = hwh_text(overlay)
    assert old in text
    changed = text.replace(old, new, 1)
    with pytest.raises(ToolError, match=rf"^the \.hwh{message}"):
        check_handoff(changed, overlay)


def test_an_address_too_many_is_refused(overlay):
    more = '<MEMRANGE INSTANCE="x" BASEVALUE="0xA8000000" HIGHVALUE="0xA8000FFF" MASTERBUSINTERFACE="M_AXI_HPM0_FPD"/>'
    text = hwh_text(overlay).replace("</MEMORYMAP>", f"{more}</MEMORYMAP>")
    with pytest.raises(
        ToolError, match=r"^the \.hwh: addresses: x must be nothing, got 0xA8000000 to 0xA8000FFF, None"
    ):
        check_handoff(text, overlay)
