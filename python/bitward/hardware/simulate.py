# SPDX-License-Identifier: Apache-2.0
"""The Verilator model of a build: compiled once, then driven from Python through a C interface.

Cycles counted here are cycles of the RTL. Wall time and power of a board are not measured by a simulation.
"""

from __future__ import annotations

import ctypes
import hashlib
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from bitward.errors import BoardError, OutputError, ToolError
from bitward.manifest import Manifest
from bitward.tools import (
    atomic_path,
    cache_folder,
    cores,
    find_verilator,
    output_directory,
    require_tool,
    resource,
    run,
)

LIBRARY = "libmodel.so"
GAUGED_LIBRARY = "libgauge.so"
QUIET_CYCLES = 1_000_000  # without a beat on either side for this long, the design is taken to be deadlocked
SLICE_S = 0.1  # of a stream in one call into C: between two, signals are heard, and it may be closed
_OKAY, _TIMEOUT, _FAILED, _MORE = 0, -1, -2, -3
_OPTIMISED = "-O1"  # -O2 takes g++ half as long again, and the model is no faster for it
_HOOKS = ("-DVL_USER_STOP", "-DVL_USER_FATAL", "-DVL_USER_FINISH")  # a failed assertion ends a call, not the process


def compile_model(rtl: Path, files: list[str], out: Path, log: Path, gauged: bool = False) -> Path:
    """`out`/libmodel.so simulates bitward_top of the RTL folder, assertions on.

    A `gauged` one is `out`/libgauge.so, whose queues are as deep as its user says (hardware.gauge). Objects are made in
    a temporary folder: make takes no path with a space in it. Raises ToolError, with the log's path, when Verilator or
    the compiler refuses.
    """
    with tempfile.TemporaryDirectory(prefix="bitward-") as objects:
        library = out / (GAUGED_LIBRARY if gauged else LIBRARY)
        return _compile(rtl.resolve(), files, Path(objects), library, log, ["-DBITWARD_GAUGE"] if gauged else [])


def _compile(rtl: Path, files: list[str], objects: Path, library: Path, log: Path, defines: list[str]) -> Path:
    verilator = find_verilator()
    command = [
        str(verilator.binary), "--cc", "--top-module", "bitward_top", "--prefix", "Vbitward_top",
        "--Mdir", str(objects), "--assert", "--no-timing", "-O3", "--x-assign", "fast", "--x-initial", "fast",
        "-Wno-lint", "-Wno-style", "-Wno-fatal", "-Werror-USERERROR", "-CFLAGS", "-fPIC", *defines, *files,
    ]  # fmt: skip
    run(command, cwd=rtl, env=verilator.environment, log=log)
    compiler = str(require_tool("c++"))
    make = [
        str(require_tool("make")), "-f", "Vbitward_top.mk", "-j", str(cores()), f"CXX={compiler}", f"LINK={compiler}",
        "PYTHON3=python3", "PERL=perl", "CFG_CXXFLAGS_PCH_I=-include", "CFG_CXXFLAGS_STD=-std=gnu++20",
        "CFG_LDLIBS_THREADS=-pthread -lpthread -latomic", f"OPT_FAST={_OPTIMISED}", "OPT_SLOW=-O0",
        f"USER_CPPFLAGS={' '.join(_HOOKS)}", "Vbitward_top__ALL.a",
    ]  # fmt: skip
    run(make, cwd=objects, env=verilator.environment, log=log)
    options = _options(verilator.root / "include")
    link = [
        compiler, *options, "-shared", f"-I{objects}", str(resource("hls/src/harness.cpp")),
        f"{objects}/Vbitward_top__ALL.a", str(_runtime(verilator.root / "include", compiler, objects, log)),
        "-pthread", "-latomic", "-o", str(library),
    ]  # fmt: skip
    run(link, log=log)
    return library


def _options(include: Path) -> list[str]:
    return ["-std=gnu++20", _OPTIMISED, "-fPIC", *_HOOKS, f"-I{include}", f"-I{include}/vltstd"]


