# SPDX-License-Identifier: Apache-2.0
"""What Vivado is given beside the RTL: settings and wrapper against golden files, the wrapper against the real top."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from rtl_bench import Bench, compile_runtime
from shell_builds import GIT, make_build, make_shell

from bitward.errors import ManifestError
from bitward.hardware.shell import Shell, git_words, prepare, wrapper_text
from bitward.hardware.stitch import REGISTERS, Link, Node, Stream, map_size, top, windows
from bitward.tools import find_verilator, resource

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", ["settings.tcl", "accelerator.v"])
def test_what_is_written_is_the_golden_one(tmp_path, monkeypatch, update_golden, name):
    shell = make_shell(tmp_path / "build", monkeypatch)
    text = (shell.folder / name).read_text().replace(f"32'h{shell.build_id:08x}", "32'hBUILD_ID")
    if update_golden:
        (GOLDEN / name).write_text(text)
    assert text == (GOLDEN / name).read_text()


def test_the_boards_tcl_is_copied_and_the_clock_kept(tmp_path, monkeypatch):
    shell = make_shell(tmp_path / "build", monkeypatch)
    for name in ("build.tcl", "design.tcl", "ps.tcl", "memories.tcl", "allowed_critical_warnings.txt"):
        assert (shell.folder / name).read_text() == resource(f"board/kv260/{name}").read_text()
    assert (shell.clock.asked_mhz, shell.clock.mhz, shell.clock.divisors) == (300.0, 250.0, (4, 1))
    assert shell.memory_files == ("conv.threshold_0_0.dat", "conv.weight.dat")
    assert shell.git == GIT


def test_the_build_id_stands_for_all_that_vivado_is_given(tmp_path, monkeypatch):
    def build_id(name: str, git: str = GIT, **changes: object) -> int:
        monkeypatch.setattr("bitward.hardware.shell.git_hash", lambda: git)
        return prepare(make_build(tmp_path / name, **changes), "kv260", 250.0).build_id  # type: ignore[arg-type]

    first = build_id("a")
    assert build_id("b") == first != 0
    assert len({first, build_id("c", git="not known"), build_id("d", clk_mhz=200.0), build_id("e", design_id=6)}) == 4
    (tmp_path / "a" / "rtl" / "conv.weight.dat").write_text("1\n")
    monkeypatch.setattr("bitward.hardware.shell.git_hash", lambda: GIT)
    assert prepare(tmp_path / "a", "kv260", 250.0).build_id != first


@pytest.mark.parametrize(
    ("git", "words"),
    [
        ("0123456789ab", (0x01234567, False)),
        ("0123456789ab-dirty", (0x01234567, True)),
        ("not known", (0, False)),
        ("v1.0", (0, False)),
    ],
)
def test_a_commit_is_a_word_and_a_bit(git, words):
    assert git_words(git) == words


LIBRARY = [resource(f"hls/rtl/bitward_{name}.sv") for name in ("axilite_split", "registers", "tlast")]
DESIGN_ID = 0xD0D00005


@pytest.fixture
def real_top(tmp_path, monkeypatch) -> tuple[Shell, list[Path]]:
    """A shell around a generated top of one node with 8 bits in and 17 out; the sources of that top."""
    nodes = [Node("n", "pass", {}, (Link("x", 8),), (Link("y", 17),), 12)]
    text = top(nodes, windows(nodes), Stream(8, 64), Stream(17, 5), DESIGN_ID)
    axilite = [line for line in text.split("(\n", 2)[2].split(");")[0].splitlines() if "s_axilite" in line]
    ports = ["input logic ap_clk", "input logic ap_rst_n"]
    for side, way in (("in0", ("input", "output")), ("out0", ("output", "input"))):
        ports += [f"{way[0]} logic {side}_V_TVALID", f"{way[1]} logic {side}_V_TREADY"]
        ports += [f"{way[0]} logic [{7 if side == 'in0' else 16}:0] {side}_V_TDATA"]
    ports += [line.strip().rstrip(",").replace("[12:0]", "[11:0]") for line in axilite if "WSTRB" not in line]
    (tmp_path / "top.sv").write_text(text)
    (tmp_path / "pass.sv").write_text(f"module pass ({', '.join(ports)});\nendmodule\n")
    shell = make_shell(tmp_path / "build", monkeypatch, axilite_bytes=map_size(windows(nodes)))
    return shell, [*LIBRARY, tmp_path / "pass.sv", tmp_path / "top.sv"]


def test_the_wrapper_fits_the_top_that_is_simulated(real_top, tmp_path):
    """Verilator finds no port that is missing, of another width or in the wrong direction."""
    shell, sources = real_top
    assert lint(shell.folder / "accelerator.v", sources) == ""
    (tmp_path / "narrow.v").write_text(wrapper_text(replace(shell.overlay, out_stream_bits=16), GIT, 1))
    assert "WIDTH" in lint(tmp_path / "narrow.v", sources)


def lint(wrapper: Path, sources: list[Path]) -> str:
    """What Verilator says of the wrapper above the top."""
    verilator = find_verilator()
    quiet = ["-Wno-DECLFILENAME", "-Wno-UNUSEDSIGNAL", "-Wno-UNDRIVEN", "-Wno-MULTITOP"]
    command = [
        verilator.binary,
        "--lint-only",
        "-Wall",
        *quiet,
        "--top-module",
        "bitward_accelerator",
        wrapper,
        *sources,
    ]
    return subprocess.run(command, env=verilator.environment, capture_output=True, text=True).stderr


def test_the_registers_read_what_identifies_the_bitstream(real_top, tmp_path):
    """Through the wrapper, simulated: design, git hash, build id, and that the source differed from the commit."""
    shell, sources = real_top
    runtime = compile_runtime(tmp_path)
    model = Bench(tmp_path / "bench", runtime, [*sources, shell.folder / "accelerator.v"], "bitward_accelerator")
    words = {name: read(model, REGISTERS[name]) for name in ("design_id", "git_hash", "build_id", "git_is_dirty")}
    assert words == {
        "design_id": DESIGN_ID,
        "git_hash": 0x01234567,
        "build_id": shell.build_id,
        "git_is_dirty": 1,
    }


def read(model: Bench, address: int) -> int:
    """The word that AXI-Lite reads at a byte address."""
    model["s_axilite_araddr"], model["s_axilite_arvalid"], model["s_axilite_rready"] = address, 1, 1
    for _ in range(20):
        model.settle()
        if model["s_axilite_arready"]:
            model.tick()
            model["s_axilite_arvalid"] = 0
            model.settle()
        else:
            model.tick()
        if model["s_axilite_rvalid"]:
            word = model["s_axilite_rdata"]
            model.tick()
            return word
    raise AssertionError("the bus must answer within 20 cycles")


def test_a_folder_without_a_build_is_refused(tmp_path):
    with pytest.raises(ManifestError, match=r"manifest\.json must be a manifest, got "):
        prepare(tmp_path, "kv260", 200.0)
