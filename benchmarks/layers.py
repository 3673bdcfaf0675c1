# SPDX-License-Identifier: Apache-2.0
"""Every network of `onnx_models/` as RTL: equality with QONNX, cycles against their bound, cost of hardening, speed.

    python benchmarks/layers.py vgg_cifar resnet8_cifar --data cifar10.tar.gz --out runs/layers
    python benchmarks/layers.py --table --out runs/layers

Each network is built plain and hardened (MSB voters, biases in triplicated thresholds) at `--cycles` an image, and
plain twice more: at `--slow-cycles`, and with every queue two beats deep; what is done already is kept (`--force` does
it again). With `--costs` its RTL is synthesised with weights stored plain, with MSB voters, in full TMR and as SEC-DED
rows, and with bias-TMR in both forms. Results lie in OUT/NETWORK.json; the tables are printed from them. The second one
is FORTUNE's question in silicon: 8 bits plain, or 4 and 3 bits with the top bit in triplicate.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from bitward.datasets import load_dataset
from bitward.engine import HardwareEngine
from bitward.engine.graph import stream_ends
from bitward.errors import BitwardError
from bitward.flow.cache import code_digest
from bitward.flow.verify import equal_images, run_qonnx
from bitward.hardware.build import build
from bitward.hardware.declare import BuildOptions
from bitward.hardware.dsp_branch import compare_branches, shapes_of
from bitward.hardware.fifos import LEAST, QUEUE
from bitward.hardware.resources import built_in_ecc, compare, resources
from bitward.hardware.simulate import Simulation
from bitward.manifest import Manifest, apply_edge
from bitward.networks import find_network
from bitward.tools import atomic_write, output_directory

MODELS = Path(__file__).resolve().parents[1] / "onnx_models"
CLK_MHZ = 200.0
STALL, STALLED = 0.3, 25  # share of cycles in which either side idles, and images run so
SIDES: dict[str, dict[str, Any]] = {
    "plain": {"protect": "none"},
    "hardened": {"protect": "msb", "bias": "tmr", "bias_as": "threshold"},
}


def options(side: str, cycles: int) -> BuildOptions:
    """What a side is built with, at that many cycles an image."""
    return BuildOptions(**SIDES[side], target_fps=CLK_MHZ * 1e6 / cycles, clk_mhz=CLK_MHZ)


def built(model: Path, folder: Path, chosen: BuildOptions, force: bool) -> dict[str, Any]:
    """The build's record; built unless it is there, from the same model, options and code."""
    key = json.dumps([hashlib.sha256(model.read_bytes()).hexdigest(), asdict(chosen), code_digest()])
    kept = folder.with_name(f"{folder.name}.key")
    if force or not (folder / "build.json").is_file() or not kept.is_file() or kept.read_text() != key:
        build(model, folder, chosen, name=model.stem, progress=lambda step: say(f"  {folder.name}: {step}"))
        atomic_write(kept, key)
    record: dict[str, Any] = json.loads((folder / "build.json").read_text())
    return record


def run(folder: Path, images: Any, expected: Any) -> dict[str, Any]:
    """Images through the RTL without and with stalls, beside QONNX and the engine; cycles an image and a second."""
    with Simulation(folder) as simulation:
        io = stream_ends(simulation.manifest)
        integers = apply_edge(io.pre, images).astype(np.int64)
        start = time.perf_counter()
        smooth = simulation.infer(integers)
        seconds = time.perf_counter() - start
        cycles = simulation.cycles
        stalled = simulation.infer(integers[:STALLED], STALL, STALL, seed=1)
        modelled = HardwareEngine.load(folder).infer(integers)
        return {
            "images": len(images),
            "equal_qonnx": int(equal_images(smooth.outputs, expected, io.post).sum()),
            "stalled_images": len(stalled.outputs),
            "equal_with_stalls": int(same(stalled.outputs, smooth.outputs[:STALLED]).sum()),
            "equal_engine": int(same(modelled, smooth.outputs).sum()),
            "steady_cycles": smooth.steady_cycles(io.output.beats),
            "simulated_cycles_per_s": round(cycles / seconds),
        }


