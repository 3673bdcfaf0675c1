# SPDX-License-Identifier: Apache-2.0
"""Weight scaling (N. Fuengfusin, H. Tamukoh): figures 2 and 3, tables I and II, and what it is worth per stored bit.

    python benchmarks/weight_scaling.py values --rounds 1000000 --json FILE
    python benchmarks/weight_scaling.py accuracy --network resnet18 --width 0.25 --cache DIR --data CIFAR10 --json FILE
    python benchmarks/weight_scaling.py memory --network resnet18 --width 0.25 --cache DIR --data CIFAR10 --json FILE
    python benchmarks/weight_scaling.py logits --network vgg11_bn --width 0.25 --cache DIR --data CIFAR10 --json FILE
    python benchmarks/weight_scaling.py table FILE ...

"values" is figure 2: the mean absolute error that upsets cause in pseudo-weights from -0.5 to 0.5. "accuracy" is figure
3: Top-1 by t and bit error rate, mean and standard deviation over --rounds fault sets, on --images test images; a
network is trained first, or found in --cache, or has the weights in --weights. "memory" compares ways to spend eight
stored bits a weight. "logits" divides once, at the logits. All faults hit weights, all of them; in floating point the
exponent's most significant bit is never upset, as the paper supposes. Software-only: nothing here is hardware. Points
that are in the JSON already are not computed again.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from bitward.datasets import load_dataset, normalised
from bitward.engine.pytorch import Choose, TorchEngine, as_format, as_integers
from bitward.faults import Ber
from bitward.formats import Fixed, Float16, Float32, Format
from bitward.metrics import flip_error
from bitward.rewrites import Q2_5, WeightScaling, largest_scaled
from bitward.rewrites.torch_networks import divide_logits
from bitward.schemes import Tmr
from bitward.tools import atomic_write
from bitward.train import train_classic

FORMATS: dict[str, tuple[Format, tuple[int, ...]]] = {
    "FP32": (Float32(), (30,)),
    "FP16": (Float16(), (14,)),
    "Q2.5": (Q2_5, ()),
}
"""Formats of the paper, and the bits that are never upset."""
PAPER = {"FP32": (14.78, 53.29), "FP16": (23.48, 56.34), "Q2.5": (32.59, 63.88)}
"""Its ResNet-18 on ImageNet, table II: Top-1 in percent at t = 1 and at the best t (1e-3; Q2.5: 1e-4)."""
RATES = {"FP32": (1e-3, 1e-4, 1e-5), "FP16": (1e-3, 1e-4, 1e-5), "Q2.5": (1e-3, 1e-4, 1e-5)}
WEIGHTS = ("weight",)


# -- figure 2 ----------------------------------------------------------------------------------------------------------


def run_values(given: argparse.Namespace, kept: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The mean error by value, for each format and scale."""
    values = np.arange(-50, 51) / 100
    for name, (form, safe) in FORMATS.items():
        for scale in (1.0, 2.0, 3.0, 3.9, 5.0):
            if (key := f"{name} c={scale:g}") not in kept:
                start = time.process_time()
                errors = flip_error(values, form, 0.1, given.rounds, scale, safe, given.seed)
                yield key, {"mean": float(errors.mean()), "most": float(errors.max()), "errors": errors.tolist(),
                            "seconds": time.process_time() - start, "rounds": given.rounds}  # fmt: skip


def values_table(points: dict[str, Any]) -> str:
    """The mean over all values, and of the worst."""
    lines = [
        "| format, scale | mean absolute error | of the worst value | s a value of 1e6 rounds |",
        "|---|---|---|---|",
    ]
    for key, point in points.items():
        seconds = point["seconds"] / len(point["errors"]) / point["rounds"] * 1e6
        lines.append(f"| {key} | {point['mean']:.4g} | {point['most']:.4g} | {seconds:.4f} |")
    return "\n".join(lines)


