# SPDX-License-Identifier: Apache-2.0
"""Software-only flows: train, quantize, attack, report. No hardware is built of a float network, and none is claimed.

Every stage keeps what it made, keyed by all that decides it: trained seeds, accuracies, the trials of each campaign.
What is there is not made again, and a run that was killed goes on.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from bitward.campaign.progress import showing
from bitward.classic import find_classic
from bitward.datasets import Dataset, load_dataset, normalised
from bitward.errors import ConfigError
from bitward.explore.design import BASELINE_BITS
from bitward.explore.evaluate import Bench, Vulnerability
from bitward.explore.scale import scaled_subject
from bitward.explore.subject import Subject, Trained, state_sha256
from bitward.flow.cache import locked
from bitward.flow.fortune import indices
from bitward.flow.software_spec import SoftwareFlow
from bitward.flow.steps import check_stage, device_of, timed
from bitward.hardware.build import versions
from bitward.tools import atomic_write, git_hash, output_directory
from bitward.train import ClassicRun, train_classic

KIND = "software-only"
STAGE_NAMES = ("train", "quantize", "attack", "report")
SAID = (
    "Software-only: the network was run in PyTorch on a computer, in floating point, with weights as they are read "
    "from stored words. No hardware was built or simulated; activations are floating point.",
    "The unit is the fault set: the mean over fault sets of the accuracy lost on one fixed set of test images, with "
    "Student's 95 % interval over fault sets. Images are not counted as trials.",
    "A rate says how many flips there are only with the number of stored bits: flips per trial stand beside each. "
    "'bits' hits every stored bit alike; 'layers' draws a layer first, as FORTUNE's released code does, so that small "
    "layers are hit far above the rate.",
    "P_drop is an index and no probability: it has the squared number of bits as a factor, no upper limit, and a "
    "lifetime of 100 s (1.33e-24 per bit and ns, 1e11 ns), FORTUNE's own constants. Here each rate has its own drop, "
    "as the paper's text says; its Table II has the drop at 3e-4 in every column.",
    "RAP has 1 for the time: weights are voted once, when they are loaded, and an inference takes as long as before.",
)

SAFE = (
    "No fault hits the most significant bit of a floating-point word's exponent, in no copy of it: an assumption of "
    "the weight-scaling paper, which something else must make true. Rates are per bit that can be hit."
)


@dataclass(frozen=True)
class SoftwareRun:
    """A software-only flow and its folder."""

    flow: SoftwareFlow
    folder: Path
    runs: Path
    console: Console
    data: Path | None = None
    images: Dataset | None = None  # the dataset, where it was read already

    @property
    def device(self) -> str:
        """Where the network runs: cuda where torch has it, unless the flow says otherwise."""
        return device_of(self.flow.device)

    @cached_property
    def dataset(self) -> Dataset:
        """The dataset that the flow names."""
        return self.images or load_dataset(self.flow.dataset, self.data)

    @cached_property
    def trained(self) -> ClassicRun:
        """Every seed is trained, or found."""
        flow = self.flow
        options: dict[str, Any] = {"width": flow.width, "weights": flow.weights, "data": self.data}
        options |= {"seeds": flow.seeds, "cache": self.runs / flow.train_cache, "device": flow.device}
        with Progress(console=self.console, transient=True, disable=not self.console.is_terminal) as bars:
            return train_classic(flow.network, self.dataset, progress=bars, **options)

    def subjects(self) -> dict[int, Subject]:
        """The trained network of every seed, with the test images as it takes them."""
        made, data = self.trained, self.dataset
        images = normalised(data, data.test_images)
        build = partial(find_classic(made.name).build, made.classes, made.channels, made.width)
        return {
            seed: Subject(
                made.name, Trained(build, state := made.result(seed).state), state_sha256(state), images,
                data.test_labels,
            )
            for seed in self.flow.seeds
        }  # fmt: skip

    def campaigns(self, seed: int) -> Path:
        """The folder of a seed's campaigns."""
        return self.folder / "campaigns" / f"seed{seed}"

    def bench(self, subject: Subject, seed: int) -> Bench:
        """The seed's network, stored as the flow says."""
        design = self.flow.design
        subject = scaled_subject(subject, design.scale, design.real)
        return Bench(subject, design, design.to_dict(), self.campaigns(seed), self.flow.rules(self.device))


