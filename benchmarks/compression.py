# SPDX-License-Identifier: Apache-2.0
"""Compressed U-Nets of the segmentation papers: float, folded, in 8-bit integers, pruned, and both; how good, how big.

    python benchmarks/compression.py --activations relu sigmoid hardsigmoid --seeds 0 1 2 --out runs/seg/compressed
    python benchmarks/compression.py --table --out runs/seg/compressed

Networks are trained on synthetic road scenes, or found where they were (`--trained`). Pruning goes by rounds, each with
a share of the operations (`--shares`), and is trained on after each (`--epochs`); its sensitivities and its limit are
those of fresh scenes, neither of the training nor of the test split. Integers are calibrated on training scenes. Every
finished round and every finished network is a file in OUT, and not done again. IoU is of the test scenes, in %.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import compression_paper as paper
import numpy as np
import numpy.typing as npt
from torch import nn

from bitward.datasets import Dataset, Examples, normalised
from bitward.datasets.synthetic_hsi_roads import road_scenes
from bitward.engine.pytorch import Choose, as_float32, store
from bitward.engine.pytorch.cost import cost
from bitward.rewrites.torch_networks import Pruned, Quantized, fold_batch_norm, prune_channels, quantize_int8
from bitward.tools import atomic_write, output_directory
from bitward.train import ClassicRun, Recipe, train_classic
from bitward.train._segmentation import pixel_scores
from bitward.train.recipe import RECIPES
from bitward.train.tuning import fine_tune

ACTIVATIONS = ("relu", "sigmoid", "hardsigmoid")
CALIBRATED = 64  # training scenes whose ranges integers have
LIMITED = ("global_iou", "weighted_iou")
ALLOWED = 0.015  # of each, as in the paper
TUNED_RATE = 0.4  # of the rate that training began with
SIZES = ("parameters", "operations", "stored_bits")
FORMS = ("float", "folded", "int8", "int8 by channel", "pruned", "pruned int8", "pruned int8 by channel")


scenes = cache(road_scenes)  # the same for all networks


@dataclass(frozen=True)
class Case:
    """One trained network, and everything that is made of it; nothing is made before it is asked for."""

    activation: str
    seed: int
    options: argparse.Namespace

    @property
    def name(self) -> str:
        """Of the network in bitward.classic."""
        return f"hsi_unet3_{self.activation}"

    @cached_property
    def dataset(self) -> Dataset:
        """Scenes as they are trained on."""
        return scenes(*self.options.scenes)

    @cached_property
    def fresh(self) -> Dataset:
        """Its training scenes are those, its test scenes are such that follow them: neither trained on nor tested."""
        height, width, train, _ = self.options.scenes
        longer = scenes(height, width, train + self.options.fresh, 1)
        return replace(longer, test=lambda: _behind(longer, train))

    @cached_property
    def trained(self) -> ClassicRun:
        """Trained now, or found."""
        return train_classic(
            self.name, self.dataset, width=self.options.width, seeds=(self.seed,), cache=self.options.trained,
            recipe=self.options.recipe, device="cpu",
        )  # fmt: skip

    @cached_property
    def float(self) -> nn.Module:
        """The network as it was trained."""
        return self.trained.network(self.seed)

    def images(self, count: int) -> npt.NDArray[np.float32]:
        """The first training scenes, as networks take them."""
        return normalised(self.dataset, self.dataset.train_images[:count])

    @cached_property
    def pruned(self) -> Pruned:
        """Pruned by rounds, each trained on."""
        recipe = self._tuning()

        def score(network: nn.Module) -> dict[str, float]:
            found = pixel_scores(network, self.fresh, partial(normalised, self.fresh))
            return {name: found[name] for name in LIMITED}

        def tune(network: nn.Module) -> nn.Module:
            say(f"{self.name} seed {self.seed}: trained on")
            return fine_tune(network, self.dataset, recipe, self.seed)

        say(f"{self.name} seed {self.seed}: how much each layer's channels matter")
        return prune_channels(
            self.float, self.dataset.image_shape, score, tune, shares=tuple(self.options.shares), allowed=ALLOWED,
            folder=self.options.out / "rounds",
        )  # fmt: skip

    def _tuning(self) -> Recipe:
        first = self.options.recipe or RECIPES["hsi_unet" if self.activation == "relu" else "hsi_unet-bounded"]
        rate = TUNED_RATE * first.float_learning_rate
        return replace(first, float_epochs=self.options.epochs[self.activation != "relu"], float_learning_rate=rate)

    def quantized(self, form: str) -> Quantized:
        """What "int8", "pruned int8" and the two by channel are made of."""
        network = self.pruned.network if form.startswith("pruned") else self.float
        return quantize_int8(network, self.images(CALIBRATED), form.endswith("by channel"))

    def made(self, form: str, biases: str = "int32") -> tuple[nn.Module, Choose]:
        """A network of its own, and how its parameters are stored; `biases` of integers as in `Quantized.stored`."""
        if "int8" in form:
            found = self.quantized(form)
            return found.network, found.stored(biases)  # type: ignore[arg-type]
        network = {"float": lambda: self.float, "folded": lambda: fold_batch_norm(self.float)[0]}.get(
            form, lambda: self.pruned.network
        )()
        return copy.deepcopy(network), as_float32


def _behind(longer: Dataset, first: int) -> Examples:
    """Its training scenes but for the first ones."""
    return Examples(longer.train_images[first:], longer.train_labels[first:])


def measured(case: Case) -> dict[str, Any]:
    """What is wanted of one trained network: what the file of OUT has not is measured and added."""
    path = case.options.out / f"{case.name}-seed{case.seed}.json"
    asked = repr([case.options.scenes, case.options.width, case.options.shares, case.options.epochs])
    result = json.loads(path.read_text()) if path.is_file() else {}
    if result.get("asked") != asked:
        result = {"activation": case.activation, "seed": case.seed, "asked": asked, "forms": {}}
    for form in case.options.forms:
        if form in result["forms"]:
            continue
        say(f"{case.name} seed {case.seed}: {form}")
        result["forms"][form] = _form(case, form)
        if form.startswith("pruned"):
            result["pruning"] = _pruning(case)
        atomic_write(output_directory(case.options.out) / path.name, json.dumps(result, indent=1))
    return dict(result)


def _form(case: Case, form: str) -> dict[str, Any]:
    """How good it is on the test scenes, and how big."""
    network, choose = case.made(form)
    count = cost(network, case.dataset.image_shape)
    manifest, _ = store(network, choose)
    found: dict[str, Any] = {
        "scores": pixel_scores(network, case.dataset, partial(normalised, case.dataset)),
        "parameters": count.parameters,
        "operations": count.operations,
        "stored_bits": sum(each.depth * each.width for each in manifest.memories),
    }
    if "int8" in form:
        quantized = case.quantized(form)
        found |= {"is_exact": quantized.is_exact, "bias_bits": quantized.bias_bits}
    return found


def _pruning(case: Case) -> dict[str, Any]:
    """Its rounds, and the channels of each layer before and after."""
    pruned = case.pruned
    names = ("share", "cut", "tuned", "is_kept", "parameters", "operations")
    return {
        "began": pruned.scores,
        "rounds": [{name: getattr(each, name) for name in names} for each in pruned.rounds],
        "channels": {layer: list(both) for layer, both in _left(case.float, pruned.network)},
    }


def _left(network: nn.Module, pruned: nn.Module) -> Iterator[tuple[str, tuple[int, int]]]:
    """(layer, (its channels before, after))."""
    for name, module in network.named_modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            yield name, (module.out_channels, int(pruned.get_submodule(name).out_channels))  # type: ignore[arg-type]


def quality(results: list[dict[str, Any]]) -> list[str]:
    """A row per activation and form, a column per score: mean of the seeds, and their range where there are several."""
    names = list(next(iter(results[0]["forms"].values()))["scores"])
    rows = [["", "seeds", *(name.removeprefix("iou ").replace("_iou", ", IoU") for name in names)]]
    for activation, form, found in _measured(results):
        cells = []
        for name in names:
            values = [100 * each["scores"][name] for each in found]
            spread = f" ({min(values):.1f} to {max(values):.1f})" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.2f}{spread}")
        rows.append([f"{activation}, {form}", str(len(found)), *cells])
    return table(rows)


def _measured(results: list[dict[str, Any]]) -> Iterator[tuple[str, str, list[dict[str, Any]]]]:
    """(activation, form, what was measured of it, by seed), of all that were."""
    for activation in ACTIVATIONS:
        for form in FORMS:
            if found := [each["forms"][form] for each in _of(results, activation) if form in each["forms"]]:
                yield activation, form, found


def sizes(results: list[dict[str, Any]]) -> list[str]:
    """Parameters, operations and stored bits, by activation and form, mean of the seeds; beside the papers' shares."""
    rows = [["", "parameters", "operations, M", "memory, kbit", "of the parameters, %", "of the operations, %",
             "of the memory, %", "papers: parameters, %", "operations, %", "memory, %"]]  # fmt: skip
    whole: dict[str, float] = {}
    for activation, form, found in _measured(results):
        mean = {
            key: float(np.mean([each[key] for each in found])) for key in ("parameters", "operations", "stored_bits")
        }
        whole = mean if form == "float" else whole
        rows.append([
            f"{activation}, {form}", f"{mean['parameters']:,.0f}", f"{mean['operations'] / 1e6:.2f}",
            f"{mean['stored_bits'] / 1e3:,.0f}",
            *(f"{100 * value / whole[key]:.1f}" if whole else "-" for key, value in mean.items()),
            *paper.shares(activation, form),
        ])  # fmt: skip
    return table(rows)


