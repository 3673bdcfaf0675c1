# SPDX-License-Identifier: Apache-2.0
"""Quantized U-Nets for hyperspectral scenes in RTL at the size of the papers' frames, and beside their DPU.

    bitward run flows/roads_unet_relu.yaml                    # and _sigmoid, _hardsigmoid: scenes of 32x64
    python benchmarks/segmentation_hardware.py relu sigmoid hardsigmoid large
    python benchmarks/segmentation_hardware.py --table

A U-Net is fully convolutional: the shipped weights, trained on scenes of 32x64 pixels, also take frames of 192x384. The
frame's design has the folding that the flow chose for the scene. Its queues hold rows of pixels, so those measured for
64 columns are taken 6 times for 384 columns; RTL shows whether that keeps the rate. The design is hardened as in the
flow; what it needs is estimated, and must fit a KV260. `large` is an untrained network of about as many parameters
and operations a frame as the papers' pruned one with ReLU (0.32 million, 8.41 billion): cycles do not depend on
weights. It is built plain, for scenes first.

Frames are drawn as the scenes are (synthetic). FPS are RTL cycles at an assumed clock of 200 MHz, not yet run on
hardware. A case that is done is kept in OUT/CASE.json (`--force` does it again).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from layers import built, say
from segmentation_hardware_tables import (
    ACTIVATIONS,
    CLK_MHZ,
    FRAME,
    LARGE,
    MODELS,
    Result,
    frame_table,
    scene_table,
    speed_table,
)

from bitward.datasets.synthetic_hsi_roads import road_scenes
from bitward.engine import HardwareEngine
from bitward.engine.graph import stream_ends
from bitward.errors import ConfigError
from bitward.flow.verify import equal_images, run_qonnx
from bitward.hardware.declare import BuildOptions
from bitward.hardware.fifos import LEAST, QUEUE
from bitward.hardware.simulate import Simulation, compile_model
from bitward.manifest import Manifest, apply_edge
from bitward.networks import find_network
from bitward.networks._unet import ROADS, WIDTHS, Shape, UNet
from bitward.rewrites import load_model, save_model
from bitward.tools import atomic_write, output_directory

LARGE_SHAPE = Shape(channels=(28, 32, 56, 80), bands=25, classes=6)
LARGE_CYCLES, LARGE_FIFO_LIMIT_S = 3_000_000, 600.0  # a frame; for its scenes' queues, whose images take long


@dataclass(frozen=True)
class Sizes:
    """Rows and columns of the scenes that a network was trained on, and of the frames."""

    scene: tuple[int, int] = (32, 64)
    frame: tuple[int, int] = FRAME

    @property
    def wider(self) -> int:
        """How many times as wide a frame is; ConfigError where that is no whole number."""
        columns, wanted = self.scene[1], self.frame[1]
        if wanted % columns:
            raise ConfigError(f"a frame must be a multiple of {columns} columns wide, got {wanted}: give other sizes.")
        return wanted // columns

    @property
    def larger(self) -> float:
        """How many times as many pixels a frame has."""
        return self.frame[0] * self.frame[1] / (self.scene[0] * self.scene[1])


def resized(model: Any, height: int, width: int) -> Any:
    """The same QONNX graph, fully convolutional, for images of that size; shapes in between are inferred anew."""
    from qonnx.transformation.infer_shapes import InferShapes

    source, target = model.graph.input[0].name, model.graph.output[0].name
    for name in (source, target):
        model.set_tensor_shape(name, [*model.get_tensor_shape(name)[:2], height, width])
    del model.graph.value_info[:]
    return model.transform(InferShapes())


def for_frames(folding: Mapping[str, Mapping[str, Any]], wider: int) -> dict[str, dict[str, Any]]:
    """A scene's folding for frames `wider` times as wide: queues that hold pixels are so many times as deep.

    Window generators choose their memories anew, as these hold rows too, and weights theirs, to leave blocks for them.

    >>> for_frames({"StreamingFIFO_rtl_3": {"depth": 33}, "MVAU": {"PE": 2}}, 6)
    {'StreamingFIFO_rtl_3': {'depth': 193}, 'MVAU': {'PE': 2}}
    """
    result = {name: dict(values) for name, values in folding.items()}
    for name, values in result.items():
        if name.startswith(QUEUE) and values["depth"] > LEAST:
            values["depth"] = wider * (values["depth"] - 1) + 1
        if name.startswith(("ConvolutionInputGenerator", "StoredMVAU")):
            values.pop("ram_style", None)
    return result


def wide_skips(shape: Shape) -> dict[str, dict[str, int]]:
    """A folding in which skip connections take all channels of a pixel in a beat: few, wide words suit UltraRAM."""
    levels = range(shape.levels)
    forks = {f"DuplicateStreams_rtl_{level}": {"PE": shape.channels[level]} for level in levels}
    return forks | {f"StreamingConcat_rtl_{n}": {"SIMD": shape.channels[-2 - n]} for n in levels}


def untrained(shape: Shape, size: tuple[int, int], path: Path) -> None:
    """A U-Net of that shape with random weights is at `path` as QONNX; scales of activations are from a few scenes."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Brevitas and the exporter warn of what does not concern these networks
        from bitward.networks._quantizers import STATISTICS_STEPS
        from bitward.train.export import to_qonnx

        torch.manual_seed(0)
        network = UNet(WIDTHS, torch.nn.ReLU, shape)
        images = torch.from_numpy(road_scenes(train=8, test=1).train_images[:, : shape.bands]).float()
        with torch.no_grad():
            for _ in range(STATISTICS_STEPS + 1):
                network.train()(images)
        described = replace(find_network("roads_unet_relu"), input_shape=(shape.bands, *size))
        save_model(to_qonnx(network, described), path)


