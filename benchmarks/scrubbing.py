# SPDX-License-Identifier: Apache-2.0
"""Upsets that accumulate, with and without scrubbing: accuracy over time, counts, and a sample of it replayed on RTL.

    python benchmarks/scrubbing.py BUILD ... --out runs/scrubbing [--rate 2e-3] [--steps 60] [--replay rtl]

Each BUILD is a folder that `bitward build` left; its name is the series' name. Upsets arrive at --rate per stored bit
and hour (a Poisson process, every live stored bit of every memory equally likely), far more often than in any orbit:
what counts is upsets per stored bit between two passes. After each step of --step hours, accuracy on --images test
images is taken, then (with scrubbing) every --every steps a pass is made. A life is repeated with --seeds seeds; with
and without scrubbing, a seed has the same upsets at the same times. A build without redundancy has no scrubbing.

The long series run on the engine. --replay runs the first --replay-steps steps of one seed also on the RTL or on the
virtual board, on --replay-images images: outputs, counts and bits left must be equal at every step, or it fails. OUT
holds scrubbing.csv (a row a step), scrubbing.json (the table and what was asked for), and scrubbing.png.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import numpy as np
from bitward_runtime.scrub import has_redundancy
from bitward_runtime.upsets import Exposure, Moment, expose
from scipy import stats

from bitward.datasets import load_dataset
from bitward.errors import BitwardError, ConfigError
from bitward.flow.attack import Place
from bitward.manifest import Manifest, apply_edge
from bitward.metrics import top1_accuracy
from bitward.tools import atomic_write, output_directory

CONFIDENCE = 0.95
Array = np.ndarray


@dataclass(frozen=True)
class Row:
    """A line of the CSV: `detected` words are counted again in each pass that finds them."""

    build: str
    scrubbed: bool
    seed: int
    hour: float
    upsets: int
    passes: int
    corrected: int
    detected: int
    bits: int
    left: int
    accuracy: float


def series(build: Path, exposure: Exposure, images: Array, labels: Array, seeds: int) -> Iterator[Row]:
    """Every life of a build on the engine, with scrubbing where it has redundancy, and without."""
    with Place("engine", build).target() as target:
        io = streams_of(target.manifest)
        streamed = apply_edge(io.pre, images).astype(np.int64)
        can = any(has_redundancy(memory) for memory in target.manifest.memories)
        for scrubs in (False, True)[: 1 + can]:
            for seed in range(seeds):
                for moment in expose(target, streamed, exposure if scrubs else replace(exposure, every=None), seed):
                    found = {name: value for name, value in vars(moment).items() if name != "outputs"}
                    scores = apply_edge(io.post, moment.outputs).reshape(len(labels), -1)
                    yield Row(build.name, scrubs, seed, accuracy=top1_accuracy(scores, labels), **found)


def replay(build: Path, on: str, exposure: Exposure, images: Array, seed: int = 0) -> int:
    """How many steps the engine and the target `on` lived through alike; ConfigError at the first that differs."""
    with Place("engine", build).target() as engine, Place(on, build).target() as other:  # type: ignore[arg-type]
        streamed = apply_edge(streams_of(engine.manifest).pre, images).astype(np.int64)
        lives = (expose(target, streamed, exposure, seed) for target in (engine, other))
        equal = 0
        for ours, theirs in zip(*lives, strict=True):
            different = [each.name for each in fields(Moment) if not is_equal(ours, theirs, each.name)]
            if different:
                raise ConfigError(
                    f"{build} must live alike on engine and {on}, got other {', '.join(different)} at {ours.hour:g} h: "
                    "compare them by bitward inject"
                )
            equal += 1
    return equal


def is_equal(ours: Moment, theirs: Moment, name: str) -> bool:
    """Whether a field of two moments is the same."""
    return bool(np.array_equal(getattr(ours, name), getattr(theirs, name)))


def streams_of(manifest: Manifest) -> Any:
    """The design's streams; ConfigError where there are none."""
    if manifest.io is None:
        raise ConfigError(f"design {manifest.design} must be a build with streams, got a software-only manifest")
    return manifest.io


# -- what is shown -----------------------------------------------------------------------------------------------------


def mean_and_half(values: Sequence[float]) -> tuple[float, float]:
    """The mean over seeds and the half-width of its interval by Student's t; infinite for one seed."""
    if len(values) < 2:
        return float(np.mean(values)), math.inf
    spread = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return float(np.mean(values)), float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * spread


