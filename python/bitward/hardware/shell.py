# SPDX-License-Identifier: Apache-2.0
"""What Vivado is given for a real board: the build's RTL as simulated, the board's Tcl, and what is written here.

BUILD/vivado/settings.tcl     what the Tcl must know of the design: clock, addresses, stream widths
BUILD/vivado/accelerator.v    bitward_top as a Verilog module with the identification of this bitstream
BUILD/vivado/*.tcl            copies of board/<board>/*.tcl: with rtl/ beside it, the folder may move to another machine
"""

from __future__ import annotations

import hashlib
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from bitward.hardware.boards import load_board
from bitward.hardware.clocks import PlClock, clock_divisors
from bitward.hardware.overlay import DMA_LENGTH_BITS, Overlay, Window, describe, memory_bits
from bitward.manifest import Manifest
from bitward.tools import atomic_write, git_hash, output_directory, resource, writing_to

SCRIPT = "build.tcl"
ALLOWED = "allowed_critical_warnings.txt"


@dataclass(frozen=True)
class Shell:
    """What surrounds the accelerator of a build on a real board, in the folder that Vivado runs in."""

    folder: Path
    board: str  # the folder below board/ that its Tcl comes from
    overlay: Overlay
    clock: PlClock
    git: str
    build_id: int  # 32 bits of the hash of everything that Vivado is given
    memory_files: tuple[str, ...]  # names of the files that synthesis must read


def prepare(build_dir: Path, board: str, asked_mhz: float) -> Shell:
    """`build_dir`/vivado holds all that Vivado needs beside rtl/; `asked_mhz` is the clock that a person asked for.

    Raises ConfigError for an address map that the board cannot give, ManifestError where no build is.
    """
    kind = load_board(board)
    overlay = describe(build_dir, Manifest.load(build_dir / "manifest.json"), kind)
    git = git_hash()
    settings = settings_text(overlay)
    scripts = [*sorted(resource(f"board/{board}").glob("*.tcl")), resource(f"board/{board}/{ALLOWED}")]
    build_id = _build_id(overlay.content_sha256, settings, wrapper_text(overlay, git, 0), *map(Path.read_text, scripts))
    folder = output_directory(build_dir / "vivado")
    atomic_write(folder / "settings.tcl", settings)
    atomic_write(folder / "accelerator.v", wrapper_text(overlay, git, build_id))
    with writing_to(folder):
        for script in scripts:
            shutil.copyfile(script, folder / script.name)
    memories = tuple(sorted(path.name for path in (build_dir / "rtl").glob("*.dat")))
    clock = PlClock(asked_mhz, overlay.clk_mhz, clock_divisors(overlay.clk_divisor))
    return Shell(folder, board, overlay, clock, git, build_id, memories)


def _build_id(*texts: str) -> int:
    digest = hashlib.sha256("\0".join(texts).encode())
    return int.from_bytes(digest.digest()[:4], "big") or 1  # 0 says that there is no bitstream


def git_words(git: str) -> tuple[int, bool]:
    """What the registers say of a commit: its first 8 hexadecimal digits, and whether the source differed from it.

    >>> git_words("0123456789ab-dirty"), git_words("not known")
    ((19088743, True), (0, False))
    """
    found = re.match(r"([0-9a-f]{8})[0-9a-f]*(-dirty)?$", git)
    return (int(found[1], 16), found[2] is not None) if found else (0, False)


def settings_text(overlay: Overlay) -> str:
    """The text of settings.tcl: a dictionary that design.tcl and build.tcl read."""
    settings = {
        "name": overlay.name,
        "part": overlay.part,
        "clk_mhz": f"{overlay.clk_mhz:.6f}".rstrip("0").rstrip("."),
        "accelerator": _window(overlay.accelerator),
        "dma": _window(overlay.dma),
        "gpio": _window(overlay.gpio),
        "in_stream_bits": overlay.in_stream_bits,
        "out_stream_bits": overlay.out_stream_bits,
        "in_memory_bits": memory_bits(overlay.in_stream_bits),
        "out_memory_bits": memory_bits(overlay.out_stream_bits),
        "length_bits": DMA_LENGTH_BITS,
    }
    lines = "".join(f"  {name:<16} {value}\n" for name, value in settings.items())
    title = "# Written by bitward bitstream: what design.tcl and build.tcl must know of the design."
    return f"{title}\nset settings {{\n{lines}}}\n"


