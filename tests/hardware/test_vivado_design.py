# SPDX-License-Identifier: Apache-2.0
"""The Tcl of the KV260's shell, executed under tclsh: its block design as a graph, and where it stops.

The commands that stand in for Vivado's know each block's pins and refuse others (fake_vivado/vivado.tcl); what the
graph must be is said here, and negative controls (a connection forgotten, a default left on) must fail.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import pytest
from shell_builds import bitstream, fake_vivado, make_build, make_shell

from bitward.errors import ToolError
from bitward.hardware.boards import load_board
from bitward.hardware.overlay import dma_parameters
from bitward.hardware.shell import prepare
from bitward.hardware.vivado import implement

CLOCK, RESET = "zynq_ultra_ps_e_0/pl_clk0", "reset/peripheral_aresetn"


class Record:
    """What the script did, from record.tsv."""

    def __init__(self, path: Path) -> None:
        self.lines = [line.split("\t") for line in path.read_text().splitlines()]
        self.pins = {words[0]: tuple(words[1:]) for words in self.of("pin")}

    def of(self, what: str) -> list[list[str]]:
        """The arguments of every line of that kind, in order."""
        return [line[1:] for line in self.lines if line[0] == what]

    def config(self, cell: str) -> dict[str, str]:
        return {name.removeprefix("CONFIG."): value for at, name, value in self.of("config") if at == cell}


def faults_of(record: Record) -> list[str]:
    """What is wrong with the block design as a graph; nothing if it is whole."""
    found: list[str] = []
    ends: dict[str, list[str]] = defaultdict(list)
    for first, second in record.of("intf"):
        ends[first].append(second)
        ends[second].append(first)
        kinds = record.pins[first], record.pins[second]
        if (kinds[0][0], kinds[1][0]) != ("master", "slave") or kinds[0][1] != kinds[1][1]:
            found.append(f"{first} {kinds[0]} drives {second} {kinds[1]}")
    drivers: dict[str, set[str]] = defaultdict(set)
    for source, sink in record.of("net"):
        drivers[sink].add(source)
    for pin, kind in record.pins.items():
        if kind[0] in ("master", "slave") and len(ends[pin]) != 1:
            found.append(f"interface {pin} is connected to {ends[pin]}")
        if kind[0] == "clock" and drivers[pin] != {CLOCK}:
            found.append(f"clock {pin} is driven by {sorted(drivers[pin])}")
        wanted = "zynq_ultra_ps_e_0/pl_resetn0" if pin.startswith("reset/") else RESET
        if kind[0] == "reset" and drivers[pin] != {wanted}:
            found.append(f"reset {pin} is driven by {sorted(drivers[pin])}")
    clocked = {pin.split("/")[0] for pin, kind in record.pins.items() if kind[0] == "clock" and drivers[pin]}
    found += [f"cell {name} has no clock" for name, _ in record.of("cell") if name not in clocked]
    return found


def run(tmp_path: Path, monkeypatch, fake_tool, clk_mhz: float = 250.0, **case: str) -> tuple[Path, Record]:
    """The build's `.bit` made by the script itself, and what the script did."""
    fake_vivado(fake_tool, monkeypatch, **case)
    shell = make_shell(tmp_path / "build", monkeypatch, clk_mhz=clk_mhz)
    bit = implement(shell, tmp_path / "build")
    return bit, Record(shell.folder / "record.tsv")


def record_of(tmp_path: Path) -> Record:
    return Record(tmp_path / "build" / "vivado" / "record.tsv")


@pytest.mark.parametrize("board", ["x:kv260_som:part0:1.4", "x:kv260_som:part0:1.10 x:kv260_som:part0:1.9", ""])
def test_the_script_makes_a_whole_design_and_a_bitstream(tmp_path, monkeypatch, fake_tool, board):
    bit, record = run(tmp_path, monkeypatch, fake_tool, board=board)
    assert faults_of(record) == []
    assert bit.read_bytes() == bitstream().replace(b"xck26\0", b"xck26\0c\0\x0b2026/01/01\0d\0\x0900:00:00\0")
    assert json.loads((tmp_path / "build" / "build.json").read_text())["implementation"]["bit"] == bit.name
    newest = [["project", "board_part", board.split()[0]]] if board else []
    assert [words for words in record.of("property") if words[1] == "board_part"] == newest
    assert len(record.of("preset")) == len(newest)
    assert record.config("zynq_ultra_ps_e_0").get("PSU__DDRC__DRAM_WIDTH") == (None if board else "16 Bits")
    assert record.of("create_project")[0][-2:] == ["-part", load_board("kv260").part]


def test_every_file_of_the_build_is_added_in_order(tmp_path, monkeypatch, fake_tool):
    _, record = run(tmp_path, monkeypatch, fake_tool)
    files = [words[0] for words in record.of("file")]
    assert files == [
        "fifo.v", "bitward_top.sv", "accelerator.v", "conv.threshold_0_0.dat", "conv.weight.dat", "system_wrapper.v"
    ]  # fmt: skip


