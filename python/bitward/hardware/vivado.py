# SPDX-License-Identifier: Apache-2.0
"""Vivado, where it is on PATH: the build's RTL, as simulated, is placed and routed out of context for a board's part.

Not yet run: no Vivado was at hand when this was written; the Tcl is held against a golden file and run by a fake tool.
The shell around the accelerator (processing system, DMA, clocks), which a bitstream needs, is not written yet.
"""

from __future__ import annotations

from pathlib import Path

from bitward.errors import ToolError
from bitward.hardware.boards import Board
from bitward.tools import atomic_write, find_tool, output_directory, run

SCRIPT = "implement.tcl"

_TCL = """\
# Written by bitward; run in this folder: vivado -mode batch -source {script}
set rtl [file normalize ../rtl]
foreach file [split [string trim [read [open $rtl/files.f]]] "\\n"] {{
  if {{[file extension $file] eq ".sv"}} {{ read_verilog -sv $rtl/$file }} else {{ read_verilog $rtl/$file }}
}}
foreach file [glob -nocomplain $rtl/*.dat] {{ read_mem $file }}
set clock [open clock.xdc w]
puts $clock "create_clock -name ap_clk -period {period:.3f} \\[get_ports ap_clk\\]"
close $clock
read_xdc -mode out_of_context clock.xdc
synth_design -top bitward_top -part {part} -mode out_of_context -include_dirs $rtl
opt_design
place_design
route_design
write_checkpoint -force bitward_top.dcp
report_utilization -hierarchical -file utilization.rpt
report_timing_summary -file timing.rpt
"""


def prepare(build_dir: Path, board: Board, clk_mhz: float) -> Path:
    """`build_dir`/vivado holds all that Vivado needs beside rtl/; the path of the script."""
    folder = output_directory(build_dir / "vivado")
    atomic_write(folder / SCRIPT, _TCL.format(script=SCRIPT, period=1000.0 / clk_mhz, part=board.part))
    return folder / SCRIPT


def implement(script: Path) -> Path:
    """Vivado has run the script; the folder of its checkpoint and reports.

    Raises ToolError where Vivado is not on PATH, fails, or leaves no checkpoint.
    """
    vivado = find_tool("vivado")
    if vivado is None:
        raise ToolError(
            f"Vivado must be on PATH to make a KV260 bitstream, got none; RTL, memory contents and {script.name} are "
            f"left in {script.parent.parent}: source Vivado's settings64.sh and run the command again"
        )
    run([vivado, "-mode", "batch", "-source", script.name], cwd=script.parent, log=script.parent / "bitward.log")
    if not (script.parent / "bitward_top.dcp").is_file():
        raise ToolError(f"Vivado must leave bitward_top.dcp in {script.parent}, got none; see bitward.log there")
    return script.parent