# -- figure 3, tables I and II -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Judge:
    """A trained network and the test images that it is judged on."""

    network: nn.Module
    images: np.ndarray
    labels: np.ndarray
    float_accuracy: float

    def accuracy(self, run: Callable[[np.ndarray], np.ndarray]) -> float:
        """The share of images that are right."""
        parts = [slice(first, first + 250) for first in range(0, len(self.images), 250)]
        return float(np.mean(np.concatenate([run(self.images[p]).argmax(1) == self.labels[p] for p in parts])))

    def engine(self, choose: Choose) -> TorchEngine:
        """The network, its weights stored so."""
        return TorchEngine(copy.deepcopy(self.network), choose)

    def rounds(self, choose: Choose, ber: float, safe: Sequence[int], rounds: int, seed: int) -> dict[str, Any]:
        """Top-1 without faults, and under so many fault sets."""
        engine = self.engine(choose)
        width = max(memory.width for memory in engine.manifest.memories)
        bits = tuple(bit for bit in range(width) if bit not in safe) if safe else None
        model = Ber(engine.manifest, seed, ber=ber, bits=bits)
        golden, found, flips = self.accuracy(engine.infer), [], []
        for number in range(rounds):
            trial = model.trial(number)
            engine.inject(trial)
            with np.errstate(all="ignore"):
                found.append(self.accuracy(engine.infer))
            engine.restore()
            flips.append(len(trial))
        return {"golden": golden, "top1": found, "flips": float(np.mean(flips)),
                "stored_bits": engine.manifest.population, "images": len(self.images)}  # fmt: skip


def judge(given: argparse.Namespace) -> Judge:
    """The network of the command line."""
    run = train_classic(
        given.network, given.dataset, width=given.width, seeds=(given.train_seed,), cache=given.cache, data=given.data,
        weights=given.weights,
    )  # fmt: skip
    (result,) = run.results
    data = load_dataset(given.dataset, given.data)
    chosen = np.random.default_rng(0).permutation(len(data.test_labels))[: given.images]
    images = normalised(data, data.test_images[chosen])
    return Judge(run.network(result.seed), images, data.test_labels[chosen], result.accuracy)


