# SPDX-License-Identifier: Apache-2.0
"""From a prepared shell to a bitstream, with a fake Vivado that leaves canned files: the good ones and each bad one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from shell_builds import bitstream, lay_out, make_shell

from bitward.errors import ToolError
from bitward.hardware.overlay import hwh_text
from bitward.hardware.vivado import implement

GOOD = 'cp -r "$CANNED"/. .'


@pytest.fixture
def shell(tmp_path, monkeypatch):
    made = make_shell(tmp_path / "build", monkeypatch)
    lay_out(tmp_path / "canned", made.overlay, hwh_text(made.overlay))
    monkeypatch.setenv("CANNED", str(tmp_path / "canned"))
    return made


@pytest.fixture
def build(tmp_path) -> Path:
    return tmp_path / "build"


def calls(tmp_path: Path) -> list[str]:
    path = tmp_path / "fake-tools" / "vivado.calls"
    return path.read_text().splitlines() if path.exists() else []


def test_a_good_run_leaves_bit_handoff_and_figures(shell, build, fake_tool, tmp_path):
    fake_tool("vivado", f"test -f build.tcl && {GOOD}")
    bit = implement(shell, build)
    assert bit.parent == build / "overlay" and bit.read_bytes() == bitstream()
    assert bit.name.startswith("cnn-") and bit.with_suffix(".hwh").read_text() == hwh_text(shell.overlay)
    assert calls(tmp_path) == [
        "-mode batch -notrace -log vivado.log -journal vivado.jou -source build.tcl",
    ]
    record = json.loads((build / "build.json").read_text())
    assert record["git"] == "as built" and record["cycles"] == {"latency": 1}
    found = record["implementation"]
    assert len(found.pop("bit_sha256")) == 64
    assert found == {
        "tool": "Vivado v.2024.1 (lin64) Build 5076996",
        "git": "0123456789ab-dirty",
        "build_id": f"0x{shell.build_id:08x}",
        "clk_asked_mhz": 300.0,
        "clk_mhz": 250.0,
        "clk_divisors": [4, 1],
        "resources": {"lut": 12345, "ff": 23456, "bram36": 17.5, "uram": 2, "dsp": 24},
        "slack_ns": {"wns": 0.312, "tns": 0.0, "whs": 0.011, "ths": 0.0, "wpws": 0.968},
        "power_w": {
            "total": 2.778,
            "dynamic": 2.477,
            "static": 0.301,
            "confidence": "Medium",
            "source": "estimated by Vivado, not measured",
        },
        "bit": bit.name,
    }
    assert json.loads((build / "report" / "post_synth_resources.json").read_text()) == {
        "(top)": {"LUT": 12345, "FF": 23456, "BRAM_36K": 16, "BRAM_18K": 3, "URAM": 2, "DSP": 24}
    }


def test_the_same_inputs_are_not_run_again(shell, build, fake_tool, tmp_path):
    fake_tool("vivado", GOOD)
    bit = implement(shell, build)
    assert implement(shell, build) == bit and len(calls(tmp_path)) == 1
    bit.write_bytes(b"damaged")
    assert implement(shell, build).read_bytes() == bitstream() and len(calls(tmp_path)) == 2


def spoil(canned_folder: Path, name: str, old: str, new: str) -> None:
    path = canned_folder / name
    path.write_text(path.read_text().replace(old, new) if old else new)


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("reports/timing.rpt", "0.312", "-0.123", r"timing\.rpt must hold no negative slack at 250 MHz, got WNS -0"),
        ("reports/timing.rpt", "0.011", "-0.002", r"timing\.rpt must hold no negative slack .* WHS -0\.002 ns, "),
        ("reports/timing.rpt", "0.312", "NA", r"timing\.rpt must hold numbers for WNS, "),
        ("reports/synth_1.log", "", "CRITICAL WARNING: [Synth 8-4445] could not open",
         r"synth_1\.log must hold no critical warning, got 1, the first \[Synth 8-4445\] could not open: mend it, or "),
        ("reports/impl_1.log", "", "CRITICAL WARNING: [Timing 1-2] x", r"impl_1\.log must hold no critical warning, "),
        ("reports/synth_1.log", "conv.weight.dat", "other.dat",
         r"synth_1\.log must name every memory file as read, got none of conv\.weight\.dat \(1 of 2\)"),
        ("reports/power.rpt", "", "empty", r"power\.rpt must hold Confidence Level, got no such row"),
        ("out/cnn.hwh", "0xA0000000", "0xA1000000", r"cnn\.hwh: addresses: accelerator must be 0xA0000000 to "),
    ],
)  # fmt: skip
def test_what_must_not_be_used_leaves_no_bitstream(shell, build, fake_tool, tmp_path, name, old, new, message):
    spoil(tmp_path / "canned", name, old, new)
    fake_tool("vivado", GOOD)
    with pytest.raises(ToolError, match=rf"^\S*{message}"):
        implement(shell, build)
    assert not (build / "overlay").exists()
    assert "implementation" not in json.loads((build / "build.json").read_text())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("out/cnn.bit", r"^Vivado must leave cnn\.bit in .*, got none; see bitward\.log$"),
        ("out/cnn.hwh", r"^Vivado must leave cnn\.hwh in .*, got none; see bitward\.log$"),
        ("reports/impl_1.log", r"^Vivado must leave impl_1\.log in .*, got none: see bitward\.log there$"),
        ("reports/utilization.rpt", r"^Vivado must leave utilization\.rpt in .*, got none: see bitward\.log there$"),
    ],
)
def test_what_vivado_leaves_out_is_an_error(shell, build, fake_tool, tmp_path, name, message):
    (tmp_path / "canned" / name).unlink()
    fake_tool("vivado", GOOD)
    with pytest.raises(ToolError, match=message):
        implement(shell, build)
    assert not (build / "overlay").exists()


def test_a_bitstream_that_is_cut_is_refused(shell, build, fake_tool, tmp_path):
    (tmp_path / "canned" / "out" / "cnn.bit").write_bytes(bitstream(bytes(32)))
    fake_tool("vivado", GOOD)
    with pytest.raises(
        ToolError, match=r"^\S*cnn\.bit must be a whole bitstream: a \.bit file must hold the 64 bytes it an"
    ):
        implement(shell, build)


def test_a_critical_warning_that_is_allowed_does_not_stop(shell, build, fake_tool, tmp_path):
    spoil(tmp_path / "canned", "reports/impl_1.log", "", "CRITICAL WARNING: [Timing 1-2] x\n")
    (shell.folder / "allowed_critical_warnings.txt").write_text("[Timing 1-2] known to be harmless here\n")
    fake_tool("vivado", GOOD)
    assert implement(shell, build).is_file()


def test_a_critical_warning_of_vivado_itself_stops_too(shell, build, fake_tool):
    fake_tool("vivado", f"{GOOD}; echo 'CRITICAL WARNING: [BD 41-1356] a segment is not assigned'")
    with pytest.raises(
        ToolError, match=r"^\S*bitward\.log must hold no critical warning, got 1, the first \[BD 41-1356\]"
    ):
        implement(shell, build)


def test_a_failing_vivado_is_an_error_with_its_sentence_and_log(shell, build, fake_tool):
    fake_tool("vivado", "echo 'ERROR: bitward: run synth_1 must end complete'; exit 1")
    with pytest.raises(
        ToolError, match=r"^vivado must end with exit code 0, got exit code 1; it said: ERROR: bitward: r"
    ):
        implement(shell, build)
    assert "run synth_1" in (shell.folder / "bitward.log").read_text()


def test_nothing_of_an_earlier_run_is_taken_for_this_ones(shell, build, fake_tool, tmp_path):
    """Vivado ends well, but leaves nothing: what lay there from before is gone, the published files too."""
    fake_tool("vivado", GOOD)
    implement(shell, build)
    shutil.copytree(tmp_path / "canned", shell.folder, dirs_exist_ok=True)
    record = json.loads((build / "build.json").read_text())
    record["implementation"]["build_id"] = "0x00000000"
    (build / "build.json").write_text(json.dumps(record))
    fake_tool("vivado", "exit 0")
    with pytest.raises(ToolError, match=r"^Vivado must leave utilization\.rpt in .*, got none"):
        implement(shell, build)
    assert not list(build.rglob("*.bit"))


def test_an_interrupted_run_leaves_no_bitstream(shell, build, fake_tool, tmp_path):
    """Killed while it writes: the half-written file has another name, and the next run starts from nothing."""
    fake_tool("vivado", f"{GOOD}; mv out/cnn.bit out/unfinished.bit; touch started; kill -9 $$")
    with pytest.raises(ToolError, match=r"^vivado must end with exit code 0, got exit code -9; "):
        implement(shell, build)
    assert not (build / "overlay").exists() and (shell.folder / "out" / "unfinished.bit").exists()
    fake_tool("vivado", GOOD)
    assert implement(shell, build).is_file() and not (shell.folder / "out" / "unfinished.bit").exists()


def test_without_vivado_it_says_what_is_missing_and_what_is_left_where(shell, build, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with pytest.raises(
        ToolError, match=r"^Vivado must be on PATH to make a KV260 bitstream, got none; RTL, memory conte"
    ):
        implement(shell, build)
    assert (shell.folder / "build.tcl").is_file() and (build / "rtl" / "files.f").is_file()
