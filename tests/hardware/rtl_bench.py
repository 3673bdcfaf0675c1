# SPDX-License-Identifier: Apache-2.0
"""A bench for any module: Verilator compiles it once, and Python drives its ports, cycle by cycle.

Ports are views of the model's own memory, so a test reads like a waveform: `bench["in_valid"] = 1; bench.tick()`.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Mapping
from pathlib import Path

from bitward.tools import find_verilator, require_tool, run

_PORT = re.compile(r"VL_(?:IN|OUT)(?:8|16|64|W)?\(&?(\w+),(\d+),(\d+)(?:,(\d+))?\)")
_WRAPPER = """\
#include "Vdut.h"
#include "verilated.h"
static VerilatedContext context;
static Vdut* dut;
extern "C" void make() {{ context.fatalOnError(false); dut = new Vdut(&context); }}
extern "C" void eval() {{ dut->eval(); }}
extern "C" int errors() {{ return context.errorCount(); }}
extern "C" void* port(int index) {{
  void* ports[] = {{ {ports} }};
  return ports[index];
}}
"""


def compile_runtime(folder: Path) -> Path:
    """Verilator's run-time library as one object file, which every bench is linked with."""
    verilator = find_verilator()
    include, out = verilator.root / "include", folder / "verilated.o"
    sources = "".join(f'#include "{include / name}"\n' for name in ("verilated.cpp", "verilated_threads.cpp"))
    (folder / "runtime.cpp").write_text(sources)
    run([*_compiler(include), "-c", str(folder / "runtime.cpp"), "-o", str(out)], log=folder / "runtime.log")
    return out


def _compiler(include: Path) -> list[str]:
    return [str(require_tool("c++")), "-std=gnu++20", "-O0", "-fPIC", f"-I{include}", f"-I{include}/vltstd"]


class Bench:
    """One module with its parameters, compiled into `folder` and reset if it has a clock."""

    def __init__(
        self, folder: Path, runtime: Path, sources: list[Path], top: str, parameters: Mapping[str, object] | None = None
    ) -> None:
        verilator = find_verilator()
        folder.mkdir(parents=True, exist_ok=True)
        values = [f"-G{name}={value}" for name, value in (parameters or {}).items()]
        command = [verilator.binary, "--cc", "--top-module", top, "--prefix", "Vdut", "--Mdir", folder, "--assert"]
        options = ["--no-timing", "-Wno-lint", "-Wno-style", "-O1", *values]
        run([*command, *options, *sources], env=verilator.environment, log=folder / "verilate.log")
        ports = _PORT.findall((folder / "Vdut.h").read_text())
        addresses = ", ".join(f"&dut->{name}" for name, *_ in ports)
        parts = "".join(f'#include "{path.name}"\n' for path in sorted(folder.glob("Vdut*.cpp")))
        (folder / "all.cpp").write_text(parts + _WRAPPER.format(ports=addresses))
        library = folder / "libdut.so"
        compiler = [*_compiler(verilator.root / "include"), "-shared", str(folder / "all.cpp"), str(runtime)]
        run([*compiler, "-pthread", "-latomic", "-o", str(library)], log=folder / "compile.log")
        self._load(library, ports)

    def _load(self, library: Path, ports: list[tuple[str, str, str, str]]) -> None:
        self._model = ctypes.CDLL(str(library))
        self._model.port.restype = ctypes.c_void_p
        self._model.make()
        self._ports: dict[str, tuple[ctypes.Array[ctypes.c_uint8], int]] = {}
        for index, (name, high, low, words) in enumerate(ports):
            bits = int(high) - int(low) + 1
            octets = 4 * int(words) if words else next(size for size in (1, 2, 4, 8) if 8 * size >= bits)
            view = (ctypes.c_uint8 * octets).from_address(self._model.port(index))
            self._ports[name] = view, bits
        if "ap_clk" in self._ports:
            self["ap_rst_n"] = 0
            self.settle()  # the clock's first edge is seen only after an evaluation at its low level
            self.tick()
            self["ap_rst_n"] = 1
            self.settle()

    def __contains__(self, port: str) -> bool:
        return port in self._ports

    def __getitem__(self, port: str) -> int:
        return int.from_bytes(bytes(self._ports[port][0]), "little")

    def __setitem__(self, port: str, value: int) -> None:
        view, bits = self._ports[port]
        assert 0 <= value < 1 << bits, f"{port} takes {bits} bits, got {value:#x}"
        view[:] = value.to_bytes(len(view), "little")

    def settle(self) -> None:
        """Outputs follow the inputs; no time passes."""
        self._model.eval()

    def tick(self) -> None:
        """One clock cycle; inputs set before it are taken at its rising edge, outputs are those after it."""
        self["ap_clk"] = 1
        self._model.eval()
        self["ap_clk"] = 0
        self._model.eval()
        assert self._model.errors() == 0, "an assertion of the RTL failed"
