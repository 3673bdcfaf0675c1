# SPDX-License-Identifier: Apache-2.0
"""Resources node by node: equal nodes once, counts kept by what was synthesised, other protections beside them."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bitward.errors import ToolError
from bitward.hardware import resources as counting
from bitward.hardware import synthesis
from bitward.hardware.elaborated import cut
from bitward.hardware.resources import built_in_ecc, levels, overridden, resources
from bitward.manifest import Manifest
from bitward.tools import run

RTL = Path(__file__).resolve().parents[2] / "hls" / "rtl"
ZERO = {"lut": 0, "lutram": 0, "srl": 0, "ff": 0, "carry": 0.0, "bram36": 0.0, "uram": 0, "dsp": 0}
LEAF = """
module leaf #(parameter int Add = 1) (
  input logic clk, input logic [7:0] a, input logic [7:0] b, output logic [7:0] y, output logic [7:0] unread
);
  logic [7:0] q;
  always_ff @(posedge clk) begin
    q <= a & b;
    y <= q ^ 8'(Add);
    unread <= a | b;
  end
endmodule
"""
TOP = """
module bitward_top (
  input logic clk, input logic [7:0] a, input logic [7:0] b, input logic [47:0] stored_i,
  output logic [7:0] x, output logic [7:0] y, output logic [7:0] z, output logic [7:0] w, output logic [31:0] word_o
);
  leaf #(.Add(1)) i_one (.clk, .a, .b, .y(x));
  leaf #(.Add(1)) i_same (.clk, .a(b), .b(a), .y);
  leaf #(.Add(2)) i_other (.clk, .a, .b, .y(z));
  leaf #(.Add(1)) i_tied (.clk, .a, .b(8'h0f), .y(w));
  bitward_voter #(.NumWords(8), .Bits(4), .Voted(1)) i_voter (.stored_i, .word_o);