def scene_of(case: str, arguments: argparse.Namespace) -> tuple[Path, dict[str, Any], BuildOptions]:
    """The case's QONNX for scenes, the record of its build, and the options for its frames. ConfigError: no such build.

    Scenes of trained networks are the flow's; those of the untrained one are built here.
    """
    folder = arguments.out / case
    if case == LARGE:
        model, cycles = folder / "scene.onnx", LARGE_CYCLES / Sizes().larger
        if not model.is_file():
            output_directory(folder)
            untrained(LARGE_SHAPE, Sizes().scene, model)
        plain = BuildOptions(protect="none", ram_style="auto", clk_mhz=CLK_MHZ)
        chosen = replace(
            plain, target_fps=CLK_MHZ * 1e6 / cycles, folding=wide_skips(LARGE_SHAPE), fifo_limit_s=LARGE_FIFO_LIMIT_S
        )
        return model, built(model, folder / "scene", chosen, arguments.force), plain
    record = arguments.runs / f"roads_unet_{case}" / "build" / "hardened" / "build.json"
    if not record.is_file():
        raise ConfigError(
            f"{arguments.runs} must hold the run of the flow, got no {record}: bitward run "
            f"flows/roads_unet_{case}.yaml first"
        )
    hardened = BuildOptions(protect="msb", bias="tmr", ram_style="auto", clk_mhz=CLK_MHZ)
    return MODELS / f"roads_unet_{case}.onnx", json.loads(record.read_text()), hardened


def frame_design(model: Path, scene: Mapping[str, Any], chosen: BuildOptions, folder: Path, sizes: Sizes,
                 force: bool) -> dict[str, Any]:  # fmt: skip
    """The frame's design is in `folder`/frame, with a Verilator model; the build's record. It fits the board."""
    path = output_directory(folder) / "frame.onnx"
    save_model(resized(load_model(model), *sizes.frame), path)
    options = replace(
        chosen, target_fps=scene["target_fps"] / sizes.larger, folding=for_frames(scene["folding"], sizes.wider),
        fifos="safe", simulate=False,
    )  # fmt: skip
    record = built(path, folder / "frame", options, force)
    rtl, sim = folder / "frame" / "rtl", output_directory(folder / "frame" / "sim")
    if not (sim / "libmodel.so").is_file():
        say(f"{folder.name}: compiling the frame's Verilator model")
        compile_model(rtl, (rtl / "files.f").read_text().split(), sim, sim / "compile.log")
    return record


def run(model: Path, build: Path, images: Any) -> Result:
    """Frames through QONNX, the RTL and the engine: how many are equal in every output; cycles from frame to frame."""
    expected = run_qonnx(model, images)
    with Simulation(build) as simulation:
        io = stream_ends(simulation.manifest)
        integers = apply_edge(io.pre, images).astype(np.int64)
        start = time.perf_counter()
        found = simulation.infer(integers)
        seconds = time.perf_counter() - start
        ends = found.out_cycles[io.output.beats - 1 :: io.output.beats].astype(np.int64)
        cycles = simulation.cycles
    modelled = HardwareEngine.load(build).infer(integers)
    return {
        "frames": len(images),
        "equal_qonnx": int(equal_images(found.outputs, expected, io.post).sum()),
        "equal_engine": int((modelled == found.outputs).reshape(len(images), -1).all(axis=1).sum()),
        "latency_cycles": found.latency_cycles(io.output.beats),
        "cycles_between_frames": np.diff(ends).tolist(),
        "simulated_cycles_per_s": round(cycles / seconds),
    }


def rtl_digest(build: Path) -> str:
    """sha256 of the RTL's text but for the design's number: designs of equal digests differ in memory contents alone.

    So they take the same cycles, as no node's timing depends on data.
    """
    rtl = build / "rtl"
    text = "".join((rtl / file).read_text() for file in (rtl / "files.f").read_text().split())
    return hashlib.sha256(re.sub(r"\.DesignId\(32'h[0-9a-f]{8}\)", "", text).encode()).hexdigest()


