# SPDX-License-Identifier: Apache-2.0
"""Sensitivity flows: train a network that labels pixels, flip bits of its parameters, say what that does.

Software-only. Trained seeds and the trials of each campaign are kept, keyed by all that decides them: what is there is
not made again, and a run that was killed goes on.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress
from torch import nn

from bitward.campaign.progress import showing
from bitward.classic import find_classic
from bitward.datasets import Dataset, load_dataset, normalised
from bitward.engine.pytorch import Choose, as_float32
from bitward.errors import ConfigError
from bitward.explore.subject import Subject, Trained, state_sha256
from bitward.flow.cache import locked
from bitward.flow.sensitivity_spec import Prune, SensitivityFlow
from bitward.flow.steps import check_stage, device_of, timed
from bitward.hardware.build import versions
from bitward.metrics import fit, upsets_per_hour
from bitward.rewrites.torch_networks import clip_activations, fold_batch_norm, prune_channels, quantize_int8
from bitward.sensitivity import Study, flip_rates
from bitward.sensitivity.pixels import classes_of
from bitward.sensitivity.several import Several, several_flips
from bitward.sensitivity.study import iou, iou_of
from bitward.sensitivity.summary import summary_of
from bitward.tools import atomic_write, git_hash, output_directory
from bitward.train import ClassicRun, train_classic
from bitward.train.recipe import RECIPES
from bitward.train.tuning import fine_tune

KIND = "sensitivity"
RATE = 0.4  # of the learning rate that training began with, after channels were pruned
STAGE_NAMES = ("train", "analyse", "report")
SAID = (
    "Software-only: the network was run in PyTorch on a computer. No hardware was built or simulated.",
    "Error rate: the share of pixels, over all images that were tried, whose class one flipped bit changes, against "
    "the same network without faults (no label is needed); a pixel with a score that is no number has no class and has "
    "changed. A cell is the mean over its faults.",
    "The unit is the fault. Sample sizes were fixed beforehand, by parameter set, by Leveugle's formula; faults of a "
    "cell were drawn without replacement. 95 % intervals: betting without replacement for mean error rates, "
    "hypergeometric inversion for the share of faults that change any pixel; a cell of which every fault was tried has "
    "none. Ends of means over cells add in squares, which is nominal in simulation and not guaranteed.",
    "Images are one fixed set: intervals are about faults, not about other images.",
)


@dataclass(frozen=True)
class SensitivityRun:
    """A sensitivity flow and its folder."""

    flow: SensitivityFlow
    folder: Path
    runs: Path
    console: Console
    data: Path | None = None

    @property
    def device(self) -> str:
        """Where the network runs: cuda where torch has it, unless the flow says otherwise."""
        return device_of(self.flow.device)

    @cached_property
    def dataset(self) -> Dataset:
        """The dataset that the flow names."""
        return load_dataset(self.flow.dataset, self.data)

    @cached_property
    def trained(self) -> ClassicRun:
        """Every seed is trained, or found."""
        flow = self.flow
        with Progress(console=self.console, transient=True, disable=not self.console.is_terminal) as bars:
            return train_classic(
                flow.network, self.dataset, width=flow.width, data=self.data, seeds=flow.seeds, weights=flow.weights,
                cache=self.runs / flow.train_cache, device=flow.device, progress=bars,
            )  # fmt: skip

    def study(self, seed: int) -> Study:
        """The seed's network as the flow stores it, and the test images that its faults are judged on."""
        made, data = self.trained, self.dataset
        state = made.result(seed).state
        build = find_classic(made.name).build
        network: nn.Module = Trained(lambda: build(made.classes, made.channels, made.width), state)()
        if self.flow.prune is not None:
            network = self._pruned(network, self.flow.prune, seed)
        if self.flow.fold_batch_norm:
            network, _ = fold_batch_norm(network)
        some = data.train_images[: self.flow.calibration]
        if self.flow.clip_activations != "none":
            network, _ = clip_activations(network, normalised(data, some), self.flow.clip_activations)
        stored: Choose = as_float32
        if self.flow.quantize == "int8":
            made_of = quantize_int8(network, normalised(data, some))
            network, stored = made_of.network, made_of.stored()
        subject = Subject(made.name, lambda: network, state_sha256(state), data.test_images, data.test_labels)
        images, labels = subject.some(self.flow.analyse.images)
        folder = self.folder / "campaigns" / f"seed{seed}"
        taken = normalised(data, images)
        return Study(made.name, network.eval(), taken, labels, folder, stored, data.ignore, self.device)

    def _pruned(self, network: nn.Module, asked: Prune, seed: int) -> nn.Module:
        """The network with fewer channels, trained on, or found."""
        data = self.dataset
        some, labels = data.train_images[: asked.scored], data.train_labels[: asked.scored]
        first = RECIPES[find_classic(self.flow.network).recipe]
        recipe = replace(first, float_epochs=asked.epochs, float_learning_rate=RATE * first.float_learning_rate)

        def score(made: nn.Module) -> dict[str, float]:
            with torch.inference_mode():
                scores = made.eval()(torch.from_numpy(normalised(data, some))).numpy()
            return iou_of(classes_of(scores), labels, data.classes, data.ignore)

        def tune(made: nn.Module) -> nn.Module:
            return fine_tune(made, data, recipe, seed, self.device)

        pruned = prune_channels(network, data.image_shape, score, tune, shares=asked.shares, allowed=asked.allowed,
                                folder=self.runs / asked.folder)  # fmt: skip
        return pruned.network