endmodule
"""


def write_build(folder: Path, top: str = TOP) -> Path:
    rtl = folder / "rtl"
    rtl.mkdir(parents=True)
    (rtl / "leaf.sv").write_text(LEAF)
    (rtl / "bitward_voter.sv").write_text((RTL / "bitward_voter.sv").read_text())
    (rtl / "bitward_top.sv").write_text(top)
    (rtl / "files.f").write_text("leaf.sv\nbitward_voter.sv\nbitward_top.sv\n")
    return folder


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Every run of Yosys in the test, by its script; what is kept lies in a folder of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    scripts, real = [], synthesis.yosys

    def yosys(script: str, *arguments, **options) -> str:
        scripts.append(script)
        return real(script, *arguments, **options)

    monkeypatch.setattr(synthesis, "yosys", yosys)
    return scripts


def test_equal_nodes_are_synthesised_once_and_found_again(tmp_path, runs):
    build, said = write_build(tmp_path / "build"), []
    found = resources(build, lambda done, units: said.append((done, units)))
    assert said == [(4, 4)]  # one and same are one unit
    assert len(runs) == 1 + 1  # elaborated, and all small ones side by side
    one, same, other, tied = (found["instances"][name] for name in ("one", "same", "other", "tied"))
    assert (
        one
        == same
        == {"module": "leaf", **ZERO, "ff": 16, "lut": 8, "voter": None, "levels": 1}
        | {key: one[key] for key in ("lut", "levels")}
    )
    assert 8 <= one["lut"] <= 12  # 8 ANDs; an inverter of the constant may be one more
    assert other["ff"] == 16
    assert tied["ff"] < one["ff"]  # half of the tied inputs are 0, and nobody reads the third register anywhere
    voter = {"lut": 8, **{key: value for key, value in ZERO.items() if key != "lut"}}
    assert found["instances"]["voter"] == {"module": "bitward_voter", **voter, "voter": None, "levels": 1}
    assert found["total"]["ff"] == 3 * 16 + tied["ff"]
    assert found["total"]["levels"] == 1
    again = resources(build)
    assert len(runs) == 2 + 1  # elaborated, nothing synthesised
    assert again["instances"] == found["instances"]
    for kept in (tmp_path / "cache" / "bitward" / "synthesis").iterdir():
        kept.write_text("{")
    changed = resources(write_build(tmp_path / "changed", TOP.replace(".Add(2)", ".Add(3)")))
    assert len(runs) == 3 + 1 + 1  # damaged counts are made again
    assert changed["instances"]["one"] == one


@pytest.mark.parametrize("error", [KeyboardInterrupt, ToolError])
def test_what_cuts_it_off_ends_what_is_synthesised_and_begins_no_more(tmp_path, monkeypatch, error):
    began = []

    def sleep(units: Sequence[counting.Unit], *_: Path) -> dict[str, Any]:
        began.append(units)
        if len(began) > 1:
            run(["sleep", "60"])
        return {}

    def cut_off(*_: int) -> None:
        raise error("cut off")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(counting, "_synthesise", sleep)
    monkeypatch.setattr(counting, "_BATCH", 1)
    monkeypatch.setattr(counting, "cores", lambda: 2)
    started = time.monotonic()
    with pytest.raises(error, match="^cut off$"):
        resources(write_build(tmp_path / "build"), cut_off)
    assert time.monotonic() - started < 30
    assert len(began) < 4  # of 4 units


def test_units_count_the_same_alone_and_side_by_side(tmp_path, runs, monkeypatch):
    build = write_build(tmp_path / "build")
    together = resources(build)["instances"]
    monkeypatch.setattr(counting, "_SMALL", 0)
    monkeypatch.setattr(counting, "_place", lambda digest: tmp_path / "other" / digest)
    said: list[tuple[int, int]] = []
    assert resources(build, lambda done, units: said.append((done, units)))["instances"] == together
    assert said == [(1, 4), (2, 4), (3, 4), (4, 4)] and len(runs) == 2 + 1 + 4


def test_what_differs_only_in_places_and_names_is_one_unit(tmp_path):
    """The paths of instances and the lines of sources are left out of a unit's text."""
    build = write_build(tmp_path / "build")
    work = tmp_path / "work"
    work.mkdir()
    units = counting._elaborated(build, {}, work)
    assert [unit.name for unit in units] == ["one", "same", "other", "tied", "voter"]
    assert units[0].digest == units[1].digest != units[2].digest
    text = (work / "design.il").read_text()
    assert cut(text, "bitward_top") == units
    assert "bitward_top" not in units[0].text and "src" not in units[0].text


def test_levels_are_the_longest_row_of_logic_between_registers():
    def cell(kind: str, inputs: list[int], output: int) -> dict:
        return {
            "type": kind,
            "connections": {"I": inputs, "O": [output]},
            "port_directions": {"I": "input", "O": "output"},
        }

    chain = {"a": cell("LUT2", [1, 2], 3), "b": cell("CARRY8", [3], 4), "c": cell("MUXF7", [4, 3], 5)}
    assert levels(chain) == 3
    assert levels({**chain, "b": cell("FDRE", [3], 4)}) == 2  # a register cuts it: a -> c
    assert levels({}) == 0


def test_the_protection_of_weights_is_changed_in_the_top_and_nowhere_else():
    top = (
        "  bitward_mvau #(.Mw(9), .WeightBits(4), .Voted(1), .Secded(0), "
        '.InitFile("a.dat"), .RamStyle("block")) i_A (\n'
        "    .corrected_o(), .detected_o()\n  );\n"
        "  bitward_pool #(.Pe(2)) i_B (\n"
        "endmodule\n"
    )
    changed = overridden(top, {"Voted": "WeightBits", "Secded": 0})
    assert ".Voted(4)" in changed and '.InitFile("")' in changed and '.RamStyle("block")' in changed
    assert "bitward_pool #(.Pe(2)) i_B" in changed
    assert ".corrected_o(counted_corrected[0]), .detected_o(counted_detected[0])" in changed
    assert "  bitward_counters #(.Num(1)) i_counted (" in changed
    plain = overridden(top, {"Voted": 0, "Secded": 0})
    assert ".Voted(0)" in plain and "counted" not in plain


