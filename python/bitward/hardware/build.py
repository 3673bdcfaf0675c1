# SPDX-License-Identifier: Apache-2.0
"""`bitward build`: a QONNX file becomes a build directory: RTL, memories, manifest, Verilator model, overlay.

DIR/manifest.json    every memory, its format, scheme, layout and address
DIR/source.onnx      the model given      DIR/hardware.onnx  FINN's graph of RTL nodes (what the engine executes)
DIR/memories.npz     golden stored images DIR/rtl/           all RTL, memory contents, bitward_top.sv, files.f
DIR/sim/libmodel.so  the Verilator model  DIR/build.json     folding, cycles measured in RTL, versions, provenance
DIR/report/          the same figures in FINN's files (hardware.finn_reports)
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from bitward.errors import ConfigError, ModelError
from bitward.hardware import budget
from bitward.hardware.boards import Board, board_kind, load_board
from bitward.hardware.build_folder import replaced, sole_builder
from bitward.hardware.declare import BuildOptions, declare, hardened_biases, memory_schemes
from bitward.hardware.fifos import queues
from bitward.hardware.finn_config import queue_depths
from bitward.hardware.finn_reports import Stopwatch, write_reports
from bitward.hardware.finn_session import finn_session
from bitward.hardware.folding import target_cycles
from bitward.hardware.generate import (
    Design,
    finn_notes,
    fold_graph,
    generate,
    with_depths,
    without_paths,
    write_memory_files,
)
from bitward.hardware.lowering import Lowered, lower
from bitward.hardware.overlay import build_overlay
from bitward.hardware.rtllib import MVAU_FILES, collect, library_root
from bitward.hardware.simulate import Simulation, StuckError, compile_model, library_digest
from bitward.hardware.sizing import Sizing, measured_depths, why_stopped
from bitward.hardware.stitch import REGISTERS, counter_registers, map_size, top
from bitward.manifest import Manifest
from bitward.rewrites import (
    bias_notes,
)
from bitward.schemes import Scheme
from bitward.tools import atomic_write, git_hash, output_directory, resource

Progress = Callable[[str], None]

MEASURED_IMAGES = 16  # images streamed through the RTL to measure latency and the steady rate


def build(
    model: Path, out: Path, options: BuildOptions, name: str | None = None, progress: Progress = lambda _: None
) -> Manifest:
    """`out` is the whole build of that model; it appears when everything in it works, and replaces an older one.

    Raises ModelError for a model that cannot be built, ConfigError for options that make no sense, ToolError when
    Verilator or the compiler fails, OutputError when `out` cannot be written.
    """
    if out.resolve() == Path.cwd():
        raise ConfigError(f"out must be another folder than the one you are in, got {out}: name one below it.")
    out = out.resolve()  # where a symbolic link leads to
    options = replace(options, board=board_kind(options.board))
    board = load_board(options.board)
    _check_clock(board, options.clk_mhz)
    cycles = target_cycles(options.target_fps, options.clk_mhz)
    started, progress = time.monotonic(), Stopwatch(progress)
    with sole_builder(out), replaced(out) as work, finn_session(work / "finn"):
        progress("lowering")
        design, schemes = _design(model, options, board, cycles)
        progress("writing RTL")
        files = [*_gather(design, output_directory(work / "rtl")), "bitward_top.sv"]
        design, sizing = _sized(design, options, board, files, work, progress)
        estimated = budget.check_queues(design.model, board.resources)
        manifest = _manifest(design, name or model.stem, options, work / "rtl")
        _write(design, manifest, files, model, board, work)
        shutil.rmtree(work / "finn")
        record = _record(design, schemes, options, board, work) | {"estimated_resources": estimated}
        if options.simulate:
            record |= _simulated(design, sizing, files, work, progress)
        record["wall_s"] = round(time.monotonic() - started, 1)
        write_reports(work, design, record, MEASURED_IMAGES, progress)
        atomic_write(work / "build.json", json.dumps(record, indent=1) + "\n")
    return manifest


def _check_clock(board: Board, clk_mhz: float) -> None:
    divider = board.pl_clock_source_mhz / clk_mhz if clk_mhz > 0 else 0
    if divider < 1 or abs(divider - round(divider)) > 1e-9:
        raise ConfigError(
            f"clk_mhz must be {board.pl_clock_source_mhz:g} MHz divided by a whole number on the {board.name}, got "
            f"{clk_mhz:g}: 100, 200 and 250 exist."
        )


def _design(model_path: Path, options: BuildOptions, board: Board, cycles: int) -> tuple[Design, dict[str, Scheme]]:
    model, schemes = declare(model_path, options)
    lowered = lower(model, bias_as=options.bias_as)
    stored = memory_schemes(lowered, schemes, hardened_biases(model, options), options.bias_as)
    folded = folded_to_fit(lowered, stored, options, board, cycles)
    design = generate(lowered, folded, board.part, 1000.0 / options.clk_mhz)
    return replace(
        design, biases=bias_notes(model), notes=finn_notes(lowered, options.folding, options.specialize)
    ), stored


def folded_to_fit(
    lowered: Lowered, schemes: Mapping[str, Scheme], options: BuildOptions, board: Board, cycles: int
) -> Any:
    """FINN's graph folded for so many cycles an image, memories by their schemes; ConfigError where no board holds it.

    Inside a `finn_session`.
    """

    def fold(each: int) -> Any:
        return fold_graph(lowered, schemes, each, options.folding, options.ram_style)

    return budget.check(fold, cycles, board.resources, options.clk_mhz)


def _sized(
    design: Design, options: BuildOptions, board: Board, files: list[str], work: Path, progress: Progress
) -> tuple[Design, Sizing | None]:
    """The design with queues as deep as measuring shows, unless folding gives all depths or safe ones are asked for."""
    fixed = queue_depths(options.folding)
    if not options.simulate or options.fifos == "safe" or all(queue.name in fixed for queue in queues(design.model)):
        return design, None
    manifest = _manifest(design, "gauged", options, work / "rtl")
    top_file = work / "rtl" / "bitward_top.sv"
    top_file.write_text(_top(design, manifest.design_id))
    manifest.save(work / "manifest.json")
    sizing = measured_depths(design.model, work, files, fixed, options.fifo_limit_s, progress)
    top_file.unlink()
    return with_depths(design, sizing.depths, board.part), sizing


def _manifest(design: Design, name: str, options: BuildOptions, rtl: Path) -> Manifest:
    """The manifest; its design id is a hash of itself, of the RTL around the top and of the memories' contents."""
    manifest = Manifest(
        design=name,
        design_id=0,
        board=options.board,
        clk_mhz=options.clk_mhz,
        memories=tuple(design.memories),
        io=design.io,
        registers={**REGISTERS, **counter_registers(design.nodes, design.windows)},
        axilite_bytes=map_size(design.windows),
    )
    digest = hashlib.sha256(manifest.to_json().encode() + _top(design, 0).encode())
    for path in sorted(rtl.iterdir()):
        digest.update(path.name.encode() + path.read_bytes())
    return replace(manifest, design_id=int.from_bytes(digest.digest()[:4], "big"))