def _runtime(include: Path, compiler: str, objects: Path, log: Path) -> Path:
    """Verilator's run-time library as an object file, compiled once and kept: half the time of a small design's build.

    Where nothing can be kept, it is compiled among the `objects`.
    """
    sources = [include / f"{name}.cpp" for name in ("verilated", "verilated_dpi", "verilated_threads")]
    command = [compiler, *_options(include), "-c", "-o"]
    version = run([compiler, "--version"]).stdout
    digest = hashlib.sha256("\0".join([version, *command]).encode())
    for path in sorted(include.rglob("verilated*")):
        digest.update(path.read_bytes() if path.is_file() else b"")
    single = objects / "bitward_runtime.cpp"
    single.write_text("".join(f'#include "{path}"\n' for path in sources))
    kept = cache_folder("verilated") / f"{digest.hexdigest()[:24]}.o"
    if kept.is_file():
        return kept
    try:
        output_directory(kept.parent)
        with atomic_path(kept) as partial:
            run([*command, str(partial), str(single)], log=log)
    except OutputError:
        kept = objects / "bitward_runtime.o"
        run([*command, str(kept), str(single)], log=log)
    return kept


class StuckError(BoardError):
    """The simulated design answers no more: it is deadlocked, or gives less than was asked for."""


@dataclass(frozen=True)
class Streamed:
    """What came out of a stream: images (n, *shape), and the cycle of every input and output beat."""

    outputs: NDArray[np.int64]
    in_cycles: NDArray[np.uint64]
    out_cycles: NDArray[np.uint64]

    def latency_cycles(self, out_beats: int) -> int:
        """Cycles from the first beat of the first image in to its last beat out."""
        return int(self.out_cycles[out_beats - 1] - self.in_cycles[0]) + 1

    def steady_cycles(self, out_beats: int) -> float:
        """Cycles between finished images over the second half of the stream."""
        ends = self.out_cycles[out_beats - 1 :: out_beats].astype(np.int64)
        half = len(ends) // 2
        if half < 1 or len(ends) - half < 2:
            raise BoardError(f"a stream must have at least 4 images to measure a steady rate, got {len(ends)}.")
        return float(ends[-1] - ends[half]) / (len(ends) - 1 - half)


