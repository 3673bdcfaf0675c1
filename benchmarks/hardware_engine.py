# SPDX-License-Identifier: Apache-2.0
"""Single faults in the memories of a hardware graph: the integer engine's ways beside each other, on the same faults.

    python benchmarks/hardware_engine.py onnx_models/vgg_cifar.onnx --dataset cifar10 --data cifar10.tar.gz \\
        --faults 500 --images 64 --json runs/hardware_engine/vgg_cifar.json
    python benchmarks/hardware_engine.py runs/digits/build/hardened --dataset digits --json digits.json
    python benchmarks/hardware_engine.py --table digits.json ...

Faults are uniform over stored bits (or over layers first: --draw layers). "naive loop": inject, every node on every
image, restore. "prefix kept": inject, from the faulty node on, restore; images that equal the golden ones are dropped.
"outcomes": what campaigns use. All run in one process, on one thread, in turns of --turn faults; the outputs of every
image are compared with the naive loop's, fault by fault. Seconds are of the process (CPU) and of the clock; ratios are
those of CPU seconds, which other work on the machine disturbs less. Without --dataset images are random numbers, which
leave more images differing than pictures do. A MODEL is lowered first, without simulation (--protect, --bias).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from bitward.datasets import load_dataset
from bitward.engine.graph import stream_ends
from bitward.faults import Trial, fault_model
from bitward.manifest import apply_edge
from bitward.targets import Target
from bitward.targets.engine import EngineTarget
from bitward.tools import atomic_write, output_directory

WAYS = ("naive loop", "prefix kept", "outcomes")


@contextmanager
def build_of(arguments: argparse.Namespace) -> Iterator[Path]:
    """The folder of the hardware graph."""
    if arguments.model.is_dir():
        yield arguments.model
        return
    from bitward.hardware.build import build
    from bitward.hardware.declare import BuildOptions

    options = BuildOptions(protect=arguments.protect, bias=arguments.bias, target_fps=1000.0, simulate=False)
    with TemporaryDirectory(prefix="bitward-engine-") as work:
        build(arguments.model, Path(work) / "build", options)
        yield Path(work) / "build"


def pictures(target: Target, arguments: argparse.Namespace) -> Any:
    """Images as they are streamed: test images, or random numbers."""
    io = stream_ends(target.manifest)
    if arguments.dataset is None:
        low, high = (-1 << io.input.bits - 1, 1 << io.input.bits - 1) if io.input.signed else (0, 1 << io.input.bits)
        return np.random.default_rng(arguments.seed).integers(low, high, (arguments.images, *io.input.shape))
    taken = load_dataset(arguments.dataset, arguments.data).test_images[: arguments.images]
    return apply_edge(io.pre, taken).astype(np.int64)


def outputs_of(way: str, target: EngineTarget, images: Any, trials: Sequence[Trial]) -> Iterator[tuple[Any, str]]:
    """The outputs of each trial, and their path."""
    if way == "naive loop":
        for faults in trials:
            for fault in faults:
                target.inject(fault)
            yield target.engine.infer_whole(images), "full"
            for fault in faults:
                target.restore(fault)
        return
    found = target.outcomes(images, trials) if way == "outcomes" else Target.outcomes(target, images, trials)
    for outcome in found:
        yield outcome.outputs, outcome.path


def run(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All ways on the same faults, in turns."""
    with EngineTarget(folder) as target:
        images = pictures(target, arguments)
        model = fault_model(target.manifest, {"model": arguments.draw, "seed": arguments.seed})
        trials = [model.trial(number) for number in range(arguments.faults)]
        golden = target.infer(images)
        list(target.outcomes(images, trials[:2]))  # tables
        cpu, wall, counted = (dict.fromkeys(WAYS, 0.0) for _ in range(3))
        differing, changing, paths = dict.fromkeys(WAYS, 0), 0, Counter[str]()
        for start in range(0, len(trials), arguments.turn):
            part = trials[start : start + arguments.turn]
            expected: list[Any] = []
            for way in WAYS:
                some = part if way == "outcomes" else part[: max(1, arguments.slow_share * len(part) // 100)]
                began, began_cpu = time.perf_counter(), time.process_time()
                found = list(outputs_of(way, target, images, some))
                wall[way] += time.perf_counter() - began
                cpu[way] += time.process_time() - began_cpu
                counted[way] += len(some)
                expected = expected or [outputs for outputs, _ in found]
                pairs = zip(expected, found, strict=False)
                differing[way] += sum(not np.array_equal(want, got) for want, (got, _) in pairs)
                paths.update(path for _, path in found if way == "outcomes")
            changing += sum(not np.array_equal(golden, outputs) for outputs in expected)
            print(f"{start + len(part)} of {len(trials)} faults", file=sys.stderr, flush=True)
    seconds = {way: cpu[way] / counted[way] for way in WAYS}
    return {
        "design": target_name(folder), "draw": arguments.draw, "faults": len(trials), "images": len(images),
        "pictures": arguments.dataset or "random", "seconds_a_fault": seconds,
        "clock_seconds_a_fault": {way: wall[way] / counted[way] for way in WAYS}, "counted": counted,
        "factor": {way: seconds[WAYS[0]] / seconds[way] for way in WAYS}, "paths": dict(paths),
        "faults_with_other_outputs": differing, "compared_faults_that_change_an_output": changing,
    }  # fmt: skip


def target_name(folder: Path) -> str:
    """The design and its protection."""
    record = json.loads((folder / "build.json").read_text())
    design = json.loads((folder / "manifest.json").read_text())["design"]
    return f"{design}, protect {record['protect']}, bias {record['bias']}"


def table(results: Sequence[dict[str, Any]]) -> None:
    """A line a result."""
    print("| design | faults, images | naive loop, ms a fault | prefix kept | outcomes | masked without computing |")
    print("|---|---|---|---|---|---|")
    for each in results:
        cells = [f"{each['factor'][way]:.3g}x, {each['faults_with_other_outputs'][way]} differ" for way in WAYS[1:]]
        masked = each["paths"].get("masked", 0) / each["faults"]
        print(
            f"| {each['design']} ({each['pictures']}, {each['draw']}) | {each['faults']}, {each['images']} | "
            f"{1000 * each['seconds_a_fault'][WAYS[0]]:.1f} | {' | '.join(cells)} | {masked:.0%} |"
        )


def main() -> int:
    """Runs a case, or prints the table of cases that ran."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path, help="a folder that build wrote, or a QONNX model")
    parser.add_argument("--protect", default="none", help="of a model: none, msb, tmr or secded")
    parser.add_argument("--bias", default="none", help="of a model: none or tmr")
    parser.add_argument("--draw", choices=("uniform", "layers"), default="uniform")
    parser.add_argument("--faults", type=int, default=500)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--turn", type=int, default=100, help="faults a turn")
    parser.add_argument("--slow-share", type=int, default=100, help="per cent of them that the slow ways run")
    parser.add_argument("--dataset", help="whose test images are used (default: random numbers)")
    parser.add_argument("--data", type=Path, help="where its pictures are")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, default=Path("runs/hardware_engine.json"))
    parser.add_argument("--table", type=Path, nargs="*", help="print the table of these results")
    arguments = parser.parse_args()
    if arguments.table:
        table([json.loads(path.read_text()) for path in arguments.table])
        return 0
    if arguments.model is None:
        parser.error("a model or a folder must be named")
    output_directory(arguments.json.parent)
    with threadpool_limits(1), build_of(arguments) as folder:
        result = run(arguments, folder)
    atomic_write(arguments.json, json.dumps(result, indent=1) + "\n")
    table([result])
    return 0


if __name__ == "__main__":
    sys.exit(main())