def _top(design: Design, design_id: int) -> str:
    return top(design.nodes, design.windows, design.source, design.sink, design_id)


def _gather(design: Design, rtl: Path) -> list[str]:
    """The RTL around the top, and the memories' contents, are in the folder; file names in compile order."""
    from qonnx.custom_op.registry import getCustomOp

    sources: list[Path] = []
    for node in design.model.graph.node:
        op = getCustomOp(node)
        sources += [Path(path) for path in op.get_rtl_file_list(abspath=True)]
    sources += [library_root() / file for file in MVAU_FILES]
    sources += sorted(resource("hls/rtl").glob("*.sv"))
    files = collect(dict.fromkeys(path for path in sources if path.suffix in (".v", ".sv")), rtl)
    write_memory_files(design, rtl)
    return files


def _write(design: Design, manifest: Manifest, files: list[str], model: Path, board: Board, work: Path) -> None:
    """Everything but the compiled model is written to `work`."""
    rtl = work / "rtl"
    (rtl / "bitward_top.sv").write_text(_top(design, manifest.design_id))
    (rtl / "files.f").write_text("".join(f"{file}\n" for file in files))
    manifest.save(work / "manifest.json")
    if board.is_simulated:
        build_overlay(work, manifest, board)
    without_paths(design.model).save(str(work / "hardware.onnx"))
    shutil.copyfile(model, work / "source.onnx")
    np.savez_compressed(work / "memories.npz", **design.images)  # type: ignore[arg-type]