class Simulation:
    """The accelerator of a build directory, simulated: AXI-Lite reads and writes, streams in and out.

    Implements the virtual board's Accelerator protocol. Raises BoardError where there is no compiled model, or one of
    another design than the manifest's, and from all else once it is closed. One thread at a time may use it, but any
    may close it. Instances of one library share its record of failed assertions.
    """

    library_name = LIBRARY
    quiet_cycles = 0  # without a beat for so long, the design is taken to be deadlocked; 0 is QUIET_CYCLES

    def __init__(self, build: Path) -> None:
        self.manifest = Manifest.load(build / "manifest.json")
        name = self.library_name
        library = (build / "sim" / name).resolve()
        if not library.is_file():
            raise BoardError(f"{build} must hold a compiled model (sim/{name}), got none: run bitward build again.")
        self._build = build
        self._lock = Lock()  # held by a call into C, so that no model is freed under it
        self._is_closed = False
        self._library = _load(library, _digest(library))
        self._model: int | None = self._library.bitward_open(str((build / "rtl").resolve()).encode())
        if not self._model:
            raise BoardError(f"{build}/rtl must be a readable folder of RTL files, got none: run bitward build again.")
        try:
            self._identify(build)
        except BoardError:
            self.close()
            raise

    def _identify(self, build: Path) -> None:
        design_id = self.axil_read(self.manifest.registers["design_id"])
        if design_id != self.manifest.design_id:
            raise BoardError(
                f"{build}/sim/{self.library_name} must simulate the manifest's design "
                f"0x{self.manifest.design_id:08x}, got 0x{design_id:08x}: run bitward build again."
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """The model is gone; a stream that another thread waits for ends in a BoardError."""
        self._is_closed = True  # before the lock is free: a stream would take it again and again
        with self._lock:
            if self._model:
                self._library.bitward_close(self._model)
                self._model = None

    @property
    def cycles(self) -> int:
        """Clock cycles simulated so far."""
        return int(self._call(self._library.bitward_cycles))

    def reset(self) -> None:
        """ap_rst_n was low for 16 cycles; memories keep their content."""
        self._call(self._library.bitward_reset)

    def axil_write(self, address: int, data: int) -> None:
        """A 32-bit word was written. Raises BoardError on an AXI error response and outside the map."""
        self._check_address(address)
        self._check(self._call(self._library.bitward_write, address, data & 0xFFFFFFFF), f"write to 0x{address:x}")

    def axil_read(self, address: int) -> int:
        """The 32-bit word at a byte address. Raises BoardError on an AXI error response and outside the map."""
        self._check_address(address)
        value = ctypes.c_uint32()
        self._check(self._call(self._library.bitward_read, address, ctypes.byref(value)), f"read of 0x{address:x}")
        return value.value

    def stream(self, beats_in: bytes, out_bytes: int) -> bytes:
        """All input beats are fed, `out_bytes` of output collected (bytes as AXI DMA moves them).

        Raises BoardError where TLAST ends the transfer before that, as a DMA would stop there, or does not end it with
        the last beat, as a DMA would wait on.
        """
        io = self._io()
        in_beat, out_beat = io.input.stream_bits // 8, io.output.stream_bits // 8
        data, _, _, last = self._run(beats_in, in_beat, out_bytes // out_beat, out_beat, 0, 0, 0)
        ends = np.flatnonzero(last)
        if len(last) and (len(ends) == 0 or ends[0] < len(last) - 1):
            found = f"TLAST after {(int(ends[0]) + 1) * out_beat}" if len(ends) else "no TLAST"
            raise BoardError(
                f"a transfer must be as long as the register images_per_transfer says, got {out_bytes} bytes asked for "
                f"and {found}; write the number of images to the register first."
            )
        return data

    def infer(
        self, images: NDArray[Any], in_stall: float = 0.0, out_stall: float = 0.0, seed: int = 0, pace: float = 0.0
    ) -> Streamed:
        """Integer images (n, *input shape) through the RTL back to back; either side may idle at random.

        `in_stall` and `out_stall` are the shares of cycles in which that side holds back. With a `pace` above 0 no
        more than an image in so many cycles is offered, its beats evenly spread.
        """
        io = self._io()
        count = len(images)
        in_beat, out_beat = io.input.stream_bits // 8, io.output.stream_bits // 8
        data, in_cycles, out_cycles, _ = self._run(
            io.input.pack(images), in_beat, count * io.output.beats, out_beat,
            round(1000 * in_stall), round(1000 * out_stall), seed, pace / io.input.beats,
        )  # fmt: skip
        return Streamed(io.output.unpack(data), in_cycles, out_cycles)

    def _io(self) -> Any:
        if self.manifest.io is None:
            raise BoardError("the manifest must describe the design's streams, got none: run bitward build again.")
        return self.manifest.io

    def _run(
        self, data: bytes, in_beat: int, out_beats: int, out_beat: int, in_stall: int, out_stall: int, seed: int,
        pace: float = 0.0,
    ) -> tuple[bytes, NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint8]]:  # fmt: skip
        in_beats = len(data) // in_beat
        out = np.zeros(out_beats * out_beat, dtype=np.uint8)
        in_cycles = np.zeros(in_beats, dtype=np.uint64)
        out_cycles = np.zeros(out_beats, dtype=np.uint64)
        last = np.zeros(out_beats, dtype=np.uint8)
        status = self._call(
            self._library.bitward_stream, data, in_beats, in_beat, out.ctypes.data, out_beats, out_beat, in_stall,
            out_stall, seed, self.quiet_cycles or QUIET_CYCLES, pace, in_cycles.ctypes.data, out_cycles.ctypes.data,
            last.ctypes.data,
        )  # fmt: skip
        try:
            while status == _MORE:
                status = self._call(self._library.bitward_go_on, SLICE_S)
        except BaseException:  # what is still on its way through the design must not meet the next images
            with suppress(BoardError):
                self.reset()
            raise
        self._check(status, f"stream of {in_beats} beats")
        return out.tobytes(), in_cycles, out_cycles, last

    def _call(self, function: Callable[..., int], *arguments: Any) -> int:
        """What the function of the library gives for this model."""
        with self._lock:
            if self._is_closed:
                raise BoardError(f"the simulation of {self._build} must be open, got a closed one: open it again.")
            return function(self._model, *arguments)

    def _check_address(self, address: int) -> None:
        size = self.manifest.axilite_bytes or 0
        if not 0 <= address < size:
            raise BoardError(
                f"an AXI-Lite address must lie in the design's map of {size:#x} bytes, got {address:#x}: see the "
                "manifest's addresses."
            )

    def _check(self, status: int, what: str) -> None:
        if status == _OKAY:
            return
        if status == _TIMEOUT:
            raise StuckError(
                f"the simulated accelerator must answer a {what}, got nothing in time: the design is stuck."
            )
        if status == _FAILED:
            text = self._library.bitward_failure().decode()
            raise BoardError(f"the RTL's assertions must hold during a {what}, got {text}.")
        kind = {2: "SLVERR (read-only register or partial word)", 3: "DECERR (no such address)"}.get(
            status, str(status)
        )
        raise BoardError(f"the AXI-Lite {what} must be answered OKAY, got {kind}: see the manifest's address map.")


@cache
def _load(library: Path, digest: str) -> ctypes.CDLL:
    """The shared library of that sha256 with its C interface declared. Raises ToolError if it cannot be loaded.

    It is loaded from a copy: the loader knows a library by its path, and would answer with what lay there before.
    """
    try:
        with tempfile.NamedTemporaryFile(prefix=f"bitward-{digest[:8]}-", suffix=".so") as copy:
            copy.write(library.read_bytes())
            copy.flush()
            loaded = ctypes.CDLL(copy.name)
    except OSError as error:
        raise ToolError(f"{library} must load on this machine, got {error}: run bitward build again here.") from error
    void, u32, u64, integer = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint64, ctypes.c_int
    signatures: dict[str, tuple[Any, list[Any]]] = {
        "bitward_open": (void, [ctypes.c_char_p]),
        "bitward_close": (None, [void]),
        "bitward_reset": (None, [void]),
        "bitward_cycles": (u64, [void]),
        "bitward_failure": (ctypes.c_char_p, []),
        "bitward_write": (integer, [void, u32, u32]),
        "bitward_read": (integer, [void, u32, ctypes.POINTER(u32)]),
        "bitward_stream": (
            integer,
            [void, ctypes.c_char_p, u64, u64, void, u64, u64, u32, u32, u64, u64, ctypes.c_double, void, void, void],
        ),
        "bitward_go_on": (integer, [void, ctypes.c_double]),
        "bitward_gauge_limit": (None, [ctypes.c_char_p, u32]),
        "bitward_gauge_unlimit": (None, []),
        "bitward_gauge_read": (integer, [u32, ctypes.c_char_p, u32, ctypes.POINTER(u64)]),
    }
    for name, (result, arguments) in signatures.items():
        try:
            function = getattr(loaded, name)
        except AttributeError as error:
            raise ToolError(f"{library} must have {name}, got an older model: run bitward build again.") from error
        function.restype, function.argtypes = result, arguments
    return loaded


def library_digest(build: Path) -> str:
    """sha256 of the compiled model, for provenance."""
    return _digest(build / "sim" / LIBRARY)


def _digest(library: Path) -> str:
    return hashlib.sha256(library.read_bytes()).hexdigest()
