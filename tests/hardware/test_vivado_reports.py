# SPDX-License-Identifier: Apache-2.0
"""Vivado's tables and logs as numbers; whatever is missing in them is an error, never 0."""

from __future__ import annotations

import pytest
from shell_builds import canned

from bitward.errors import ToolError
from bitward.hardware import vivado_reports as reports


def test_resources_are_the_totals_of_their_tables():
    found = reports.utilisation(canned("utilization"))
    assert found == reports.Utilisation(lut=12345, ff=23456, bram36=17.5, uram=2, dsp=24)


@pytest.mark.parametrize("site", ["CLB LUTs", "CLB Registers", "Block RAM Tile", "URAM", "DSPs"])
def test_a_table_without_a_resource_is_refused(site):
    with pytest.raises(
        ToolError, match=rf"^utilization\.rpt must hold {site}, got no such row: is it Vivado's report "
    ):
        reports.utilisation(canned("utilization").replace(f"| {site} ", "| Slices "))


def test_a_footnote_mark_is_not_part_of_a_name():
    assert reports.utilisation(canned("utilization").replace("| CLB LUTs ", "| CLB LUTs*")).lut == 12345


def test_slack_is_that_of_the_design():
    found = reports.timing(canned("timing"))
    assert found == reports.Timing(wns=0.312, tns=0.0, whs=0.011, ths=0.0, wpws=0.968) and found.is_met
    assert not reports.timing(canned("timing", wns="-0.001")).is_met
    assert not reports.timing(canned("timing", whs="-0.001")).is_met
    assert not reports.timing(canned("timing").replace("0.968", "-0.01")).is_met
    assert reports.timing(canned("timing", wns="0.000")).is_met


@pytest.mark.parametrize("value", ["NA", "inf.x"])
def test_slack_that_is_no_number_is_refused(value):
    with pytest.raises(
        ToolError, match=r"^timing\.rpt must hold numbers for WNS, TNS, .*: is every clock constrained\?$"
    ):
        reports.timing(canned("timing", wns=value))


def test_a_timing_report_without_its_summary_is_refused():
    with pytest.raises(ToolError, match=r"^timing\.rpt must hold WNS\(ns\), got no such row: is it Vivado's report"):
        reports.timing("| Clock Summary\n")


def test_power_is_an_estimate_with_its_confidence():
    found = reports.power(canned("power"))
    assert found == reports.Power(total=2.778, dynamic=2.477, static=0.301, confidence="Medium")
    hot = canned("power").replace("2.778        |", "9.1 (Junction temp exceeded!) |")
    assert reports.power(hot).total == 9.1


@pytest.mark.parametrize("row", ["Total On-Chip Power (W)", "Dynamic (W)", "Device Static (W)", "Confidence Level"])
def test_a_power_report_without_a_row_is_refused(row):
    with pytest.raises(ToolError, match=r"^power\.rpt must hold .*, got no such row: is it Vivado's report"):
        reports.power(canned("power").replace(row, "x"))


def test_the_tool_tells_its_version():
    found = reports.tool_version(canned("utilization"), "utilization.rpt")
    assert found == "Vivado v.2024.1 (lin64) Build 5076996"
    with pytest.raises(ToolError, match=r"^x\.rpt must hold Tool Version, got no such row"):
        reports.tool_version("", "x.rpt")


LOG = """\
INFO: [Synth 8-3876] $readmem data file 'C:/a b/conv.weight.dat' is read successfully [m.sv:3]
WARNING: [Synth 8-1] CRITICAL WARNING: [quoted 1-1] not at the start of a line
CRITICAL WARNING: [Synth 8-4445] could not open $readmem data file 'x.dat'; please make sure the file is added
CRITICAL WARNING: [xilinx.com:ip:axi_dma:7.1-1] odd
CRITICAL WARNING: [Synth 8-4445] could not open $readmem data file 'x.dat'; please make sure the file is added
INFO: [Synth 8-3876] $readmem data file 'fc.dat' is read successfully [m.sv:3]
"""


def test_critical_warnings_count_once_each_unless_allowed():
    first = "[Synth 8-4445] could not open $readmem data file 'x.dat'; please make sure the file is added"
    assert reports.critical_warnings(LOG, frozenset()) == [first, "[xilinx.com:ip:axi_dma:7.1-1] odd"]
    allowed = reports.allowed_ids("# [BD 1-1] a comment\n[xilinx.com:ip:axi_dma:7.1-1] nobody reads it\n")
    assert allowed == {"xilinx.com:ip:axi_dma:7.1-1"}
    assert reports.critical_warnings(LOG, allowed) == [first]


def test_memory_files_read_are_known_by_name():
    assert reports.memories_read(LOG) == {"conv.weight.dat", "fc.dat"}


def test_a_report_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ToolError, match=r"^Vivado must leave power\.rpt in .*, got none: see bitward\.log there$"):
        reports.read_report(tmp_path / "power.rpt")