def run_software(
    flow: SoftwareFlow,
    runs: Path,
    console: Console,
    to: str | None = None,
    force: str | None = None,
    data: Path | None = None,
    images: Dataset | None = None,
) -> tuple[Path, dict[str, Any]]:
    """The flow has run up to stage `to` (None: the report); its folder and summary.

    `images` is its dataset, if it was read already; else it is read, from `data` where it is given by path.

    `force` makes what that stage and those after it keep anew; trained seeds, which flows share, are never thrown away.
    ConfigError for a stage that is not there, a folder that another process uses, and what the flow asks in vain.
    """
    check_stage(KIND, "to", to, STAGE_NAMES)
    check_stage(KIND, "force", force, STAGE_NAMES[1:])
    run = replace(open_software(flow, runs, console, data), images=images)
    with locked(run.folder):
        _forget(run, force)
        last = STAGE_NAMES.index(to or "report")
        summary: dict[str, Any] = {}
        subjects = timed(run.console, "train", run.subjects)
        if last >= 1:
            benches = {seed: run.bench(subject, seed) for seed, subject in subjects.items()}
            summary = timed(run.console, "quantize", lambda: _quantized(run, benches))
        if last >= 2:
            summary["vulnerability"] = timed(run.console, "attack", lambda: _attacked(run, benches))
        if summary:
            atomic_write(run.folder / "summary.json", json.dumps(summary, indent=1) + "\n")
        if last >= 3:
            from bitward.report import write_report

            timed(run.console, "report", lambda: write_report(run.folder))
    return run.folder, summary


def open_software(flow: SoftwareFlow, runs: Path, console: Console, data: Path | None) -> SoftwareRun:
    """The run's folder is there; ConfigError for a network that labels pixels: its accuracies are of another kind."""
    if find_classic(flow.network).labelled == "pixel":
        raise ConfigError(
            f"network of a software-only flow must label images, got {flow.network}, which labels pixels: train it "
            "with bitward train, and attack it with bitward.engine.pytorch"
        )
    return SoftwareRun(flow, output_directory(runs / flow.name), runs, console, data)


def _forget(run: SoftwareRun, force: str | None) -> None:
    folder = run.folder / "campaigns"
    if force == "quantize":
        shutil.rmtree(folder, ignore_errors=True)
    if force == "attack":
        for store in folder.glob("*/*/"):  # the accuracies beside them are the stage before's
            shutil.rmtree(store)


def _quantized(run: SoftwareRun, benches: dict[int, Bench]) -> dict[str, Any]:
    """The summary, as far as it is known without faults."""
    flow, bits = run.flow, next(iter(benches.values())).bits
    results = {str(seed): run.trained.result(seed) for seed in benches}
    accuracies = {str(seed): bench.accuracy for seed, bench in benches.items()}
    return {
        "kind": KIND,
        "flow": flow.name,
        "network": flow.network,
        "width": flow.width,
        "dataset": flow.dataset,
        "stored_as": str(flow.design),
        "design": flow.design.to_dict(),
        "memory": {
            "parameters": bits.parameters,
            "plain_bits": bits.plain_bits,
            "stored_bits": bits.stored_bits,
            "of_8_bit": bits.stored_bits / (BASELINE_BITS * bits.parameters),
        },
        "exponents_at_risk": next(iter(benches.values())).exponents_at_risk,
        "apart": next(iter(benches.values())).apart,
        "float_accuracy": {seed: result.accuracy for seed, result in results.items()},
        "accuracy": accuracies,
        "accuracy_mean": float(np.mean(list(accuracies.values()))),
        "test_images": len(next(iter(benches.values())).subject.images),
        "said": list(SAID) + ([SAFE] if flow.inject.safe_exponents else []),
        "versions": versions(),
        "git": git_hash(),
        "device": run.device,
        "settings": flow.model_dump(mode="json"),
    }


def _attacked(run: SoftwareRun, benches: dict[int, Bench]) -> list[dict[str, Any]]:
    """Every rate on every seed."""
    found = []
    for seed, bench in benches.items():
        for rate in run.flow.rates:
            with showing(run.console, f"  seed {seed}, {rate}") as progress:
                got = bench.vulnerability(rate, f"{rate.spread}-{rate.ber:g}", progress)
            found.append({"seed": seed, **described(got, bench)})
    return found


def described(found: Vulnerability, bench: Bench) -> dict[str, Any]:
    """A vulnerability as JSON values, with FORTUNE's two indices beside it."""
    bits = bench.bits
    memory = bits.stored_bits / (BASELINE_BITS * bits.parameters)
    return {**found.to_dict(), **indices(bits.stored_bits, found.rate.ber, found.drop.estimate, memory, time=1.0)}
