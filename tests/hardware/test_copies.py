# SPDX-License-Identifier: Apache-2.0
"""Copies stay copies in the synthesised netlist, even where all hold the same constants and nothing writes them."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from bitward.hardware.synthesis import READ, yosys

RTL = Path(__file__).resolve().parents[2] / "hls" / "rtl"
FILES = ["bitward_voter.sv", "bitward_disagree.sv", "bitward_threshold_copy.sv", "bitward_threshold_stage.sv"]
KEEP = '(* DONT_TOUCH = "yes", keep_hierarchy = "yes" *) '
BITS, FOLDS, LEVELS = 8, 4, 4

# The last stage of a search, its writes tied off: what is left is a memory in ROM form, three times.
TOP = f"""
module top (
  input logic ap_clk, input logic ap_rst_n, input logic search_i, input logic [1:0] fold_i,
  input logic [{LEVELS - 1}:0] found_i, input logic [{BITS - 1}:0] element_i,
  output logic search_o, output logic [{LEVELS - 1}:0] found_o, output logic differ_o
);
  bitward_threshold_stage #(
    .Stage({LEVELS - 1}), .Levels({LEVELS}), .Folds({FOLDS}), .Steps(15), .InBits({BITS}), .InSigned(0),
    .Bits({BITS}), .Signed(0), .Voted({BITS}), .InitFile("thresholds"), .RamStyle("distributed")
  ) i_stage (
    .ap_clk, .ap_rst_n, .search_i, .read_i(1'b0), .fold_i, .lane_i('0), .found_i, .element_i, .row_i('0),
    .differ_i(1'b0), .search_o, .read_o(), .fold_o(), .lane_o(), .found_o, .element_o(), .row_o(), .differ_o,
    .write_i(1'b0), .write_fold_i('0), .write_lane_i('0), .write_index_i('0), .stored_i('0)
  );
endmodule
"""
SCRIPT = f"""\
read_slang --top top {READ} {" ".join(FILES)} top.sv
hierarchy -top top
synth_xilinx -family xcup -flatten -noiopad -noclkbuf -run begin:check
blackbox =A:whitebox
write_json netlist.json
"""


def voted_nets(folder: Path, copy: str) -> tuple[int, int]:
    """(different nets that the synthesised stage's voter takes, its LUT3s), the copies' module having this text."""
    for name in FILES:
        (folder / name).write_text((RTL / name).read_text())
    in_logic = copy.replace('ram_style = "distributed"', 'ram_style = "logic"')  # a ROM that Yosys makes of LUTs
    (folder / "bitward_threshold_copy.sv").write_text(in_logic)
    (folder / "top.sv").write_text(TOP)
    draw = random.Random(0)
    rows = [draw.getrandbits(BITS) for _ in range(FOLDS << LEVELS - 1)]
    (folder / f"thresholds_{LEVELS - 1}_0.dat").write_text("".join(f"{row:02x}\n" for row in rows))
    yosys(SCRIPT, folder, folder / "log", 120)
    modules = json.loads((folder / "netlist.json").read_text())["modules"]
    cells = [cell for module in modules.values() for cell in module["cells"].values()]
    (voter,) = (cell for cell in cells if cell["type"].startswith("bitward_voter"))
    luts = [cell for cell in modules[voter["type"]]["cells"].values() if cell["type"] == "LUT3"]
    return len(set(voter["connections"]["stored_i"])), len(luts)


def test_three_equal_memories_in_rom_form_are_three_and_voted(tmp_path):
    text = (RTL / "bitward_threshold_copy.sv").read_text()
    assert voted_nets(tmp_path, text) == (3 * BITS, BITS)


def test_without_keep_they_are_made_one(tmp_path):
    """Negative control: what the attributes hold off."""
    text = (RTL / "bitward_threshold_copy.sv").read_text()
    assert text.count(KEEP) == 1
    assert voted_nets(tmp_path, text.replace(KEEP, "")) == (BITS, BITS)


@pytest.mark.parametrize("module", ["voter", "disagree", "threshold_copy"])
def test_whatever_holds_or_votes_copies_carries_its_attributes(module):
    assert f"{KEEP}module bitward_{module} " in (RTL / f"bitward_{module}.sv").read_text()