def queue_memory(build: Path) -> Result:
    """What queues take: bits of all, blocks of all, and each at a concatenation: depth, bits a beat, and blocks."""
    from qonnx.core.modelwrapper import ModelWrapper

    from bitward.hardware.estimates import estimate, total
    from bitward.hardware.fifos import queues

    graph = ModelWrapper(str(build / "hardware.onnx"))
    needed = {name: each for name, each in estimate(graph).items() if name.startswith(QUEUE)}
    found = queues(graph)
    skips = [
        {"queue": str(queue), "depth": queue.depth, "bits": queue.bits,
         **{kind: needed[queue.name][kind] for kind in ("bram36", "uram")}}
        for queue in found if queue.consumer.startswith("StreamingConcat")
    ]  # fmt: skip
    held = sum(queue.depth * queue.bits for queue in found)
    return {"bits": held, "estimated": total(needed), "at_concatenations": skips}


def operations(shape: Shape, size: tuple[int, int]) -> int:
    """Two for each multiplication of a frame: batch norms, biases and activations are thresholds here, and count
    nothing.
    """
    import torch
    from torch import nn

    from bitward.engine.pytorch.cost import cost

    with torch.device("meta"):
        return 2 * cost(UNet(None, nn.ReLU, shape), (shape.bands, *size)).macs


def measure(case: str, arguments: argparse.Namespace, sizes: Sizes) -> Result:
    """Everything about one case."""
    folder, shape = arguments.out / case, LARGE_SHAPE if case == LARGE else ROADS
    model, scene, chosen = scene_of(case, arguments)
    record = frame_design(model, scene, chosen, folder, sizes, arguments.force)
    say(f"{case}: {arguments.frames} frames of {sizes.frame[0]}x{sizes.frame[1]} through QONNX, RTL and the engine")
    images = road_scenes(*sizes.frame, train=1, test=arguments.frames).test_images
    return {
        "case": case,
        "size": sizes.frame,
        "channels": shape.channels,
        "parameters": sum(m.parameters for m in Manifest.load(folder / "frame" / "manifest.json").memories
                          if m.role == "weight"),
        "operations": operations(shape, sizes.frame),
        "protect": record["protect"],
        "bias": record["bias"],
        "scene_cycles": scene["cycles"]["steady_per_image"],
        "larger": sizes.larger,
        "estimated": record["estimated_resources"],
        "rtl_sha256": rtl_digest(folder / "frame"),
        "queues": queue_memory(folder / "frame"),
        "run": run(folder / "frame.onnx", folder / "frame", images),
    }  # fmt: skip


# ---- command line ---------------------------------------------------------------------------------------------------


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", choices=[*ACTIVATIONS, LARGE, []], help="what to measure; all by default")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the flows' runs lie")
    parser.add_argument("--out", type=Path, default=Path("runs/segmentation_hardware"))
    parser.add_argument("--frames", type=int, default=3, help="frames through the RTL, at least 2")
    parser.add_argument("--size", default="192x384", help="rows x columns of a frame")
    parser.add_argument("--force", action="store_true", help="do again what is done")
    parser.add_argument("--table", action="store_true", help="print the tables of what is done, and measure nothing")
    return parser.parse_args()


def sizes_of(text: str, frames: int) -> Sizes:
    """The sizes for frames given as "192x384". ConfigError for anything else, and for fewer than two frames."""
    if not re.fullmatch(r"\d+x\d+", text):
        raise ConfigError(f"--size must be rows x columns, got {text!r}: 192x384 is the papers'")
    if frames < 2:
        raise ConfigError(f"--frames must be at least 2 for a time between them, got {frames}: leave it out")
    rows, columns = map(int, text.split("x"))
    return Sizes(frame=(rows, columns))


def main() -> int:
    """Measures the cases; prints the tables. Exit code 1 where the command line makes no sense, or a run is missing."""
    arguments = parse()
    cases = arguments.cases or [*ACTIVATIONS, LARGE]
    try:
        sizes = sizes_of(arguments.size, arguments.frames)
        for case in [] if arguments.table else cases:
            done = arguments.out / f"{case}.json"
            if arguments.force or not done.is_file():
                result = measure(case, arguments, sizes)
                output_directory(arguments.out)
                atomic_write(done, json.dumps(result, indent=1) + "\n")
    except ConfigError as error:
        say(str(error))
        return 1
    tables(arguments)
    return 0


def tables(arguments: argparse.Namespace) -> None:
    """All that is done, printed."""
    summaries = {case: arguments.runs / f"roads_unet_{case}" / "summary.json" for case in ACTIVATIONS}
    found = {case: json.loads(path.read_text()) for case, path in summaries.items() if path.is_file()}
    kept = {case: arguments.out / f"{case}.json" for case in (*ACTIVATIONS, LARGE)}
    results = {case: json.loads(path.read_text()) for case, path in kept.items() if path.is_file()}
    for text in [scene_table(found)] * bool(found) + [frame_table(results), speed_table(results)] * bool(results):
        print(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