def same(left: Any, right: Any) -> Any:
    """Per image: is every output equal?"""
    return (left == right).reshape(len(left), -1).all(axis=1)


def dsp_branches(folder: Path) -> dict[str, int]:
    """Shapes of matrix units compared with their DSP branch, results compared and results different."""
    found = []
    shapes = shapes_of(folder)
    for shape in shapes:
        with TemporaryDirectory(prefix="bitward-dsp-") as work:
            found.append(compare_branches(shape, Path(work)))
    return {
        "shapes": len(shapes),
        "compared": sum(twins.compared for twins in found),
        "different": sum(twins.different for twins in found),
    }


def measure(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything about one network."""
    network, model, folder = find_network(name), MODELS / f"{name}.onnx", arguments.out / name
    images = load_dataset(network.dataset, arguments.data).test_images[: arguments.images]
    say(f"{name}: QONNX on {len(images)} images")
    expected = run_qonnx(model, images)
    accuracy = float(re.search(r"of this file \| ([\d.]+)%", model.with_suffix(".md").read_text())[1]) / 100
    result: dict[str, Any] = {"network": name, "title": network.title, "accuracy": accuracy}
    folding: dict[str, Any] = {}
    for side in SIDES:  # the hardened one takes the folding and the queues of the plain one
        chosen = replace(options(side, arguments.cycles), folding=folding)
        record = built(model, folder / side, chosen, arguments.force)
        folding = record["folding"]
        say(f"{name}: {side} in RTL")
        found = run(folder / side, images, expected)
        result[side] = {"build": record, "run": found, "memory_bits": bits(folder / side)}
    if arguments.slow_cycles:
        chosen = replace(options("plain", arguments.slow_cycles), fifos="safe")
        record = built(model, folder / "slow", chosen, arguments.force)
        result["slow"] = {"build": record}
    result["shallow"] = shallow(model, folder, folding, arguments)
    result["dsp"] = optional(lambda: dsp_branches(folder / "plain"), arguments.dsp)
    result["costs"] = optional(lambda: costs(model, folder, result["plain"]["build"], arguments), arguments.costs)
    return result


def shallow(model: Path, folder: Path, folding: dict[str, Any], arguments: argparse.Namespace) -> Any:
    """Cycles of the plain design with every queue as shallow as can be; or why it stops."""
    least = {name: {**values, "depth": LEAST} if name.startswith(QUEUE) else values for name, values in folding.items()}
    chosen = replace(options("plain", arguments.cycles), folding=least)
    try:
        return built(model, folder / "shallow", chosen, arguments.force)["cycles"]
    except BitwardError as error:
        return str(error)


def costs(model: Path, folder: Path, plain: dict[str, Any], arguments: argparse.Namespace) -> dict[str, Any]:
    """Yosys' counts of the plain design under other protections of its weights, and under bias-TMR in both forms."""
    say(f"{model.stem}: synthesis of four protections of weights")
    found = compare(folder / "plain")
    units = found["MSB voter"]["instances"].values()
    result: dict[str, Any] = {name: counts["total"] for name, counts in found.items()}
    result["voter_lut"] = sum(unit["voter"]["lut"] for unit in units if unit["voter"])
    result["built_in_ecc"] = built_in_ecc(Manifest.load(folder / "plain" / "manifest.json"))
    for form in ("threshold", "add"):
        # Where biases are added there are other nodes, and queues between them: those are as deep as is safe.
        folding = {n: v for n, v in plain["folding"].items() if form == "threshold" or not n.startswith(QUEUE)}
        chosen = replace(options("plain", arguments.cycles), bias="tmr", bias_as=form, folding=folding, simulate=False)
        say(f"{model.stem}: synthesis of bias-TMR, form {form}")
        try:
            built(model, folder / f"bias-{form}", chosen, arguments.force)
            result[f"bias-TMR, {form}"] = resources(folder / f"bias-{form}")["total"]
        except BitwardError as error:
            result[f"bias-TMR, {form}"] = str(error)
    return result


def optional(work: Callable[[], Any], wanted: bool) -> Any:
    """What `work` gives; "not measured" where it was not asked for."""
    return work() if wanted else "not measured"


def bits(folder: Path) -> dict[str, int]:
    """Stored bits by role."""
    memories = Manifest.load(folder / "manifest.json").memories
    return {role: sum(m.population for m in memories if m.role == role) for role in {m.role for m in memories}}


def say(text: str) -> None:
    """A line of progress."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", help="names in onnx_models/ (default: all)")
    parser.add_argument("--data", type=Path, help="pictures of the datasets that are not made here")
    parser.add_argument("--out", type=Path, default=Path("runs/layers"))
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--cycles", type=int, default=40_000, help="cycles an image that the fold aims at")
    parser.add_argument("--slow-cycles", type=int, default=200_000, help="and of the slow fold; 0: none")
    parser.add_argument("--costs", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--dsp", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--force", action="store_true", help="do again what is done")
    parser.add_argument("--table", action="store_true", help="print the table of what is done, and measure nothing")
    return parser.parse_args()


def main() -> int:
    """Measures the networks named; prints the table. Exit code 1 where one failed."""
    arguments = parse()
    names = arguments.networks or sorted(path.stem for path in MODELS.glob("*.onnx"))
    failed = 0
    for name in [] if arguments.table else names:
        done = arguments.out / f"{name}.json"
        if done.is_file() and not arguments.force:
            continue
        try:
            result = measure(name, arguments)
        except BitwardError as error:
            say(f"{name}: {error}")
            failed = 1
            continue
        output_directory(arguments.out)
        atomic_write(done, json.dumps(result, indent=1) + "\n")
    kept = {name: arguments.out / f"{name}.json" for name in names}
    results = {name: json.loads(path.read_text()) for name, path in kept.items() if path.is_file()}
    table(list(results.values()))
    fortune(results)
    return failed


def table(results: list[dict[str, Any]]) -> None:
    """One column a network."""
    columns = [dict(rows(result)) for result in results]
    names = list(dict.fromkeys(name for column in columns for name in column))
    print("| | " + " | ".join(f"`{result['network']}`" for result in results) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for name in names:
        print(f"| {name} | " + " | ".join(column.get(name, "") for column in columns) + " |")


def rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """(figure, value) of one network."""
    sides = {side: result[side] for side in SIDES}
    runs = {side: found["run"] for side, found in sides.items()}
    images = runs["plain"]["images"]

    def pair(of: Callable[[dict[str, Any]], Any]) -> str:
        return " / ".join(f"{value:,g}" if isinstance(value := of(found), (int, float)) else str(value)
                          for found in sides.values())  # fmt: skip

    return [
        ("accuracy on all test images, by the model's card", f"{result['accuracy']:.2%}"),
        (f"of {images} images, RTL = QONNX", pair(lambda s: s["run"]["equal_qonnx"])),
        ("RTL = engine", pair(lambda s: s["run"]["equal_engine"])),
        (f"of {runs['plain']['stalled_images']} images, RTL with random stalls = without",
         pair(lambda s: s["run"]["equal_with_stalls"])),
        ("steady cycles an image", pair(lambda s: s["run"]["steady_cycles"])),
        ("slowest node's bound", pair(lambda s: s["build"]["pace"]["bound"])),
        ("steady / bound", pair(lambda s: round(s["run"]["steady_cycles"] / s["build"]["pace"]["bound"], 3))),
        *slow_rows(result),
        ("all queues 2 deep: steady cycles", shallow_text(result["shallow"])),
        ("latency in cycles", pair(lambda s: s["build"]["cycles"]["latency"])),
        ("stored bits, weights", pair(lambda s: s["memory_bits"].get("weight", 0))),
        ("stored bits, thresholds and biases",
         pair(lambda s: s["memory_bits"].get("threshold", 0) + s["memory_bits"].get("bias", 0))),
        *cost_rows(result),
        ("DSP branch = behavioural branch", dsp_text(result["dsp"])),
        ("node that sets the pace", pair(lambda s: s["build"]["pace"]["bottleneck"])),
        ("Verilator and compiler, s", pair(lambda s: round(s["build"]["compile_s"], 1))),
        ("simulated cycles a second", pair(lambda s: s["run"]["simulated_cycles_per_s"])),
    ]  # fmt: skip


def slow_rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """The slow fold's cycles."""
    if "slow" not in result:
        return []
    build = result["slow"]["build"]
    steady, bound = build["cycles"]["steady_per_image"], build["pace"]["bound"]
    return [("slow fold: steady cycles, bound, ratio", f"{steady:,g}, {bound:,g}, {steady / bound:.3f}")]


def shallow_text(found: Any) -> str:
    """Cycles an image, or the skip edge at which the design stops."""
    if isinstance(found, dict):
        return f"{found['steady_per_image']:,g}"
    edge = re.search(r"skip edge that it lies on begins at (\S+?):", found)
    return f"stops: the skip edge from {edge[1]}" if edge else found


COUNTS = (("LUT", "lut"), ("FF", "ff"), ("BRAM36", "bram36"), ("DSP", "dsp"), ("levels", "levels"))


def cost_rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """What protections take."""
    found = result["costs"]
    if not isinstance(found, dict):
        return [("costs", str(found))]
    names = [name for name in found if isinstance(found[name], (str, dict)) and name != "built_in_ecc"]
    header = "/".join(label for label, _ in COUNTS)
    lanes = sum(node["PE"] * node["SIMD"] for name, node in result["plain"]["build"]["folding"].items()
                if name.startswith(("StoredMVAU", "StoredVVAU")))  # fmt: skip
    ecc = found["built_in_ecc"]
    return [
        *[(f"{header}: {name}", cost_text(found[name])) for name in names],
        ("LUT a voted bit (MSB voter)", f"{found['voter_lut'] / lanes:g}"),
        ("block RAM's own SEC-DED, computed", f"{ecc['bram36']:g} blocks, {ecc['overhead']:.1%} more bits"),
    ]


FORTUNE = (("8 bits, plain", "vgg_cifar_w8", "plain", "plain"), ("P-4", "vgg_cifar", "hardened", "MSB voter"),
           ("P-3", "vgg_cifar_w3", "hardened", "MSB voter"))  # fmt: skip


def fortune(results: dict[str, dict[str, Any]]) -> None:
    """Bits and blocks of the same network with 8-bit weights, and with fewer of which the top one is in triplicate."""
    if not all(isinstance(results.get(name, {}).get("costs"), dict) for _, name, _, _ in FORTUNE):
        return
    print(
        "\n| weights | accuracy | stored bits | BRAM36 | LUT | FF | DSP | levels | cycles an image | FPS at 200 MHz |"
    )
    print("|---" * 10 + "|")
    for title, name, side, protection in FORTUNE:
        result = results[name]
        counts, cycles = result["costs"][protection], result[side]["run"]["steady_cycles"]
        figures = " | ".join(f"{counts[key]:,g}" for key in ("bram36", "lut", "ff", "dsp", "levels"))
        stored = result[side]["memory_bits"]["weight"]
        print(f"| {title} (`{name}`) | {result['accuracy']:.2%} | {stored:,} | {figures} | {cycles:,g} | "
              f"{CLK_MHZ * 1e6 / cycles:,.0f} |")  # fmt: skip


def cost_text(counts: Any) -> str:
    """The counts in the header's order, or why there are none."""
    return " / ".join(f"{counts[key]:g}" for _, key in COUNTS) if isinstance(counts, dict) else str(counts)


def dsp_text(found: Any) -> str:
    """In how many results of how many shapes the two branches were equal."""
    if not isinstance(found, dict):
        return str(found)
    return f"{found['compared'] - found['different']:,} of {found['compared']:,}, {found['shapes']} shapes"


if __name__ == "__main__":
    sys.exit(main())
