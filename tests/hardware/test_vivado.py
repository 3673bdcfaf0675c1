# SPDX-License-Identifier: Apache-2.0
"""Vivado without Vivado: the Tcl against a golden file, the run with a fake tool on PATH."""

from __future__ import annotations

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


def test_vivado_runs_the_script_in_its_folder(tmp_path, fake_tool):
    script = prepare(tmp_path, load_board("kv260"), 200.0)
    fake_tool("vivado", "test -f implement.tcl && touch bitward_top.dcp")
    assert implement(script) == tmp_path / "vivado"
    assert (tmp_path / "fake-tools" / "vivado.calls").read_text() == "-mode batch -source implement.tcl\n"


def test_a_failing_vivado_is_an_error_with_its_log(tmp_path, fake_tool):
    script = prepare(tmp_path, load_board("kv260"), 200.0)
    fake_tool("vivado", "echo ERROR: no licence; exit 3")
    with pytest.raises(
        ToolError, match=r"^vivado must end with exit code 0, got exit code 3; it said: ERROR: no licence"
    ):
        implement(script)


def test_a_vivado_that_leaves_nothing_is_an_error(tmp_path, fake_tool):
    script = prepare(tmp_path, load_board("kv260"), 200.0)
    fake_tool("vivado", "exit 0")
    with pytest.raises(ToolError, match=r"^Vivado must leave bitward_top\.dcp in .*, got none"):
        implement(script)


def test_without_vivado_it_says_what_is_missing_and_what_is_left_where(tmp_path, monkeypatch):
    script = prepare(tmp_path, load_board("kv260"), 200.0)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with pytest.raises(
        ToolError, match=r"^Vivado must be on PATH to make a KV260 bitstream, got none; RTL, .* are left in "
    ):
        implement(script)
