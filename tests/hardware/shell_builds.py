# SPDX-License-Identifier: Apache-2.0
"""A build folder as far as Vivado's shell looks into it, and a Vivado that is tclsh with stand-ins for its commands."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from bitward.hardware.overlay import Overlay
from bitward.hardware.shell import Shell, prepare
from bitward.manifest import Io, Manifest, StreamTensor

FAKE = Path(__file__).parent / "fake_vivado"
GIT = "0123456789ab-dirty"


def make_build(folder: Path, clk_mhz: float = 250.0, **changes: object) -> Path:
    """A build of a design with an 8-bit stream in, 32 bits out, a map of 1 MiB, and two memory files."""
    io = Io(StreamTensor((8, 8, 1), "UINT8", 8, 1, 64), StreamTensor((10,), "INT16", 32, 2, 5))
    fields = {"design": "cnn", "design_id": 5, "board": "kv260", "clk_mhz": clk_mhz, "memories": (), "io": io}
    (folder / "rtl").mkdir(parents=True)
    Manifest(**{**fields, "axilite_bytes": 1 << 20, **changes}).save(folder / "manifest.json")  # type: ignore[arg-type]
    (folder / "rtl" / "bitward_top.sv").write_text("module bitward_top; endmodule\n")
    (folder / "rtl" / "fifo.v").write_text("module fifo; endmodule\n")
    (folder / "rtl" / "files.f").write_text("fifo.v\nbitward_top.sv\n")
    for name in ("conv.weight.dat", "conv.threshold_0_0.dat"):
        (folder / "rtl" / name).write_text("0\n")
    (folder / "build.json").write_text(json.dumps({"git": "as built", "cycles": {"latency": 1}}))
    return folder


def make_shell(folder: Path, monkeypatch: pytest.MonkeyPatch, asked_mhz: float = 300.0, **changes: object) -> Shell:
    """The shell of such a build, of a known commit."""
    monkeypatch.setattr("bitward.hardware.shell.git_hash", lambda: GIT)
    return prepare(make_build(folder, **changes), "kv260", asked_mhz)  # type: ignore[arg-type]


def need_tclsh() -> None:
    if shutil.which("tclsh") is None:
        pytest.skip("tclsh is not installed: apt-get install tcl")


def fake_vivado(fake_tool, monkeypatch: pytest.MonkeyPatch, **case: str) -> None:
    """`vivado` on PATH runs scripts under tclsh; `case` is what is to go otherwise (fake_vivado/vivado.tcl)."""
    need_tclsh()
    words = " ".join(f"{name} {{{value}}}" for name, value in case.items())
    monkeypatch.setenv("FAKE_VIVADO", words)
    fake_tool("vivado", f'exec tclsh "{FAKE}/vivado.tcl" "$@"')


def canned(report: str, wns: str = "0.312", whs: str = "0.011") -> str:
    """The text of a canned report."""
    text = (FAKE / "reports" / f"{report}.rpt").read_text()
    return text.replace("@WNS@", wns).replace("@WHS@", whs)


def bitstream(body: bytes = bytes(64), announced: int = 64) -> bytes:
    """A `.bit` as Vivado writes it, as far as its header goes."""
    header = bytes.fromhex("0009 0ff00ff00ff00ff000 0001")
    for letter, text in ((b"a", b"system_wrapper;UserID=0XFFFFFFFF;Version=2024.1\0"), (b"b", b"xck26\0")):
        header += letter + len(text).to_bytes(2, "big") + text
    return header + b"e" + announced.to_bytes(4, "big") + body


def lay_out(folder: Path, overlay: Overlay, handoff: str) -> None:
    """What a good run of Vivado leaves, written without Vivado; `folder` is to become the shell's."""
    for name in ("utilization", "timing", "power"):
        _write(folder / "reports" / f"{name}.rpt", canned(name))
    read = "".join(
        f"INFO: [Synth 8-3876] $readmem data file '{name}' is read successfully [x.sv:1]\n"
        for name in ("conv.weight.dat", "conv.threshold_0_0.dat")
    )
    _write(folder / "reports" / "synth_1.log", read)
    _write(folder / "reports" / "impl_1.log", "")
    _write(folder / "out" / f"{overlay.name}.hwh", handoff)
    (folder / "out" / f"{overlay.name}.bit").write_bytes(bitstream())


def _write(path: Path, text: str) -> None:
    os.makedirs(path.parent, exist_ok=True)
    path.write_text(text)