def test_addresses_are_those_of_board_and_virtual_overlay(tmp_path, monkeypatch, fake_tool):
    """`implement` itself compares the .hwh that the client reads with the virtual one; here, the map as numbers."""
    _, record = run(tmp_path, monkeypatch, fake_tool)
    assigned = record.of("address")
    control = {words[1]: (int(words[2], 16), int(words[3], 16)) for words in assigned if words[0].endswith("e_0/Data")}
    places = load_board("kv260").address_map
    assert control == {
        "/accelerator/s_axilite/reg0": (places.accelerator.base, 1 << 20),
        "/axi_dma/S_AXI_LITE/Reg": (places.dma.base, places.dma.size),
        "/axi_gpio/S_AXI/Reg": (places.dma.base - 0x10000, 0x10000),
    }
    memory = [(words[0], words[1].split("/")[-1]) for words in assigned if not words[0].endswith("e_0/Data")]
    spaces = ("axi_dma/Data_MM2S", "axi_dma/Data_S2MM")
    assert memory == [(space, name) for space in spaces for name in ("HP0_DDR_LOW", "HP0_DDR_HIGH")]
    kept_out = [(words[0], words[1].split("/")[-1]) for words in record.of("exclude")]
    assert kept_out == [(space, name) for space in spaces for name in ("HP0_LPS_OCM", "HP0_QSPI")]


def test_dma_and_clock_are_set_as_the_overlay_says(tmp_path, monkeypatch, fake_tool):
    _, record = run(tmp_path, monkeypatch, fake_tool, clk_mhz=1000 / 3)
    dma = record.config("axi_dma")
    overlay = make_shell(tmp_path / "other", monkeypatch).overlay
    wanted = {name: value for name, value in dma_parameters(overlay).items() if name != "c_s_axis_s2mm_tdata_width"}
    assert {name: dma[name] for name in wanted} == wanted and dma["c_addr_width"] == "40"
    ps = record.config("zynq_ultra_ps_e_0")
    assert ps["PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ"] == "333.333333"
    assert ps["PSU__CRL_APB__PL0_REF_CTRL__SRCSEL"] == "IOPLL"


def test_runs_come_in_order_and_the_memories_lie_where_synthesis_runs(tmp_path, monkeypatch, fake_tool):
    _, record = run(tmp_path, monkeypatch, fake_tool)
    kinds = ("validate", "launch", "wait", "open", "report", "write_bitstream")
    steps = [" ".join(line[:2]) for line in record.lines if line[0] in kinds]
    assert steps == [
        "validate", "launch synth_1", "wait synth_1", "launch impl_1", "wait impl_1", "open impl_1",
        "report utilization", "report utilization", "report timing", "report power",
        "write_bitstream out/unfinished.bit",
    ]  # fmt: skip
    folder = tmp_path / "build" / "vivado" / "project" / "bitward.runs" / "synth_1"
    assert {path.name for path in folder.glob("*.dat")} == {"conv.weight.dat", "conv.threshold_0_0.dat"}
    assert record.of("set_param") == [["messaging.defaultLimit", "100000"]]


@pytest.mark.parametrize(
    ("pin", "fault"),
    [
        ("accelerator/s_axis", "interface axi_dma/M_AXIS_MM2S is connected to []"),
        ("zynq_ultra_ps_e_0/S_AXI_HP0_FPD", "interface data/M00_AXI is connected to []"),
        ("axi_dma/m_axi_s2mm_aclk", "clock axi_dma/m_axi_s2mm_aclk is driven by []"),
        ("accelerator/ap_clk", "cell accelerator has no clock"),
        ("accelerator/ap_rst_n", "reset accelerator/ap_rst_n is driven by []"),
        ("reset/ext_reset_in", "reset reset/ext_reset_in is driven by []"),
    ],
)
def test_a_connection_that_is_forgotten_is_seen(tmp_path, monkeypatch, fake_tool, pin, fault):
    """Negative control of `faults_of`."""
    _, record = run(tmp_path, monkeypatch, fake_tool, forget=pin)
    assert fault in faults_of(record)


def edit(shell_folder: Path, name: str, old: str, new: str) -> None:
    text = (shell_folder / name).read_text()
    assert old in text
    (shell_folder / name).write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("name", "old", "new", "fault"),
    [
        ("ps.tcl", "M_AXI_GP1                  0", "M_AXI_GP1                  1", "M_AXI_HPM1_FPD is connected to []"),
        ("design.tcl", "CONFIG.NUM_MI 3", "CONFIG.NUM_MI 4", "interface control/M03_AXI is connected to []"),
        ("design.tcl", "axi_dma/M_AXI_S2MM                data/S01_AXI", "", "interface axi_dma/M_AXI_S2MM"),
        ("design.tcl", "CONFIG.c_include_sg                0", "CONFIG.c_include_sg                1", "m_axi_sg_aclk"),
    ],
)  # fmt: skip
def test_a_setting_that_is_wrong_is_seen(tmp_path, monkeypatch, fake_tool, name, old, new, fault):
    """Negative control: the script itself is changed."""
    fake_vivado(fake_tool, monkeypatch)
    shell = make_shell(tmp_path / "build", monkeypatch)
    edit(shell.folder, name, old, new)
    try:
        implement(shell, tmp_path / "build")
    except ToolError as error:
        assert "c_include_sg must be 0, got 1" in str(error)
    assert any(fault in each for each in faults_of(record_of(tmp_path)))


