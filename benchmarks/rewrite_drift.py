# SPDX-License-Identifier: Apache-2.0
"""How far rewrites that protect a network without memory move its fault-free function, on trained U-Nets.

    python benchmarks/rewrite_drift.py --activations relu sigmoid hardsigmoid --seeds 0 --out runs/seg/drift

Of every rewrite: how many parameters, statistics of batch norm included, have an exponent at risk (one upset makes them
infinite, NaN or larger than 1), and how many lie from 1 to 2 (infinite or NaN); the largest difference of a score, over
the largest score; how many pixels of the test scenes change their class; and IoU by the frequency of classes, and by
its inverse. Ranges and relevances are of training scenes. Networks are those of
benchmarks/compression.py; finished ones are files in OUT.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from compression import ACTIVATIONS, CALIBRATED, Case, table
from compression import parse as parse_compression
from torch import nn

from bitward.datasets import normalised
from bitward.engine.pytorch.memories import tensors_of
from bitward.errors import ModelError
from bitward.rewrites import PROTECTION_TARGETS, at_risk
from bitward.rewrites.torch_networks import (
    absorb_biases,
    clip_activations,
    drift,
    equalize_layers,
    fold_batch_norm,
    protect_network,
    prune_risky,
    recondition_batch_norm,
)
from bitward.tools import atomic_write, output_directory
from bitward.train._segmentation import pixel_scores

RELEVANT = 32  # training scenes that sparse pruning goes by
Images = npt.NDArray[np.float32]
Rewrite = Callable[[nn.Module, Images], nn.Module]


def folded(network: nn.Module) -> nn.Module:
    """Its batch norms are in its layers."""
    return fold_batch_norm(network)[0]


def rewrites() -> dict[str, Rewrite]:
    """By name: what makes of a trained network the one that is measured."""
    found: dict[str, Rewrite] = {
        "none": lambda network, images: network,
        "fold_batch_norm": lambda network, images: folded(network),
        "recondition_batch_norm, into statistics": lambda network, images: recondition_batch_norm(network)[0],
        "recondition_batch_norm, into next": lambda network, images: recondition_batch_norm(network, "next")[0],
        "equalize_layers, folded": lambda network, images: equalize_layers(folded(network))[0],
        "equalize_layers, folded, powers of two": lambda network, images: equalize_layers(folded(network), True)[0],
        "absorb_biases": lambda network, images: absorb_biases(network)[0],
        "clip_activations, bound": lambda network, images: clip_activations(network, images)[0],
        "clip_activations, zero": lambda network, images: clip_activations(network, images, "zero")[0],
        "prune_risky, 0.1 % of decisions": lambda network, images: prune_risky(network, images[:RELEVANT])[0],
        "prune_risky, folded": lambda network, images: prune_risky(folded(network), images[:RELEVANT])[0],
    }
    for target in PROTECTION_TARGETS:
        found[f"protect_network, {target}"] = partial(_protected, target, False)
        found[f"protect_network, {target}, folded"] = partial(_protected, target, True)
    return found


def _protected(target: str, is_folded: bool, network: nn.Module, images: Images) -> nn.Module:
    return protect_network(folded(network) if is_folded else network, target)[0]


def risky(network: nn.Module) -> dict[str, int]:
    """How many parameters, statistics of batch norm included, are at risk, and how many lie from 1 to 2."""
    values = [tensor.detach().numpy() for *_, tensor in tensors_of(network)]
    return {
        "at_risk": sum(int(at_risk(each).sum()) for each in values),
        "one_to_two": sum(int(np.sum((np.abs(each) >= 1) & (np.abs(each) < 2))) for each in values),
    }


def measured(case: Case, chosen: list[str]) -> dict[str, Any]:
    """Every rewrite on one trained network, from the file of OUT where it is there."""
    path = case.options.out / f"{case.name}-seed{case.seed}.json"
    asked = repr([case.options.scenes, case.options.width])
    kept = json.loads(path.read_text()) if path.is_file() else {}
    result = kept if kept.get("asked") == asked else {
        "activation": case.activation, "seed": case.seed, "asked": asked, "rewrites": {},
    }  # fmt: skip
    tests = normalised(case.dataset, case.dataset.test_images)
    for name in chosen:
        if name in result["rewrites"]:
            continue
        try:
            made = rewrites()[name](case.float, case.images(CALIBRATED))
        except ModelError as error:
            result["rewrites"][name] = {"refused": str(error)}
            continue
        moved = drift(case.float, made, tests)
        scores = pixel_scores(made, case.dataset, partial(normalised, case.dataset))
        result["rewrites"][name] = {
            **risky(made), "relative": moved.relative, "changed": moved.changed_decisions,
            "decisions": moved.decisions, "global_iou": scores["global_iou"], "weighted_iou": scores["weighted_iou"],
        }  # fmt: skip
        atomic_write(output_directory(case.options.out) / path.name, json.dumps(result, indent=1))
    atomic_write(output_directory(case.options.out) / path.name, json.dumps(result, indent=1))
    return dict(result)


def tables(results: list[dict[str, Any]]) -> list[str]:
    """A row per rewrite and network."""
    rows = [["", "network", "at risk", "1 to 2", "largest difference", "pixels changed", "GIoU, %", "WIoU, %"]]
    for name in dict.fromkeys(name for each in results for name in each["rewrites"]):
        for each in results:
            found, network = each["rewrites"].get(name), f"{each['activation']}, seed {each['seed']}"
            if found is None:
                continue
            if "refused" in found:
                rows.append([name, network, "not for it", "", "", "", "", ""])
                continue
            rows.append([
                name, network, f"{found['at_risk']:,}", f"{found['one_to_two']:,}", f"{found['relative']:.2g}",
                f"{found['changed']:,} of {found['decisions']:,}", f"{100 * found['global_iou']:.2f}",
                f"{100 * found['weighted_iou']:.2f}",
            ])  # fmt: skip
    return table(rows)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line; what is not said is as in benchmarks/compression.py."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/seg/drift"))
    parser.add_argument("--rewrites", nargs="+", choices=list(rewrites()), default=list(rewrites()))
    own, others = parser.parse_known_args(arguments)
    options = parse_compression(others)
    options.out, options.rewrites = own.out, own.rewrites
    return options


def main(arguments: list[str] | None = None) -> int:
    """The table is printed."""
    options = parse(arguments)
    order = [each for each in ACTIVATIONS if each in options.activations]
    cases = [Case(activation, seed, options) for seed in options.seeds for activation in order]
    print("\n".join(tables([measured(case, options.rewrites) for case in cases])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
