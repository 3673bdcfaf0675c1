# SPDX-License-Identifier: Apache-2.0
"""FINN's matrix-vector unit as Vivado compiles it, against the one that Verilator simulates.

The unit's source has two branches: behavioural code, which Verilator always takes, and DSP48E2 slices, which only
synthesis takes. Here the second one is simulated too, with a model of the slice, beside the first, on the same stream.
"""

from __future__ import annotations

import re
from dataclasses import astuple, dataclass
from pathlib import Path

from bitward.errors import ToolError
from bitward.hardware.rtllib import library_root, mended
from bitward.tools import find_verilator, require_tool, resource, run

CYCLES = 20_000
_ALWAYS_BEHAVIOURAL = "`ifdef VERILATOR\n\t\t1 ||\n`endif\n"


@dataclass(frozen=True)
class MvuShape:
    """What decides the lanes and pipelines of a matrix-vector unit. `beats` is MW / SIMD."""

    pe: int
    simd: int
    weight_bits: int
    act_bits: int
    act_signed: int
    acc_bits: int
    beats: int


@dataclass(frozen=True)
class Twins:
    """How many results were compared, and how many of them differed."""

    compared: int
    different: int


def shapes_of(build_dir: Path) -> list[MvuShape]:
    """The shapes of all matrix-vector units of a build, each once."""
    top = (build_dir / "rtl" / "bitward_top.sv").read_text()
    found = []
    for parameters in re.findall(r"^  bitward_mvau #\((.*)\) i_", top, re.MULTILINE):
        value = {name: int(number) for name, number in re.findall(r"\.(\w+)\((\d+)\)", parameters)}
        found.append(
            MvuShape(
                value["Pe"], value["Simd"], value["WeightBits"], value["ActBits"], value["ActSigned"],
                value["AccBits"], value["Mw"] // value["Simd"],
            )
        )  # fmt: skip
    return list(dict.fromkeys(found))


def compare_branches(shape: MvuShape, work: Path, cycles: int = CYCLES, seed: int = 1) -> Twins:
    """Both branches have run `cycles` cycles of the same random stream in the empty folder `work`.

    Raises ToolError, with the log's path, where Verilator or the compiler refuses, an assertion fails or nothing comes
    out.
    """
    _write_sources(work)
    verilator = find_verilator()
    names = ("Pe", "Simd", "WeightBits", "ActBits", "ActSigned", "AccBits", "Beats")
    parameters = [f"-G{name}={value}" for name, value in zip(names, astuple(shape), strict=True)]
    compiler = str(require_tool("c++"))
    sources = ["mvu_pkg.sv", "add_multi.sv", "mvu.sv", "mvu_dsp.sv", "DSP48E2.sv", "LUT6_2.sv", "bitward_mvu_twins.sv"]
    command: list[str | Path] = [
        verilator.binary, "--cc", "--exe", "--top-module", "bitward_mvu_twins", "--prefix", "Vtwins", "--Mdir", "obj",
        "--assert", "--no-timing", "-O3", "-Wno-lint", "-Wno-style", "-Wno-fatal", *parameters, *sources,
        str(resource("hls/sim/twins.cpp")),
    ]  # fmt: skip
    run(command, cwd=work, env=verilator.environment, log=work / "verilate.log")
    make: list[str | Path] = [
        require_tool("make"), "-f", "Vtwins.mk", f"CXX={compiler}", f"LINK={compiler}", "PYTHON3=python3", "PERL=perl",
        "CFG_CXXFLAGS_PCH_I=-include", "CFG_CXXFLAGS_STD=-std=gnu++20", "CFG_LDLIBS_THREADS=-pthread -latomic",
        "OPT_FAST=-O1", "OPT_SLOW=-O0", "Vtwins",
    ]  # fmt: skip
    run(make, cwd=work / "obj", env=verilator.environment, log=work / "make.log")
    said = run([work / "obj" / "Vtwins", str(cycles), str(seed)], cwd=work, log=work / "run.log").stdout
    last = re.search(r"^(\d+) (\d+)$", said, re.MULTILINE)
    if last is None or int(last[1]) == 0:
        raise ToolError(f"the simulated twins must give results, got {said.strip()!r}; log: {work / 'run.log'}")
    return Twins(int(last[1]), int(last[2]))


def _write_sources(work: Path) -> None:
    library = library_root() / "mvu"
    for name in ("mvu_pkg.sv", "add_multi.sv", "mvu.sv"):
        (work / name).write_text(mended(f"mvu/{name}", (library / name).read_text()))
    (work / "mvu_dsp.sv").write_text(dsp_variant((library / "mvu.sv").read_text()))
    for name in ("DSP48E2.sv", "LUT6_2.sv", "bitward_mvu_twins.sv"):
        (work / name).write_text(resource(f"hls/sim/{name}").read_text())


def dsp_variant(text: str) -> str:
    """The unit's source as module mvu_dsp whose DSP branch is taken in simulation too. Raises ToolError if unknown."""
    if text.count(_ALWAYS_BEHAVIOURAL) != 1 or text.count("`ifndef VERILATOR\n") != 2:
        raise ToolError(
            "finn-rtllib/mvu/mvu.sv must choose its branch by VERILATOR in the three known places, got another text: "
            "install the finn-plus version that pyproject.toml names, or review bitward.hardware.dsp_branch."
        )
    text = text.replace(_ALWAYS_BEHAVIOURAL, "").replace("`ifndef VERILATOR\n", "`ifndef BITWARD_NEVER\n")
    return text.replace("module mvu #(", "module mvu_dsp #(").replace("endmodule : mvu", "endmodule : mvu_dsp")
