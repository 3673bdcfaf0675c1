# SPDX-License-Identifier: Apache-2.0
"""`bitward inject FLOW --on torch`: one campaign, as a person asks for it, on a flow of a float network; and again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from bitward.campaign import Campaign, run_campaign
from bitward.campaign.progress import showing
from bitward.errors import ConfigError
from bitward.faults import Ber, FaultModel, Layers
from bitward.flow.attack import Again, holds_its_memories, once_more, open_store, recorded_trial
from bitward.flow.cache import locked
from bitward.flow.rules import model_of, rules_of
from bitward.flow.software import open_software
from bitward.flow.software_spec import SoftwareFlow
from bitward.flow.spec import Inject
from bitward.flow.stages import found_in
from bitward.targets.torch import TorchTarget


@dataclass(frozen=True)
class Where:
    """Where a campaign's files lie, and who computes it."""

    runs: Path
    data: Path | None = None
    workers: int = 1
    scheduler: str | None = None
    restart: bool = False


def defaults_of(flow: SoftwareFlow) -> Inject:
    """What the flow says of a campaign; the rest is as for any flow: single bits, stratified."""
    return Inject(seed=flow.inject.seed, images=flow.inject.images)


def inject_software(
    flow: SoftwareFlow, settings: Inject, where: Where, console: Console
) -> tuple[Path, dict[str, Any]]:
    """The campaign is done on the flow's first seed; its folder and what it found, software-only."""
    run = open_software(flow, where.runs, console, where.data)
    seed = flow.seeds[0]
    with locked(run.folder):
        subject = run.subjects()[seed]
        bench = run.bench(subject, seed)
        images, labels = subject.some(settings.images)
        model = _assuming(flow, model_of(settings, bench.manifest))
        rules = rules_of(settings, model, where.scheduler)
        campaign = Campaign(
            "torch", bench.manifest, bench.images(), model, images, labels,
            parameters={**bench.identity, "flow": flow.name, "seed": settings.seed},
            trials=rules.trials, stopping=rules.stopping, screen=rules.screen, timeout_s=rules.timeout_s,
        )  # fmt: skip
        name = "inject-torch" if settings.model == "single" else f"inject-{settings.model}-torch"
        folder = run.folder / "campaigns" / name
        factory = partial(TorchTarget, *bench.parts)
        with open_store(folder, campaign.spec(), where.restart) as store, showing(console, f"  {name}") as progress:
            ended = run_campaign(
                campaign, factory, store, workers=where.workers, scheduler=rules.scheduler, progress=progress
            )
    return folder, found_in(folder, ended)


def _assuming(flow: SoftwareFlow, model: FaultModel) -> FaultModel:
    """The model, with exponents safe where the flow has them so; ConfigError where the model knows no such thing."""
    if not flow.inject.safe_exponents:
        return model
    if not isinstance(model, (Ber, Layers)):
        raise ConfigError(
            f"--model must be ber or layers for a flow whose inject.safe_exponents is true, got {model.name}: leave it "
            "out of the flow for other models"
        )
    return replace(model, safe_exponents=True)


def replay_software(flow: SoftwareFlow, where: Where, console: Console, directory: Path, number: int) -> Again:
    """Trial `number` of the campaign in `directory` is run once more, on the flow's seed that it was run on.

    ConfigError as `run_again` raises it, and where no seed of the flow has the campaign's memories.
    """
    store, trial = recorded_trial(directory, number)
    run = open_software(flow, where.runs, console, where.data)
    for seed, subject in run.subjects().items():
        bench = run.bench(subject, seed)
        if holds_its_memories(store, bench.images()):
            with TorchTarget(*bench.parts) as target:
                return once_more(store, trial, target)
    raise ConfigError(f"the flow {flow.name} must be the campaign's, got one of other memories: name its own by --flow")
