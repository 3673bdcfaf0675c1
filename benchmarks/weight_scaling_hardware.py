# SPDX-License-Identifier: Apache-2.0
"""Weight scaling in hardware: the same network with weights at a fixed scale ("Q2.5") and scaled, both as RTL.

    python benchmarks/weight_scaling_hardware.py onnx_models/vgg_cifar_w8.onnx --dataset cifar10 --data CIFAR10 \\
        --out runs/ws/hardware
    python benchmarks/weight_scaling_hardware.py --table runs/ws/hardware/result.json

A symmetric integer whose scale is the layer's largest weight over 2^(b-1) - 1 *is* a scaled weight: the model as it is.
"fixed" has 2^-6 in every layer instead, the paper's Q2.5 where weights have 8 bits. Both are built for the same rate:
cycles, and RTL against QONNX on --images images. Then stored bits of weights flip at each --ber, --trials times, on
--judged test images in the integer engine; the first --agree trials of the highest rate also run on the RTL and on the
virtual board (simulated), and must give the same outputs. What is there already is not made again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from bitward.campaign import Campaign, TrialStore, run_campaign
from bitward.campaign.progress import showing
from bitward.datasets import load_dataset
from bitward.engine.graph import stream_ends
from bitward.engine.images import load_images
from bitward.errors import BitwardError
from bitward.faults import Ber
from bitward.flow.attack import On, Place
from bitward.flow.verify import run_qonnx, verify_build
from bitward.hardware.build import build
from bitward.hardware.declare import BuildOptions
from bitward.manifest import Manifest, apply_edge
from bitward.rewrites import FixedScale, FoldNegativeScales, load_model, save_model
from bitward.rewrites.harden import prepare
from bitward.statistics import student
from bitward.tools import atomic_write, output_directory

Q2_5_SCALE = 2.0**-6
VARIANTS = ("fixed", "scaled")


def variants(model: Path, out: Path) -> dict[str, Path]:
    """The files of both networks."""
    scaled, again = (prepare(load_model(model)).transform(FoldNegativeScales()) for _ in VARIANTS)  # signs first
    paths = {name: output_directory(out) / f"{name}.onnx" for name in VARIANTS}
    save_model(scaled, paths["scaled"])
    save_model(again.transform(FixedScale(Q2_5_SCALE)), paths["fixed"])
    return paths


def built(path: Path, given: argparse.Namespace, console: Console) -> Path:
    """The build of a variant, with a folding of its own."""
    folder = given.out / f"build-{path.stem}"
    if not (folder / "build.json").is_file():
        with console.status(f"build {path.stem}"):
            build(path, folder, BuildOptions("none", target_fps=given.target_fps))
    return folder


def streamed(manifest: Manifest, images: np.ndarray) -> np.ndarray:
    """Images as the hardware takes them."""
    return np.asarray(apply_edge(stream_ends(manifest).pre, images).astype(np.int64))


def attacked(folder: Path, ber: float, on: On, trials: int, given: argparse.Namespace, console: Console) -> Any:
    """The table of a campaign on the weights of a build."""
    manifest = Manifest.load(folder / "manifest.json")
    data, count = load_dataset(given.dataset, given.data), given.judged if on == "engine" else given.shown
    weights = tuple(memory.name for memory in manifest.memories if memory.role == "weight")
    model = Ber(manifest, given.seed, memories=weights, ber=ber)
    images, labels = streamed(manifest, data.test_images[:count]), data.test_labels[:count]
    told = {"build": json.loads((folder / "build.json").read_text()).get("git"), "design": manifest.design_id}
    golden = load_images(folder / "memories.npz")
    campaign = Campaign(on, manifest, golden, model, images, labels, parameters=told, trials=trials)
    store_folder = given.out / "campaigns" / f"{folder.name}-{ber:g}-{on}-{count}-{trials}-{manifest.design_id:08x}"
    with (
        TrialStore.open(store_folder, campaign.spec()) as store,
        showing(console, f"{folder.name} {ber:g} {on}") as bar,
    ):
        run_campaign(campaign, partial(Place(on, folder).target), store, progress=bar)
    return TrialStore.load(store_folder).read()


def lost(folder: Path, ber: float, given: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Points of accuracy lost at a rate, mean and deviation over fault sets."""
    table = attacked(folder, ber, "engine", given.trials, given, console)
    right = np.array(table["top1_correct"].to_pylist()) / given.judged
    found = student(right)
    return {
        "mean": found.estimate, "low": found.low, "high": found.high, "deviation": float(right.std(ddof=1)),
        "flips": float(np.mean(table["flips"].to_pylist())), "trials": len(table),
    }  # fmt: skip