def rounds(results: list[dict[str, Any]]) -> list[str]:
    """What every round of pruning took and cost, on fresh scenes."""
    rows = [["", "round", "share asked", "parameters", "operations, M", "GIoU, WIoU before", "cut", "trained on",
             "kept"]]  # fmt: skip
    for each in results:
        pruning = each.get("pruning", {"rounds": []})
        for number, one in enumerate(pruning["rounds"], start=1):
            before, cut, tuned = (
                ", ".join(f"{100 * scores[name]:.2f}" for name in LIMITED)
                for scores in (pruning["began"], one["cut"], one["tuned"])
            )
            rows.append([
                f"{each['activation']}, seed {each['seed']}", str(number), f"{one['share']:g}",
                f"{one['parameters']:,}", f"{one['operations'] / 1e6:.2f}", before, cut, tuned,
                "yes" if one["is_kept"] else "no",
            ])  # fmt: skip
    return table(rows)


def channels(results: list[dict[str, Any]]) -> list[str]:
    """Channels left of each layer, as the paper's Fig. 1 has shares."""
    found = [each for each in results if "pruning" in each]
    rows = [["layer", "channels", *(f"{each['activation']}, seed {each['seed']}" for each in found)]]
    for layer, (before, _) in found[0]["pruning"]["channels"].items() if found else ():
        rows.append([layer, str(before), *(str(each["pruning"]["channels"][layer][1]) for each in found)])
    return table(rows)