def run_sensitivity(
    flow: SensitivityFlow,
    runs: Path,
    console: Console,
    to: str | None = None,
    force: str | None = None,
    data: Path | None = None,
) -> tuple[Path, dict[str, Any]]:
    """The flow has run up to stage `to` (None: the report); its folder and summary.

    `force` runs campaigns anew; trained seeds, which flows share, are never thrown away. ConfigError for a stage that
    is not there, a folder that another process uses, and what the flow asks in vain.
    """
    check_stage(KIND, "to", to, STAGE_NAMES)
    check_stage(KIND, "force", force, STAGE_NAMES[1:])
    run = open_sensitivity(flow, runs, console, data)
    with locked(run.folder):
        if force == "analyse":
            shutil.rmtree(run.folder / "campaigns", ignore_errors=True)
        last = STAGE_NAMES.index(to or "report")
        summary: dict[str, Any] = {}
        timed(run.console, "train", lambda: run.trained)
        if last >= 1:
            summary = timed(run.console, "analyse", lambda: _summary(run))
            atomic_write(run.folder / "summary.json", json.dumps(summary, indent=1) + "\n")
        if last >= 2:
            from bitward.report import write_report

            timed(run.console, "report", lambda: write_report(run.folder))
    return run.folder, summary


def open_sensitivity(flow: SensitivityFlow, runs: Path, console: Console, data: Path | None) -> SensitivityRun:
    """The run's folder is there; ConfigError for a network that labels images."""
    if find_classic(flow.network).labelled != "pixel":
        raise ConfigError(
            f"network of a sensitivity flow must label pixels, got {flow.network}, which labels images: leave out "
            "analyse, and it is a software-only flow"
        )
    return SensitivityRun(flow, output_directory(runs / flow.name), runs, console, data)


def _summary(run: SensitivityRun) -> dict[str, Any]:
    """What was found of every seed, and what it was found with."""
    flow, data = run.flow, run.dataset
    found = [_analysed(run, seed) for seed in flow.seeds]
    names = data.class_names or tuple(str(label) for label in range(data.classes))
    return {
        "kind": KIND,
        "flow": flow.name,
        "network": flow.network,
        "width": flow.width,
        "dataset": flow.dataset,
        "source": data.source,
        "stored_as": flow.stored_as,
        "class_names": list(names),
        "seeds": found,
        "reliability": _reliability(flow, found[0]["stored_bits"]),
        "said": list(SAID),
        "versions": versions(),
        "git": git_hash(),
        "device": run.device,
        "settings": flow.model_dump(mode="json"),
    }


def _analysed(run: SensitivityRun, seed: int) -> dict[str, Any]:
    """One seed's network."""
    flow, study, data = run.flow, run.study(seed), run.dataset
    with showing(run.console, f"  seed {seed}, single faults") as progress:
        rates, table = flip_rates(study, flow.analyse.sampling, progress)
    several: tuple[Several, ...] = ()
    asked = flow.analyse.several
    if asked is not None and seed in flow.seeds[: asked.seeds]:
        with showing(run.console, f"  seed {seed}, several flips") as progress:
            several = several_flips(study, asked.flips, asked.repetitions, flow.analyse.seed, flow.analyse.confidence,
                                    lambda _: progress)  # fmt: skip
    return {
        "seed": seed,
        "trained": run.trained.result(seed).scores,
        "stored": iou(study, normalised(data, data.test_images), data.test_labels),
        **summary_of(study, rates, table, several),
    }


def _reliability(flow: SensitivityFlow, stored_bits: int) -> dict[str, Any] | None:
    """FIT and upsets an hour of the stored parameters, by the FIT/Mb that the flow cites; None where it cites none."""
    asked = flow.reliability
    if asked is None:
        return None
    return {
        "fit_per_mb": asked.fit_per_mb,
        "source": asked.source,
        "fit": fit(stored_bits, asked.fit_per_mb),
        "upsets_per_hour": upsets_per_hour(stored_bits, asked.fit_per_mb),
    }
