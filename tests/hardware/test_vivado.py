# SPDX-License-Identifier: Apache-2.0
"""Vivado without Vivado: the Tcl against a golden file, the run with a fake tool on PATH."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from bitward.errors import ToolError
from bitward.hardware.boards import load_board
from bitward.hardware.vivado import implement, prepare

GOLDEN = Path(__file__).parent / "golden" / "implement.tcl"


def test_the_script_is_the_golden_one(tmp_path, update_golden):
    script = prepare(tmp_path, load_board("kv260"), 200.0)
    if update_golden:
        GOLDEN.write_text(script.read_text())
    assert script.read_text() == GOLDEN.read_text()


def test_the_script_reads_every_file_of_the_build_in_order(tmp_path):
    if shutil.which("tclsh") is None:
        pytest.skip("tclsh is not installed: apt-get install tcl")
    (tmp_path / "rtl").mkdir()
    (tmp_path / "rtl" / "files.f").write_text("a_pkg.sv\nb.v\nbitward_top.sv\n")
    (tmp_path / "rtl" / "weights.dat").write_text("0\n")
    script = prepare(tmp_path, load_board("kv260"), 200.0)
    commands = "read_verilog read_mem read_xdc synth_design opt_design place_design route_design write_checkpoint"
    reports = "report_utilization report_timing_summary"
    stubs = f'foreach c {{{commands} {reports}}} {{\n  proc $c args "puts [list $c] ; puts \\$args"\n}}\n'
    (script.parent / "dry.tcl").write_text(stubs + "source implement.tcl\n")
    said = subprocess.run(["tclsh", "dry.tcl"], cwd=script.parent, capture_output=True, text=True, check=True).stdout
    read = [line.rsplit("/", 1)[-1] for line in said.splitlines() if "/rtl/" in line]
    assert read == ["a_pkg.sv", "b.v", "bitward_top.sv", "weights.dat", "bitward_top -part xck26-sfvc784-2LV-c"][:4]
    assert "-part xck26-sfvc784-2LV-c" in said
    assert "-period 5.000 [get_ports ap_clk]" in (script.parent / "clock.xdc").read_text()


def test_vivado_runs_the_script_in_its_folder(tmp_path, fake_tool):
    script = prepare(tmp_path, load_board("kv260"), 200.0)
    fake_tool("vivado", "test -f implement.tcl && touch bitward_top.dcp")
    assert implement(script) == tmp_path / "vivado"
    assert (tmp_path / "fake-tools" / "vivado.calls").read_text() == "-mode batch -source implement.tcl\n"


def test_a_failing_vivado_is_an_error_with_its_log(tmp_path, fake_tool):
    script = prepare(tmp_path, load_board("kv260"), 200.0)
    fake_tool("vivado", "echo ERROR: no licence; exit 3")
    with pytest.raises(ToolError, match=r"^vivado must end with exit code 0, got exit code 3; it said: ERROR"):
        implement(script)


def test_a_vivado_that_leaves_nothing_is_an_error(tmp_path, fake_tool):
    script = prepare(tmp_path, load_board("kv260"), 200.0)
    fake_tool("vivado", "exit 0")
    with pytest.raises(ToolError, match=r"^Vivado must leave bitward_top\.dcp in .*, got none"):
        implement(script)


def test_without_vivado_it_says_what_is_missing_and_what_is_left_where(tmp_path, monkeypatch):
    script = prepare(tmp_path, load_board("kv260"), 200.0)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with pytest.raises(ToolError, match=r"^Vivado must be on PATH to make a KV260 bitstream, got none; RTL, "):
        implement(script)