def _record(
    design: Design, schemes: Mapping[str, Scheme], options: BuildOptions, board: Board, work: Path
) -> dict[str, Any]:
    return {
        "model_sha256": hashlib.sha256((work / "source.onnx").read_bytes()).hexdigest(),
        "protect": options.protect,
        "bias": options.bias,
        "bias_as": options.bias_as,
        "biases": design.biases,
        "schemes": {memory: scheme.to_dict() for memory, scheme in schemes.items()},
        "lowering": design.steps,
        "board": {"kind": options.board, "name": board.name, "part": board.part, "is_simulated": board.is_simulated},
        "target_fps": options.target_fps,
        "clk_mhz": options.clk_mhz,
        "folding": design.folding,
        "notes": list(design.notes),
        "versions": versions(),
        "git": git_hash(),
        **dict.fromkeys(("cycles", "pace", "compile_s", "libmodel_sha256"), "not measured"),
    }


def _simulated(
    design: Design, sizing: Sizing | None, files: list[str], work: Path, progress: Progress
) -> dict[str, Any]:
    """The Verilator model is in `work`/sim; what it measured."""
    started = time.monotonic()
    progress("compiling the Verilator model")
    compile_model(work / "rtl", files, output_directory(work / "sim"), work / "sim" / "compile.log")
    compile_s = round(time.monotonic() - started, 1)
    progress("measuring cycles in RTL")
    try:
        cycles = measure_cycles(work)
    except StuckError as error:
        raise ModelError(why_stopped(design.model, work, files, progress)) from error
    return {
        "cycles": cycles,
        "pace": _pace(design, cycles["steady_per_image"], sizing),
        "compile_s": compile_s,
        "libmodel_sha256": library_digest(work),
    }


def _pace(design: Design, steady: float, sizing: Sizing | None) -> dict[str, Any]:
    """How near the design comes to its slowest node, which node holds it up, and how its queues were made so deep."""
    node, bound = budget.slowest_node(design.model)
    pace: dict[str, Any] = {"slowest_node": node, "bound": bound, "ratio": round(steady / bound, 4)}
    if sizing is None:
        return {**pace, "bottleneck": "not measured", "queues": "given or safe"}
    busy = sorted(sizing.busy.items(), key=lambda item: -item[1])[:5]
    return {
        **pace,
        "bottleneck": sizing.bottleneck or "not measured",
        "busiest": {name: round(share, 4) for name, share in busy},
        "queues": "measured" if sizing.is_finished else "measured until the time limit" if sizing.runs else "safe",
        "runs": sizing.runs,
    }


def measure_cycles(build_dir: Path, images: int = MEASURED_IMAGES, seed: int = 0) -> dict[str, float]:
    """Latency (first beat in to last beat out of one image), steady cycles per image, and those of all `images`."""
    with Simulation(build_dir) as simulation:
        io = simulation.manifest.io
        if io is None:
            raise ModelError(f"{build_dir}/manifest.json must describe the design's streams, got none.")
        random = np.random.default_rng(seed)
        batch = random.integers(0, 2 ** (io.input.bits - 1), (images, *io.input.shape))
        alone = simulation.infer(batch[:1])
        streamed = simulation.infer(batch)
        return {
            "latency": alone.latency_cycles(io.output.beats),
            "steady_per_image": streamed.steady_cycles(io.output.beats),
            "stream": int(streamed.out_cycles[-1] - streamed.in_cycles[0]) + 1,
        }


def versions() -> dict[str, str]:
    """Versions of the packages a build rests on."""
    result = {}
    for package in ("bitward", "torch", "brevitas", "finn-plus", "qonnx", "onnx", "verilator", "pyosys", "numpy"):
        try:
            result[package] = version(package)
        except PackageNotFoundError:
            result[package] = "not installed"
    return result