def summary(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """A line for each build and way: means over seeds at the end, accuracy with its interval."""
    lines = []
    last = max(row.hour for row in rows)
    for build, scrubbed in dict.fromkeys((row.build, row.scrubbed) for row in rows):
        ends = [row for row in rows if (row.build, row.scrubbed) == (build, scrubbed) and row.hour == last]
        accuracy, half = mean_and_half([row.accuracy for row in ends])
        sums = {name: float(np.mean([getattr(row, name) for row in ends])) for name in
                ("upsets", "corrected", "bits", "left", "detected")}  # fmt: skip
        lines.append({"build": build, "scrubbed": scrubbed, "lives": len(ends), "hours": last, **sums,
                      "accuracy": accuracy, "accuracy_half": half})  # fmt: skip
    return lines


def table(lines: Sequence[dict[str, Any]]) -> str:
    """The summary as a Markdown table."""
    text = ["| build | scrubbing | upsets | words corrected | bits inverted back | bits wrong at the end | accuracy |",
            "|---|---|---|---|---|---|---|"]  # fmt: skip
    for line in lines:
        way = "every period" if line["scrubbed"] else "none"
        sums = " | ".join(f"{line[name]:.1f}" for name in ("upsets", "corrected", "bits", "left"))
        accuracy = f"{line['accuracy']:.2%} +- {100 * line['accuracy_half']:.2f} points"
        text.append(f"| {line['build']} | {way} | {sums} | {accuracy} |")
    return "\n".join(text)


def plot(rows: Sequence[Row], exposure: Exposure) -> bytes:
    """Accuracy over time as a PNG: means over seeds with their intervals, dashed without scrubbing."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    builds = list(dict.fromkeys(row.build for row in rows))
    for build, scrubbed in dict.fromkeys((row.build, row.scrubbed) for row in rows):
        chosen = [row for row in rows if (row.build, row.scrubbed) == (build, scrubbed)]
        hours = sorted({row.hour for row in chosen})
        found = [mean_and_half([row.accuracy for row in chosen if row.hour == hour]) for hour in hours]
        means, halves = np.array(found).T
        colour, label = f"C{builds.index(build)}", f"{build}, {'scrubbed' if scrubbed else 'not scrubbed'}"
        axes.plot(hours, 100 * means, "-" if scrubbed else "--", color=colour, label=label)
        if np.isfinite(halves).all():
            axes.fill_between(hours, 100 * (means - halves), 100 * (means + halves), color=colour, alpha=0.15, lw=0)
    axes.set(xlabel=f"hours, {exposure.rate:g} upsets per stored bit and hour (simulated)", ylabel="top-1 accuracy, %")
    axes.set_ylim(0, 100)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    written = BytesIO()
    figure.savefig(written, format="png", dpi=150)
    pyplot.close(figure)
    return written.getvalue()


def save(rows: Sequence[Row], exposure: Exposure, asked: dict[str, Any], out: Path) -> None:
    """The CSV, the JSON and the PNG lie in `out`."""
    output_directory(out)
    written = StringIO()
    lines = csv.DictWriter(written, [each.name for each in fields(Row)], lineterminator="\n")
    lines.writeheader()
    lines.writerows(asdict(row) for row in rows)
    atomic_write(out / "scrubbing.csv", written.getvalue())
    atomic_write(out / "scrubbing.json", json.dumps({**asked, "table": summary(rows)}, indent=1) + "\n")
    atomic_write(out / "scrubbing.png", plot(rows, exposure))


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("builds", nargs="+", type=Path, metavar="BUILD")
    parser.add_argument("--out", type=Path, default=Path("runs/scrubbing"))
    parser.add_argument("--rate", type=float, default=Exposure.rate, help="upsets per stored bit and hour")
    parser.add_argument("--step", dest="step_h", type=float, default=Exposure.step_h, help="hours of a step")
    parser.add_argument("--steps", type=int, default=Exposure.steps)
    parser.add_argument("--every", type=int, default=Exposure.every, help="steps between two passes")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--data", type=Path, help="where the dataset's images lie, if they are not made here")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--replay", choices=("rtl", "board"))
    parser.add_argument("--replay-steps", type=int, default=10)
    parser.add_argument("--replay-images", type=int, default=8)
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> int:
    """Run what the command line asks for."""
    asked = arguments(given)
    exposure = Exposure(asked.rate, asked.step_h, asked.steps, asked.every)
    dataset = load_dataset(asked.dataset, asked.data)
    images, labels = dataset.test_images[: asked.images], np.asarray(dataset.test_labels)[: asked.images]
    started = time.perf_counter()
    rows: list[Row] = []
    replayed: dict[str, int] = {}
    for build in asked.builds:
        rows += series(build, exposure, images, labels, asked.seeds)
        if asked.replay:
            short = replace(exposure, steps=asked.replay_steps)
            replayed[build.name] = replay(build, asked.replay, short, images[: asked.replay_images])
            print(f"{build.name}: engine and {asked.replay} alike in {replayed[build.name]} steps", flush=True)
    record = {name: str(value) if isinstance(value, Path) else value for name, value in vars(asked).items()}
    record["builds"] = [str(build) for build in asked.builds]
    save(rows, exposure, {**record, "replayed_steps": replayed, "wall_s": time.perf_counter() - started}, asked.out)
    print(table(summary(rows)))
    print(asked.out / "scrubbing.png")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BitwardError as error:
        sys.exit(f"scrubbing: {error}")
