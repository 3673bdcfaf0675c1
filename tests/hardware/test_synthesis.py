# SPDX-License-Identifier: Apache-2.0
"""Resource counts by Yosys, and what synthesis leaves of the copies: every one of them is stored and read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from bitward.errors import ToolError
from bitward.hardware import synthesis
from bitward.hardware.rtllib import MVAU_FILES, collect, library_root
from bitward.hardware.simulate import Simulation, compile_model
from bitward.hardware.synthesis import Edit, Resources, readable
from bitward.layout import BeatLayout
from bitward.schemes import Tmr

RTL = Path(__file__).resolve().parents[2] / "hls" / "rtl"
VOTER = RTL / "bitward_voter.sv"
MW, MH, PE, SIMD, BITS = 16, 8, 4, 4, 4
DEPTH, LANES = MW // SIMD * MH // PE, PE * SIMD
ZERO = {"lut": 0, "lutram": 0, "srl": 0, "ff": 0, "carry": 0.0, "bram36": 0.0, "uram": 0, "dsp": 0}
SCRIPT = """\
read_slang --top bitward_top {read} primitives.v {files}
techmap -map multiplexers.v
hierarchy -top bitward_top
setattr -mod -set keep_hierarchy 1 bitward_top/c:* %M
synth_xilinx -family xcup -flatten -noiopad -noclkbuf -uram -run begin:check
tee -q -o statistics.json stat -json -tech xilinx
"""


def mvau_top(voted: int) -> str:
    """A top with one matrix-vector unit, its weights stored with `voted` bits three times."""
    layout = BeatLayout(Tmr(BITS, voted), LANES)
    address = (DEPTH * 2 ** (layout.segments - 1).bit_length() - 1).bit_length() + 2
    widths = {"AWADDR": address, "WDATA": 32, "ARADDR": address, "RDATA": 32, "BRESP": 2, "RRESP": 2}
    inputs = ["AWVALID", "AWADDR", "WVALID", "WDATA", "BREADY", "ARVALID", "ARADDR", "RREADY"]
    outputs = ["AWREADY", "WREADY", "BVALID", "BRESP", "ARREADY", "RVALID", "RDATA", "RRESP"]
    bus = [f"input logic [{widths.get(p, 1) - 1}:0] s_axilite_{p}" for p in inputs]
    bus += [f"output logic [{widths.get(p, 1) - 1}:0] s_axilite_{p}" for p in outputs]
    return f"""
module bitward_top (
  input logic ap_clk, input logic ap_rst_n,
  input logic in0_V_TVALID, output logic in0_V_TREADY, input logic [15:0] in0_V_TDATA,
  output logic out0_V_TVALID, input logic out0_V_TREADY, output logic [63:0] out0_V_TDATA,
  output logic corrected_o, output logic detected_o,
  {", ".join(bus)}
);
  bitward_mvau #(.Mw({MW}), .Mh({MH}), .Pe({PE}), .Simd({SIMD}), .WeightBits({BITS}), .Voted({voted}),
                 .InitFile("weights.dat")) i_MVAU_0 (.*);
