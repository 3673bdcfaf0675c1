# SPDX-License-Identifier: Apache-2.0
"""`bitward bitstream FLOW --board kv260`: from the flow's hardened model to a `.bit`, or one sentence of what lacks.

Training, lowering and Verilator are left out (they have tests of their own): the build is a stand-in, all else runs.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from shell_builds import fake_vivado, make_build

from bitward.cli import main
from bitward.flow import Run

BITWARD_FLOW = "flows/digits-mlp.yaml"


@pytest.fixture
def built(monkeypatch, tmp_path) -> list[Any]:
    """The options of every build that the command made; the flow's stages before it are done."""
    options: list[Any] = []

    def build(model: Path, out: Path, asked: Any, **_: Any) -> Any:
        shutil.rmtree(out, ignore_errors=True)
        make_build(out, clk_mhz=asked.clk_mhz)
        options.append(asked)
        from bitward.manifest import Manifest

        return Manifest.load(out / "manifest.json")

    def prepare(flow: Any, runs: Path, console: Any, to: str) -> Run:
        assert to == "harden"
        run = Run(flow, runs / flow.name, console)
        run.hardened_model.parent.mkdir(parents=True, exist_ok=True)
        run.hardened_model.write_bytes(b"a model")
        return run

    monkeypatch.setattr("bitward.hardware.build.build", build)
    monkeypatch.setattr("bitward.flow.prepare", prepare)
    return options


def bitstream(repository: Path, runs: Path, *more: str) -> int:
    return main(["bitstream", str(repository / BITWARD_FLOW), "--board", "kv260", "--runs", str(runs), *more])


def test_make_bitstream_for_a_kv260_runs_vivado(repository, built, tmp_path, fake_tool, monkeypatch, capsys):
    fake_vivado(fake_tool, monkeypatch)
    assert bitstream(repository, tmp_path, "--clk-mhz", "300") == 0, capsys.readouterr().err
    said = capsys.readouterr()
    bit = Path(said.out.splitlines()[-1])
    assert "PL clock: 300 MHz asked for, 250 MHz given, the nearest not above it" in said.out + said.err
    assert bit.parent == tmp_path / "digits-mlp" / "overlay-kv260" / "overlay" and bit.suffix == ".bit"
    assert bit.is_file() and bit.with_suffix(".hwh").is_file() and (bit.parents[1] / "manifest.json").is_file()
    assert [(options.board, options.clk_mhz) for options in built] == [("kv260", 250.0)]
    record = json.loads((bit.parents[1] / "build.json").read_text())["implementation"]
    assert (record["clk_asked_mhz"], record["clk_mhz"]) == (300.0, 250.0)


def test_the_flows_clock_is_the_default_and_nothing_is_made_twice(
    repository, built, tmp_path, fake_tool, monkeypatch, capsys
):
    fake_vivado(fake_tool, monkeypatch)
    monkeypatch.setattr("bitward.hardware.shell.git_hash", lambda: "0123456789ab")  # one for both calls
    assert [bitstream(repository, tmp_path), bitstream(repository, tmp_path)] == [0, 0], capsys.readouterr().err
    assert "asked for" not in capsys.readouterr().out
    assert len((tmp_path / "fake-tools" / "vivado.calls").read_text().splitlines()) == 1
    assert {options.clk_mhz for options in built} == {200.0}
    assert bitstream(repository, tmp_path, "--clk-mhz", "100") == 0
    assert built[-1].clk_mhz == 100.0


def test_without_vivado_one_sentence_says_what_is_missing_and_what_is_left(
    repository, built, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert bitstream(repository, tmp_path) == 1
    said = capsys.readouterr().err
    assert "Vivado must be on PATH to make a KV260 bitstream, got none" in " ".join(said.split())
    left = tmp_path / "digits-mlp" / "overlay-kv260"
    assert (left / "vivado" / "build.tcl").is_file() and (left / "rtl" / "files.f").is_file()


def test_a_clock_that_no_board_has_is_refused_before_anything_is_made(repository, built, tmp_path, capsys):
    assert bitstream(repository, tmp_path, "--clk-mhz", "0.1") == 1
    assert "clk_mhz must be at least 0.252 on the KV260" in " ".join(capsys.readouterr().err.split())
    assert built == [] and not (tmp_path / "digits-mlp").exists()