UNIT = """
module bitward_mvau #(parameter int WeightBits = 4, parameter int Voted = 0, parameter InitFile = "") (
  input logic clk, input logic [7:0] a, output logic [7:0] y, output logic corrected_o, detected_o
);
  always_ff @(posedge clk) y <= InitFile == "" ? a ^ 8'(Voted) : a;
  assign {corrected_o, detected_o} = '0;
endmodule
module bitward_top (input logic clk, input logic [7:0] a, output logic [7:0] y, output logic corrected, detected);
  bitward_mvau #(.WeightBits(4), .Voted(VOTED), .InitFile("FILE")) i_A (
    .clk, .a, .y, .corrected_o(corrected), .detected_o(detected)
  );
endmodule
"""


@pytest.mark.parametrize(("override", "voted"), [({}, None), ({"Voted": 0}, 0), ({"Voted": "WeightBits"}, 4)])
def test_a_build_is_elaborated_with_what_is_changed_in_its_top(override, voted, tmp_path):
    """As if its top had been written so: `voted` bits, memories that start empty."""
    given = UNIT.replace("VOTED", "0").replace("FILE", "a.dat")
    written = given if voted is None else UNIT.replace("VOTED", str(voted)).replace("FILE", "")
    builds = [write_build(tmp_path / "changed", given), write_build(tmp_path / "written", written)]
    for work in ("a", "b"):
        (tmp_path / work).mkdir()
    changed = counting._elaborated(builds[0], override, tmp_path / "a")
    assert changed == counting._elaborated(builds[1], {}, tmp_path / "b")
    assert [unit.name for unit in changed] == ["A"] and "a.dat" in (builds[0] / "rtl" / "bitward_top.sv").read_text()


def test_built_in_ecc_is_counted_in_blocks_of_512_rows_of_64_bits(digits_run):
    manifest = Manifest.load(digits_run.build("hardened") / "manifest.json")
    shapes = [(m.format.bits * m.hardware.lanes, m.hardware.depth) for m in manifest.memories if m.role == "weight"]
    blocks = sum(-(-width // 64) * -(-depth // 512) for width, depth in shapes)
    bits = sum(width * depth for width, depth in shapes)
    assert built_in_ecc(manifest) == {"bram36": blocks, "bits": bits, "overhead": 0.125}


def test_a_folder_without_rtl_is_refused(tmp_path):
    with pytest.raises(ToolError, match=rf"^{tmp_path} must be a build directory, got no files\.f in it: run bitward"):
        resources(tmp_path)


def test_a_failure_of_yosys_names_its_sentence_and_its_log(tmp_path):
    build = write_build(tmp_path / "build", "module bitward_top (input logic a); nothing i_x (.a); endmodule\n")
    log = rf"{build}/synthesis\.log$"
    sentence = rf"""^Yosys must end without an error, got ".*ERROR: unknown module 'nothing'"; log: {log}"""
    with pytest.raises(ToolError, match=sentence):
        resources(build)


def test_the_command_prints_and_writes_the_counts(tmp_path, runs, digits_run, capsys):
    from bitward.cli import main

    build = write_build(tmp_path / "build")
    (build / "manifest.json").write_text((digits_run.build("plain") / "manifest.json").read_text())
    assert main(["resources", str(build), "--json", str(tmp_path / "r.json")]) == 0
    said = capsys.readouterr()
    assert "Yosys 0.70, out of context, not Vivado" in said.out + said.err and "of the chip" in said.out + said.err
    assert json.loads((tmp_path / "r.json").read_text())["total"]["ff"] > 0


def test_counts_are_told_where_nothing_can_be_kept(tmp_path, runs, monkeypatch):
    (tmp_path / "a-file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a-file"))
    build = write_build(tmp_path / "build")
    first, second = resources(build), resources(build)
    assert first["instances"] == second["instances"]
    assert len(runs) == 2 * (1 + 1)  # elaborated and synthesised, each time