endmodule
"""


def write_rtl(build: Path, files: list[Path], top: str) -> list[str]:
    rtl = build / "rtl"
    rtl.mkdir(parents=True)
    names = [*collect(files, rtl), "bitward_top.sv"]
    (rtl / "bitward_top.sv").write_text(top)
    (rtl / "files.f").write_text("\n".join(names))
    return names


def synthesised(build: Path, voted: int, voter: str) -> tuple[dict, dict]:
    """Cells by type and the netlist of a matrix-vector unit with this voter, its copies initialised alike."""
    build.mkdir()
    (build / "bitward_voter.sv").write_text(voter)
    ours = [RTL / f"bitward_{name}.sv" for name in ("disagree", "secded", "weights", "mvau")]
    files = [*(library_root() / file for file in MVAU_FILES), build / "bitward_voter.sv", *ours]
    names = write_rtl(build, files, mvau_top(voted))
    layout = BeatLayout(Tmr(BITS, voted), LANES)
    words = np.random.default_rng(0).integers(0, 2**BITS, (DEPTH, LANES)).astype(np.uint8)
    rows = layout.pack(layout.scheme.encode(words))
    digits = (layout.width + 3) // 4
    lines = ["".join(f"{segment:08x}" for segment in row[::-1])[-digits:] for row in rows]
    (build / "rtl" / "weights.dat").write_text("\n".join(lines) + "\n")
    work = build / "work"
    work.mkdir()
    synthesis.stage(build / "rtl", names, work)
    script = SCRIPT.format(read=synthesis.READ, files=" ".join(names))
    synthesis.yosys(script + "blackbox =A:whitebox\nwrite_json netlist.json\n", work, build / "log")
    modules = json.loads((work / "netlist.json").read_text())["modules"]
    return synthesis.statistics(work / "statistics.json", build / "log"), modules


def memory_bits(modules, ports: str) -> int:
    """How many nets join the data ports of the block RAMs with other cells: the width of what is stored."""
    count = 0
    for module in modules.values():
        rams = [cell for cell in module["cells"].values() if "RAMB" in cell["type"]]
        others = [cell for cell in module["cells"].values() if "RAMB" not in cell["type"]]
        outside = {bit for cell in others for bits in cell["connections"].values() for bit in bits}
        at_rams = {
            bit for cell in rams for port, bits in cell["connections"].items() if port.startswith(ports) for bit in bits
        }
        count += len({bit for bit in at_rams & outside if isinstance(bit, int)})  # constants are strings
    return count


@pytest.mark.parametrize("voted", [0, 1, 4], ids=["plain", "msb", "tmr"])
def test_every_copy_is_written_read_and_voted(voted, tmp_path):
    """Nothing of what is stored was merged or dropped: width of the memory, block RAMs, and a LUT3 per voted bit."""
    modules, cells = synthesised(tmp_path / "build", voted, VOTER.read_text())
    width = BeatLayout(Tmr(BITS, voted), LANES).width
    assert width == LANES * (BITS + 2 * voted)
    assert memory_bits(cells, "DOUT") == memory_bits(cells, "DIN") == width
    voters = [cell for name, cell in modules.items() if name.startswith("bitward_voter")]
    assert voters == ([{"LUT3": LANES * voted}] if voted else [])
    (mvau,) = (name for name in modules if name.startswith("bitward_mvau"))
    row = synthesis.row(modules, mvau)
    assert (row["dsp"], row["uram"], row["bram36"]) == (4, 0, {0: 1.0, 1: 1.5, 4: 3.0}[voted])
    assert row["voter"] == (ZERO | {"lut": LANES * voted} if voted else None)
    assert row["srl"] >= width  # FINN's output queue of stored words is made of shift registers, not of flip-flops


def test_the_count_sees_copies_that_are_not_voted(tmp_path):
    """Negative control: a voter that reads one copy leaves two unread but by AXI, and no LUT3."""
    majority = "(a & b) | (a & c) | (b & c)"
    modules, _ = synthesised(tmp_path / "build", 1, VOTER.read_text().replace(majority, "a"))
    assert all("LUT3" not in cell for name, cell in modules.items() if name.startswith("bitward_voter"))


def test_resources_add_and_multiply():
    assert Resources(lut=2, bram36=0.5) + Resources(lut=1, ff=3) == Resources(lut=3, ff=3, bram36=0.5)
    assert Resources(lut=2, bram36=0.5) * 3 == Resources(lut=6, bram36=1.5)


def test_the_ram_style_and_nettype_of_finn_are_made_readable():
    text = '`default_nettype none\nparameter RAM_STYLE = "auto";\n(* KEEP, RAM_STYLE = RAM_STYLE *)\nlogic a;'
    assert readable("x.sv", text) == '\nparameter RAM_STYLE = "auto";\n(* KEEP, ram_style = RAM_STYLE *)\nlogic a;'


def test_a_file_that_is_not_the_one_an_edit_was_written_for_is_refused():
    with pytest.raises(
        ToolError, match=r"^fifo\.sv must hold 'dat_t  A\[DEPTH_IMPL\];' once to be read by Yosys, got 0"
    ):
        readable("fifo.sv", "module fifo; endmodule")
    with pytest.raises(ToolError, match=r"^x\.sv must hold 'a' once to be read by Yosys, got 2 times: install"):
        Edit("x.sv", "a", "b").apply("a a")


def test_yosys_is_stopped_when_it_takes_too_long(tmp_path):
    with pytest.raises(ToolError, match=r"^python\S* must end with exit code 0, got none after 0\.01 s"):
        synthesis.yosys("help", tmp_path, tmp_path / "log", 0.01)


def test_a_missing_result_is_an_error_whatever_the_exit_code(tmp_path):
    """Yosys has been seen to stop silently with exit code 0."""
    with pytest.raises(
        ToolError, match=rf"^Yosys must leave none\.json, got none though it ended well; log: {tmp_path}/l$"
    ):
        synthesis.statistics(tmp_path / "none.json", tmp_path / "l")


def test_a_cell_that_is_no_primitive_is_an_error_and_not_a_zero():
    with pytest.raises(
        ToolError, match=r"^synthesised cells must be primitives of the chip, got 2 \$mem_v2 in top: Yosys"
    ):
        synthesis.flat({"top": {"LUT6": 1, "$mem_v2": 2}}, "top")


def test_without_pyosys_the_next_step_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(synthesis, "find_spec", lambda name: None)
    with pytest.raises(ToolError, match=r"^this environment must hold the PyPI package pyosys .*run make setup\.$"):
        synthesis.yosys("", tmp_path, tmp_path / "log")
    with pytest.raises(ToolError, match=r"^pyosys must know the primitive DSP48E2, got none in its library: run make"):
        synthesis._black_box("DSP48E2")


@pytest.mark.slow
def test_the_edits_leave_the_hardware_as_it_is(mlp_run, tmp_path):
    """The design with the edits computes the same outputs in the same cycles, in Verilator."""
    build, edited = mlp_run.build("hardened"), tmp_path / "edited"
    outcomes_are_equal(build, edited)


def outcomes_are_equal(build: Path, edited: Path) -> None:
    shutil.copytree(build, edited, ignore=shutil.ignore_patterns("sim"))
    files = (build / "rtl" / "files.f").read_text().split()
    for name in files:
        (edited / "rtl" / name).write_text(readable(name, (build / "rtl" / name).read_text()))
    (edited / "sim").mkdir()
    compile_model(edited / "rtl", files, edited / "sim", edited / "sim" / "compile.log")
    with Simulation(build) as original, Simulation(edited) as changed:
        shape = original.manifest.io.input.shape
        images = np.random.default_rng(2).integers(0, 16, (40, *shape))
        expected, found = original.infer(images), changed.infer(images)
    assert np.array_equal(expected.outputs, found.outputs)
    assert np.array_equal(expected.out_cycles, found.out_cycles)