def run_accuracy(given: argparse.Namespace, kept: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every format, rate and t; "none" is c = 1 in every layer."""
    one = judge(given)
    for name, (form, safe) in FORMATS.items():
        best = largest_scaled(form)
        for ber in given.rates or RATES[name]:
            for t in (None, 0.5, 1.0, 1.5, best, 2.5, 3.0, 3.5, 4.0):
                if (key := f"{name} {ber:g} t={'none' if t is None else f'{t:g}'}") in kept:
                    continue
                choose = as_format(form, roles=WEIGHTS) if t is None else WeightScaling(t).choose(form)
                yield key, one.rounds(choose, ber, safe, given.rounds, given.seed)


def run_memory(given: argparse.Namespace, kept: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Ways to spend eight stored bits a weight."""
    one, six = judge(given), Fixed(6, 4)

    def voted(bits: int) -> Tmr:
        return Tmr(bits, 1)

    ways: dict[str, Choose] = {
        "Q2.5": as_format(Q2_5, roles=WEIGHTS),
        "Q2.5, scaled": WeightScaling().choose(Q2_5),
        "Q2.5, scaled by channel": WeightScaling(per_channel=True).choose(Q2_5),
        "Q2.5, scaled by powers of two": WeightScaling(power_of_two=True).choose(Q2_5),
        "6 bits, scaled, MSB voted": WeightScaling().choose(six, voted),
        "6 bits, scaled by channel, MSB voted": WeightScaling(per_channel=True).choose(six, voted),
        "int8, max|W| / 127": as_integers(8),
        "int8 by channel": as_integers(8, per_channel=True),
        "int6 by channel, MSB voted": as_integers(6, True, voted),
    }
    for ber in given.rates or (1e-4, 1e-3):
        for way, choose in ways.items():
            if (key := f"{ber:g} {way}") not in kept:
                yield key, one.rounds(choose, ber, (), given.rounds, given.seed)


def run_logits(given: argparse.Namespace, kept: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Top-1 without faults where logits are divided, with biases that are scaled and with biases that are not."""
    one = judge(given)
    for name, scaling in (("t=1.9999", WeightScaling()), ("powers of two", WeightScaling(power_of_two=True))):
        divided = divide_logits(one.network, scaling, Float32())
        left = copy.deepcopy(divided.network)
        with torch.no_grad():
            for layer in divided.factors:
                if (bias := left.get_submodule(layer).bias) is not None:
                    bias.copy_(one.network.get_submodule(layer).bias)
        plain, found, wrong = (one.accuracy(_runner(each)) for each in (one.network, divided.network, left))
        if name not in kept:
            yield name, {"golden": plain, "divided": found, "biases_left": wrong, "divisor": divided.divisor,
                         "images": len(one.images)}  # fmt: skip


def _runner(network: nn.Module) -> Callable[[np.ndarray], np.ndarray]:
    def run(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return np.asarray(network(torch.from_numpy(images)).numpy())

    return run


def accuracy_table(points: dict[str, Any]) -> str:
    """Top-1 in percent, mean and standard deviation over fault sets."""
    lines = [
        "| stored as, rate | stored bits | flips a trial | Top-1 without faults | under faults |",
        "|---" * 5 + "|",
    ]
    for key, point in points.items():
        top1 = 100 * np.array(point["top1"])
        lines.append(
            f"| {key} | {point['stored_bits']:,} | {point['flips']:,.0f} | {100 * point['golden']:.2f} | "
            f"{top1.mean():.2f} ± {top1.std(ddof=1):.2f} |"
        )
    return "\n".join(lines)


def logits_table(points: dict[str, Any]) -> str:
    """Top-1 in percent."""
    lines = ["| scaling | weights divided | logits divided | logits divided, biases as they were |", "|---" * 4 + "|"]
    for key, point in points.items():
        cells = [f"{100 * point[name]:.2f}" for name in ("golden", "divided", "biases_left")]
        lines.append(f"| {key} | {' | '.join(cells)} |")
    return "\n".join(lines)


CASES = {
    "values": (run_values, values_table),
    "accuracy": (run_accuracy, accuracy_table),
    "memory": (run_memory, accuracy_table),
    "logits": (run_logits, logits_table),
}


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=[*CASES, "table"])
    parser.add_argument("files", nargs="*", type=Path, help="table: files that --json wrote")
    parser.add_argument("--network", default="resnet18")
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--weights", type=Path, help="a checkpoint, instead of training")
    parser.add_argument("--cache", type=Path, default=Path("runs/.trained"), help="of trained networks")
    parser.add_argument("--data", type=Path, help="where its images lie, as for bitward train")
    parser.add_argument("--train-seed", type=int, default=0)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--rates", type=float, nargs="+", help="bit error rates (default: the case's)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, default=Path("runs/weight_scaling.json"))
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Computes the points of a case that are not there yet, or prints the tables of files."""
    given = parsed(arguments)
    if given.case == "table":
        for path in given.files:
            stored = json.loads(path.read_text())
            print(CASES[stored["case"]][1](stored["points"]), end="\n\n")
        return 0
    torch.set_num_threads(given.threads)
    settings = {name: str(value) for name, value in vars(given).items() if name not in ("json", "threads", "files")}
    stored = json.loads(given.json.read_text()) if given.json.is_file() else {**settings, "points": {}}
    if {name: stored.get(name) for name in settings} != settings:
        raise SystemExit(f"{given.json} must be of the same settings, got others: name another file with --json")
    given.json.parent.mkdir(parents=True, exist_ok=True)
    run, table = CASES[given.case]
    for key, point in run(given, stored["points"]):
        stored["points"][key] = point
        atomic_write(given.json, json.dumps(stored) + "\n")
        print(key, file=sys.stderr, flush=True)
    print(table(stored["points"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