def test_a_pin_that_a_block_does_not_have_is_refused(tmp_path, monkeypatch, fake_tool):
    fake_vivado(fake_tool, monkeypatch)
    shell = make_shell(tmp_path / "build", monkeypatch)
    edit(shell.folder, "design.tcl", "axi_gpio/s_axi_aclk", "axi_gpio/aclk")
    with pytest.raises(ToolError, match=r"it said: ERROR: fake vivado: cell axi_gpio has no pin aclk; log: "):
        implement(shell, tmp_path / "build")


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ({"version": "2022.1"}, "Vivado must be 2022.2 or later, got 2022.1: install a newer one"),
        ({"version": "Next"}, "Vivado must tell its version as YEAR.RELEASE, got Next"),
        ({"synth_1": "synth_design ERROR"}, "run synth_1 must end complete, got synth_design ERROR: see reports"),
        ({"impl_1": "place_design ERROR"}, "run impl_1 must end complete, got place_design ERROR: see reports/impl_1."),
        ({"progress": "34%"}, "run synth_1 must end complete, got synth_design Complete!: see reports/synth_1.log"),
        ({"wns": "-0.123"}, "worst setup slack must not be negative, got -0.123 ns at 250 MHz: ask for a slower clock"),
        ({"whs": "-0.004"}, "worst hold slack must not be negative, got -0.004 ns at 250 MHz: ask for a slower clock"),
        ({"wns": ""}, "the design must have a constrained path, got none for setup: is the clock there?"),
        ({"say_design": "CRITICAL WARNING: [BD 41-1356] x"}, "vivado.log must hold no critical warning, got: CRITIC"),
        ({"say_synth_1": "CRITICAL WARNING: [Synth 8-4445] x"}, "synth_1.log must hold no critical warning, got: CRIT"),
        ({"say_impl_1": "CRITICAL WARNING: [Place 30-1] x"}, "impl_1.log must hold no critical warning, got: CRITICAL"),
        ({"segments": "HP1_DDR_LOW"}, "the DMA must reach DDR, got no segment HP0_DDR_* of /zynq_ultra_ps"),
        ({"segments": ""}, "the block design must have an address segment zynq_ultra_ps_e_0/SAXIGP2/*, got none"),
        ({"bit": "missing"}, "no licence"),
    ],
)  # fmt: skip
def test_the_script_stops_with_a_sentence_before_a_bitstream_is_there(tmp_path, monkeypatch, fake_tool, case, message):
    fake_vivado(fake_tool, monkeypatch, **case)
    shell = make_shell(tmp_path / "build", monkeypatch)
    with pytest.raises(
        ToolError, match=r"^vivado must end with exit code 0, got exit code [13]; it said: ERROR"
    ) as caught:
        implement(shell, tmp_path / "build")
    assert message in str(caught.value)
    assert not list((tmp_path / "build").rglob("*.bit"))
    assert not record_of(tmp_path).of("write_bitstream") or "bit" in case


@pytest.mark.parametrize("case", [{"wns": "-0.123"}, {"say_impl_1": "CRITICAL WARNING: [Place 30-1] x"}])
def test_reports_are_left_for_who_must_mend_it(tmp_path, monkeypatch, fake_tool, case):
    fake_vivado(fake_tool, monkeypatch, **case)
    shell = make_shell(tmp_path / "build", monkeypatch)
    with pytest.raises(ToolError):
        implement(shell, tmp_path / "build")
    names = {path.name for path in (shell.folder / "reports").iterdir()}
    assert {"utilization.rpt", "timing.rpt", "power.rpt", "synth_1.log", "impl_1.log"} <= names


def test_an_allowed_critical_warning_stops_neither_script_nor_reader(tmp_path, monkeypatch, fake_tool):
    fake_vivado(fake_tool, monkeypatch, say_impl_1="CRITICAL WARNING: [Place 30-1] x")
    shell = make_shell(tmp_path / "build", monkeypatch)
    (shell.folder / "allowed_critical_warnings.txt").write_text("# none\n[Place 30-1] harmless, says who knows\n")
    assert implement(shell, tmp_path / "build").is_file()


def test_a_bitstream_that_vivado_cut_is_refused(tmp_path, monkeypatch, fake_tool):
    fake_vivado(fake_tool, monkeypatch, bit="cut")
    shell = make_shell(tmp_path / "build", monkeypatch)
    with pytest.raises(ToolError, match=r"^\S*cnn\.bit must be a whole bitstream: a \.bit file must hold the 64 bytes"):
        implement(shell, tmp_path / "build")


def test_no_critical_warning_is_allowed_so_far(tmp_path):
    from bitward.hardware.vivado_reports import allowed_ids

    shell = prepare(make_build(tmp_path / "build"), "kv260", 250.0)
    assert allowed_ids((shell.folder / "allowed_critical_warnings.txt").read_text()) == frozenset()
