# SPDX-License-Identifier: Apache-2.0
"""Yosys as synthesiser for the chip: how RTL is made readable for it, run through it, and its cells counted.

Counts are out of context and not Vivado's: nothing is placed. No clock frequency and no power follows from them.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bitward.errors import ToolError
from bitward.tools import run

LABEL = "Yosys 0.70, out of context, not Vivado"
TIMEOUT_S = 900.0
LOG = "synthesis.log"
TOP = "bitward_top"


@dataclass(frozen=True)
class Resources:
    """Counts of FPGA primitives; `lut` counts every LUT site, memory and shift registers too (Vivado's "CLB LUTs")."""

    lut: int = 0
    lutram: int = 0  # LUT sites used as memory, part of `lut`
    srl: int = 0  # LUT sites used as shift registers, part of `lut`
    ff: int = 0
    carry: float = 0.0  # CARRY8 sites: a CARRY4 is half of one
    bram36: float = 0.0  # a RAMB18 is half of one
    uram: int = 0
    dsp: int = 0

    def __add__(self, other: Resources) -> Resources:
        return Resources(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __mul__(self, count: int) -> Resources:
        return Resources(*(getattr(self, f.name) * count for f in fields(self)))


# LUT sites of each distributed RAM (UG974), a shift register and an inverter take one.
_LUTRAM_SITES = {
    "RAM32X1S": 1, "RAM64X1S": 1, "RAM128X1S": 2, "RAM256X1S": 4, "RAM512X1S": 8,
    "RAM32X1D": 2, "RAM64X1D": 2, "RAM128X1D": 4, "RAM256X1D": 8,
    "RAM32M": 4, "RAM64M": 4, "RAM32M16": 8, "RAM64M8": 8, "RAM32X16DR8": 8, "RAM64X8SW": 8,
}  # fmt: skip
PRIMITIVES: dict[str, Resources] = {
    **{name: Resources(lut=sites, lutram=sites) for name, sites in _LUTRAM_SITES.items()},
    **dict.fromkeys(("LUT1", "LUT2", "LUT3", "LUT4", "LUT5", "LUT6", "LUT6_2", "INV"), Resources(lut=1)),
    **dict.fromkeys(("SRL16E", "SRLC16E", "SRLC32E"), Resources(lut=1, srl=1)),
    **dict.fromkeys(("FDRE", "FDSE", "FDCE", "FDPE"), Resources(ff=1)),
    "CARRY8": Resources(carry=1.0),
    "CARRY4": Resources(carry=0.5),
    **dict.fromkeys(("MUXF7", "MUXF8", "MUXF9"), Resources()),  # part of the LUTs' slices
    "RAMB36E2": Resources(bram36=1.0),
    "RAMB18E2": Resources(bram36=0.5),
    "URAM288": Resources(uram=1),
    "DSP48E2": Resources(dsp=1),
}


@dataclass(frozen=True)
class Edit:
    """A replacement on a file of finn-rtllib that leaves the hardware as it is and lets Yosys see it."""

    file: str
    old: str
    new: str

    def apply(self, text: str) -> str:
        if text.count(self.old) != 1:
            raise ToolError(
                f"{self.file} must hold {self.old!r} once to be read by Yosys, got {text.count(self.old)} times: "
                "install the finn-plus version that the Makefile names, or review the edits in "
                "bitward.hardware.synthesis."
            )
        return text.replace(self.old, self.new)


EDITS = (
    # A watchdog for simulation, with a delay.
    Edit("mvu.sv", "if(1) begin : blkRecoveryWatch", "if(0) begin : blkRecoveryWatch"),
    # In the first stage, where the condition before it is true, this range is empty and slang refuses it.
    Edit("thresholding.sv", "p.ptr[M-1:SN+1] < 2**stage", "(p.ptr[M-1:0] >> (SN+1)) < 2**stage"),
    # Yosys finds a shift register where the youngest element has index 0 and the select has no spare bits.
    Edit("fifo.sv", "dat_t  A[DEPTH_IMPL];", "dat_t  A[DEPTH_IMPL-1:0];"),
    Edit("fifo.sv", "{ idat, A[0:DEPTH_IMPL-2] }", "{ A[DEPTH_IMPL-2:0], idat }"),
    Edit("memstream.sv", "OSrl[FULL_CREDIT-1];", "OSrl[FULL_CREDIT-2:0];"),
    Edit("memstream.sv", "{ Dat3, OSrl[0:FULL_CREDIT-3] }", "{ OSrl[FULL_CREDIT-3:0], Dat3 }"),
    Edit("memstream.sv", "OSrl[OPtr];", "OSrl[OPtr[$left(OPtr)-1:0]];"),
    Edit("mvu_vvu_axi.sv", "OBuf[0:MAX_IN_FLIGHT];", "OBuf[MAX_IN_FLIGHT:0];"),
    Edit("mvu_vvu_axi.sv", "{ odat, OBuf[0:MAX_IN_FLIGHT-1] }", "{ OBuf[MAX_IN_FLIGHT-1:0], odat }"),
    Edit("thresholding.sv", "ADat[A_DEPTH];", "ADat[A_DEPTH-1:0];"),
    Edit("thresholding.sv", "ADat[APtr];", "ADat[APtr[$left(APtr)-1:0]];"),
    # Vivado makes this read-anywhere array distributed RAM by itself; Yosys is told.
    Edit(
        "replay_buffer.sv",
        "data_t  Mem[2**AWIDTH];",
        '(* ram_style = "distributed" *) data_t  Mem[2**AWIDTH];',
    ),
)
_NETTYPE = re.compile(r"^`default_nettype.*$", re.MULTILINE)  # stands inside modules, where the language forbids it
_RAM_STYLE = re.compile(r"(\(\*[^)]*?)\bRAM_STYLE = ")  # Yosys knows the attribute in lower case only

# slang reads `array[index]` as one multiplexer of words; shift registers are recognised behind multiplexers of bits.
_BIT_MULTIPLEXERS = r"""
module \$bmux (A, S, Y);
  parameter WIDTH = 1;
  parameter S_WIDTH = 1;
  input [(WIDTH << S_WIDTH)-1:0] A;
  input [S_WIDTH-1:0] S;
  output [WIDTH-1:0] Y;
  genvar b, w;
  generate
    for (b = 0; b < WIDTH; b = b + 1) begin : gen_bit
      wire [(1 << S_WIDTH)-1:0] words;
      for (w = 0; w < (1 << S_WIDTH); w = w + 1) begin : gen_word
        assign words[w] = A[w*WIDTH+b];
      end
      assign Y[b] = words[S];
    end
  endgenerate
endmodule
"""

READ = (
    "--keep-hierarchy --no-implicit-memories --allow-use-before-declare --empty-blackboxes --ignore-assertions "
    "--translate-off-format synthesis,translate_off,translate_on"
)
_DRIVER = "import sys; from pyosys import libyosys as y; y.run_pass('script ' + sys.argv[1], y.Design())"


def yosys(script: str, work: Path, log: Path, timeout_s: float = TIMEOUT_S, script_name: str = "script.ys") -> str:
    """Yosys has run the script in the folder, in a process of its own; its output.

    Raises ToolError, with what Yosys said and the log's path, when it fails, is not installed or takes too long.
    """
    if find_spec("pyosys") is None:
        raise ToolError("this environment must hold the PyPI package pyosys (Yosys 0.70), got none: run make setup.")
    (work / script_name).write_text(script)
    command = [sys.executable, "-c", _DRIVER, script_name]
    try:
        return run(command, cwd=work, log=log.resolve(), timeout_s=timeout_s).stdout
    except ToolError as error:
        if said := re.search(r"^.*\bERROR: .*$", log.read_text(errors="replace"), re.MULTILINE):
            raise ToolError(f"Yosys must end without an error, got {said[0]!r}; log: {log}") from error
        raise


def stage(rtl: Path, files: Iterable[str], work: Path) -> None:
    """`work` holds the RTL and memory contents as Yosys can read them, the primitives' ports and the techmap."""
    for path in rtl.glob("*.dat"):
        shutil.copyfile(path, work / path.name)
    for name in files:
        (work / name).write_text(readable(name, (rtl / name).read_text()))
    (work / "primitives.v").write_text("".join(_black_box(name) for name in ("DSP48E2", "LUT6_2")))
    (work / "multiplexers.v").write_text(_BIT_MULTIPLEXERS)


def readable(name: str, text: str) -> str:
    """The text of an RTL file for Yosys: changed where it cannot read it or see what it is, the same hardware."""
    for edit in EDITS:
        if edit.file == name:
            text = edit.apply(text)
    return _RAM_STYLE.sub(r"\1ram_style = ", _NETTYPE.sub("", text))


def file_list(rtl: Path) -> list[str]:
    """The RTL files of a build, in compile order; ToolError where it has none."""
    listing = rtl / "files.f"
    if not listing.is_file():
        raise ToolError(
            f"{rtl.parent} must be a build directory, got no {listing.name} in it: run bitward build first."
        )
    return listing.read_text().split()


def _black_box(name: str) -> str:
    """A primitive's ports and parameters without its behaviour, from Yosys' own library."""
    spec = find_spec("pyosys")
    for root in map(Path, (spec.submodule_search_locations or ()) if spec else ()):
        for library in ("cells_sim.v", "cells_xtra.v"):
            text = (root / "share" / "xilinx" / library).read_text()
            if found := re.search(rf"^module {name}\s*\((.*?)\);(.*?)^endmodule", text, re.MULTILINE | re.DOTALL):
                declared = re.findall(r"^\s*(?:parameter|input|output)\b.*?;", found[2], re.MULTILINE)
                body = "".join(f"  {line.strip()}\n" for line in declared)
                return f"(* blackbox *) module {name}({found[1]});\n{body}endmodule\n"
    raise ToolError(f"pyosys must know the primitive {name}, got none in its library: run make setup for pyosys 0.70.")


def statistics(path: Path, log: Path) -> dict[str, Mapping[str, int]]:
    """Cells by type of every synthesised module."""
    if not path.is_file():
        raise ToolError(f"Yosys must leave {path.name}, got none though it ended well; log: {log}")
    modules = json.loads(path.read_text())["modules"]
    return {name.removeprefix("\\"): module["num_cells_by_type"] for name, module in modules.items()}


def flat(modules: Mapping[str, Mapping[str, int]], module: str) -> Resources:
    """What the module takes with all modules in it. Raises ToolError for a cell that is no primitive of the chip."""
    total = Resources()
    for cell, count in modules[module].items():
        if cell in modules:
            total += flat(modules, cell) * count
        elif cell in PRIMITIVES:
            total += PRIMITIVES[cell] * count
        elif cell != "$scopeinfo":  # keeps the names of flattened modules
            raise ToolError(
                f"synthesised cells must be primitives of the chip, got {count} {cell} in {module}: Yosys could not "
                "map them, so the count would be wrong."
            )
    return total


def row(modules: Mapping[str, Mapping[str, int]], module: str) -> dict[str, Any]:
    """The counts of a module, and its voters' (or decoders') once more under "voter" (None where it has none)."""
    voters = [cell for cell in modules[module] if cell.startswith(("bitward_voter", "bitward_secded"))]
    return {
        "module": module.partition("$")[0],
        **asdict(flat(modules, module)),
        "voter": asdict(sum((flat(modules, voter) for voter in voters), Resources())) if voters else None,
    }