def _window(window: Window) -> str:
    return f"{{0x{window.base:08X} 0x{window.size:08X}}}"


_AXI4_LITE = (  # signal, whether the accelerator drives it, bits; "address" is as wide as the window
    ("AWVALID", False, 1), ("AWREADY", True, 1), ("AWADDR", False, "address"),
    ("WVALID", False, 1), ("WREADY", True, 1), ("WDATA", False, 32), ("WSTRB", False, 4),
    ("BVALID", True, 1), ("BREADY", False, 1), ("BRESP", True, 2),
    ("ARVALID", False, 1), ("ARREADY", True, 1), ("ARADDR", False, "address"),
    ("RVALID", True, 1), ("RREADY", False, 1), ("RDATA", True, 32), ("RRESP", True, 2),
)  # fmt: skip
_STREAM = ("TVALID", "TREADY", "TDATA", "TKEEP", "TLAST")


def wrapper_text(overlay: Overlay, git: str, build_id: int) -> str:
    """The text of accelerator.v: `bitward_top` for a block design, which cannot refer to a SystemVerilog module.

    Its streams have all the signals that AXI DMA has, so that interfaces are connected as they are. Synthesis sets the
    parameters that identify the bitstream; the top simulated is the same one, with these at 0.
    """
    commit, is_dirty = git_words(git)
    address_bits = (overlay.accelerator.size - 1).bit_length()
    ports = [*_stream_ports("s_axis", overlay.in_stream_bits, is_slave=True)]
    ports += _stream_ports("m_axis", overlay.out_stream_bits, is_slave=False)
    for signal, is_output, bits in _AXI4_LITE:
        width = address_bits if bits == "address" else int(bits)
        ports.append(_port("aximm", "s_axilite", signal, is_output, width))
    names = [f"s_axis_{signal.lower()}" for signal in _STREAM[:3]]
    names += [f"m_axis_{signal.lower()}" for signal in (*_STREAM[:3], "TLAST")]
    connected = [f".{name}({name})" for name in names]
    connected += [f".s_axilite_{signal}(s_axilite_{signal.lower()})" for signal, _, _ in _AXI4_LITE]
    return _WRAPPER.format(
        ports=",\n".join(ports), connected=",\n    ".join(connected), keep=overlay.out_stream_bits // 8,
        commit=f"32'h{commit:08x}", build_id=f"32'h{build_id:08x}", is_dirty=f"1'b{int(is_dirty)}",
    )  # fmt: skip


def _stream_ports(interface: str, bits: int, is_slave: bool) -> list[str]:
    widths = {"TDATA": bits, "TKEEP": bits // 8}
    return [
        _port("axis", interface, signal, is_slave == (signal == "TREADY"), widths.get(signal, 1)) for signal in _STREAM
    ]


def _port(protocol: str, interface: str, signal: str, is_output: bool, bits: int) -> str:
    width = f"[{bits - 1}:0] " if bits > 1 or signal in ("TDATA", "TKEEP") else ""
    return (
        f'  (* X_INTERFACE_INFO = "xilinx.com:interface:{protocol}:1.0 {interface} {signal}" *)\n'
        f"  {'output' if is_output else 'input '} wire {width}{interface}_{signal.lower()}"
    )


_WRAPPER = """\
// SPDX-License-Identifier: Apache-2.0
// Written by bitward bitstream; do not edit.

module bitward_accelerator (
  (* X_INTERFACE_INFO = "xilinx.com:signal:clock:1.0 ap_clk CLK" *)
  (* X_INTERFACE_PARAMETER = "ASSOCIATED_BUSIF s_axis:m_axis:s_axilite, ASSOCIATED_RESET ap_rst_n" *)
  input  wire ap_clk,
  (* X_INTERFACE_INFO = "xilinx.com:signal:reset:1.0 ap_rst_n RST" *)
  (* X_INTERFACE_PARAMETER = "POLARITY ACTIVE_LOW" *)
  input  wire ap_rst_n,
{ports}
);

  assign m_axis_tkeep = {{{keep}{{1'b1}}}};

  bitward_top #(
    .GitHash({commit}), .BuildId({build_id}), .GitIsDirty({is_dirty})
  ) i_top (
    .ap_clk(ap_clk),
    .ap_rst_n(ap_rst_n),
    {connected}
  );

  wire unused_ok = &{{1'b0, s_axis_tkeep, s_axis_tlast}};

endmodule
"""