def agreeing(folder: Path, ber: float, given: argparse.Namespace, console: Console) -> list[int]:
    """(equal, compared) fault sets on engine, RTL and virtual board."""
    places: tuple[On, ...] = ("engine", "rtl", "board")
    shown = argparse.Namespace(**{**vars(given), "judged": given.shown})
    tables = [attacked(folder, ber, on, given.agree, shown, console) for on in places]
    digests = [table.sort_by("trial")["outputs_sha256"].to_pylist() for table in tables]
    return [sum(len(set(each)) == 1 for each in zip(*digests, strict=True)), given.agree]


def measured(path: Path, given: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Everything of a variant."""
    folder = built(path, given, console)
    data = load_dataset(given.dataset, given.data)
    images = data.test_images[: given.images]
    with console.status(f"verify {path.stem}"):
        equal = verify_build(folder, images, run_qonnx(path, images), 0.3)
    record = json.loads((folder / "build.json").read_text())
    return {
        "cycles": record["cycles"]["steady_per_image"], "latency": record["cycles"]["latency"],
        "equal": [equal["equal"], equal["equal_with_stalls"], len(images)],
        "golden": _accuracy(folder, data.test_images[: given.judged], data.test_labels[: given.judged]),
        "resources": record["estimated_resources"],
        "lost": {f"{ber:g}": lost(folder, ber, given, console) for ber in given.ber},
        "agree": agreeing(folder, max(given.ber), given, console),
    }  # fmt: skip


def _accuracy(folder: Path, images: np.ndarray, labels: np.ndarray) -> float:
    from bitward.engine import HardwareEngine

    engine = HardwareEngine.load(folder)
    manifest = Manifest.load(folder / "manifest.json")
    post = stream_ends(manifest)
    found = apply_edge(post.post, engine.infer(streamed(manifest, images)))
    return float(np.mean(found.argmax(axis=1) == labels))


def table(result: dict[str, Any]) -> str:
    """Markdown."""
    rates = list(next(iter(result["variants"].values()))["lost"])
    head = ["weights", "cycles an image", "RTL = QONNX, with stalls", "without faults",
            *(f"at {rate}" for rate in rates), "engine = RTL = board"]  # fmt: skip
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name, found in result["variants"].items():
        equal, agree = found["equal"], found["agree"]
        cells = [
            {"fixed": "fixed, 2^-6 (Q2.5)", "scaled": "scaled by layer"}[name], f"{found['cycles']:,.0f}",
            f"{equal[0]}, {equal[1]} of {equal[2]}", f"{100 * found['golden']:.2f}",
            *(f"{100 * each['mean']:.2f} ± {100 * each['deviation']:.2f} ({each['flips']:,.0f} flips)"
              for each in found["lost"].values()),
            f"{agree[0]} of {agree[1]}",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/ws/hardware"))
    parser.add_argument("--target-fps", type=float, default=5000.0)
    parser.add_argument("--images", type=int, default=100, help="of RTL against QONNX")
    parser.add_argument("--judged", type=int, default=256, help="test images of a trial on the engine")
    parser.add_argument("--shown", type=int, default=4, help="test images of a trial on RTL and board")
    parser.add_argument("--ber", type=float, nargs="+", default=[1e-4, 1e-3])
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--agree", type=int, default=10, help="trials that engine, RTL and board are compared on")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--table", type=Path, metavar="FILE", help="print what was measured")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints; 1 where RTL, QONNX, engine or board differ, or it cannot be done."""
    given = parsed(arguments)
    if given.table is not None:
        print(table(json.loads(given.table.read_text())))
        return 0
    if given.model is None:
        print("a model must be given, or --table FILE", file=sys.stderr)
        return 2
    console = Console(stderr=True)
    try:
        paths = variants(given.model, given.out)
        found = {name: measured(path, given, console) for name, path in paths.items()}
    except BitwardError as error:
        print(error, file=sys.stderr)
        return 1
    result = {"model": given.model.name, "variants": found}
    atomic_write(given.out / "result.json", json.dumps(result, indent=1) + "\n")
    print(table(result))
    same = all(each["equal"][0] == each["equal"][1] == each["equal"][2] for each in found.values())
    return 0 if same and all(each["agree"][0] == each["agree"][1] for each in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