def biases(results: list[dict[str, Any]]) -> list[str]:
    """How many bits the widest bias of the integers needs, and whether float32 has all sums."""
    rows = [["", "bits of the widest bias, by seed", "all sums exact in float32"]]
    for activation, form, found in _measured(results):
        if "int8" in form:
            widths = [str(max(each["bias_bits"].values())) for each in found]
            exact = "yes" if all(each["is_exact"] for each in found) else "no"
            rows.append([f"{activation}, {form}", ", ".join(widths), exact])
    return table(rows)


def _of(results: list[dict[str, Any]], activation: str) -> list[dict[str, Any]]:
    return [each for each in results if each["activation"] == activation]


def table(rows: list[list[str]]) -> list[str]:
    """Lines of Markdown."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return [lines[0], "|" + "---|" * len(rows[0]), *lines[1:], ""]


def say(text: str) -> None:
    """A line of progress."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--activations", nargs="+", choices=ACTIVATIONS, default=list(ACTIVATIONS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--trained", type=Path, default=Path("runs/seg/trained"))
    parser.add_argument("--out", type=Path, default=Path("runs/seg/compressed"))
    parser.add_argument("--shares", nargs="+", type=float, default=[0.3, 0.25, 0.2, 0.1], help="by round")
    parser.add_argument("--epochs", nargs=2, type=int, default=[8, 12], help="after a round: ReLU, bounded ones")
    parser.add_argument("--scenes", nargs=4, type=int, default=[32, 64, 480, 120], help="height, width, train, test")
    parser.add_argument("--fresh", type=int, default=60, help="scenes that pruning goes by")
    parser.add_argument("--train-epochs", type=int, help="fewer than the recipe's, for a trial of the command")
    parser.add_argument("--table", action="store_true", help="print the tables of what is done, and measure nothing")
    options = parser.parse_args(arguments)
    options.recipe = None
    if options.train_epochs:
        options.recipe = replace(RECIPES["hsi_unet"], float_epochs=options.train_epochs)
    return options


def main(arguments: list[str] | None = None) -> int:
    """The tables are printed."""
    options = parse(arguments)
    if options.table:
        results = [json.loads(path.read_text()) for path in sorted(options.out.glob("*-seed*.json"))]
    else:
        results = [
            measured(Case(activation, seed, options)) for seed in options.seeds for activation in options.activations
        ]
    if not results:
        say(f"{options.out} holds no result: run without --table first")
        return 1
    print("\n".join([*quality(results), *paper.quality(), *sizes(results), *rounds(results), *channels(results),
                     *biases(results)]))  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
