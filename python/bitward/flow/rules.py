# SPDX-License-Identifier: Apache-2.0
"""From a flow's `inject` section to what a campaign takes: a fault model, and the rules of its plan."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from bitward.campaign import Screen, recorded_trials
from bitward.errors import ConfigError
from bitward.faults import FaultModel, Replay, fault_model
from bitward.flow.spec import Inject
from bitward.manifest import Manifest
from bitward.metrics import sample_size
from bitward.statistics import Method, Stopping

MARGIN = 0.025  # what the sample size is for where none is given
MOST = 10_000_000  # trials after which a campaign ends whose margin is still not reached


@dataclass(frozen=True)
class Rules:
    """What is fixed before the first trial (see `bitward.campaign.Campaign`), and Dask's scheduler if one is used."""

    trials: int | None = None
    stopping: Stopping | None = None
    screen: Screen | None = None
    timeout_s: float | None = None
    scheduler: str | None = None


def model_of(settings: Inject, manifest: Manifest) -> FaultModel:
    """The fault model that the settings name; ConfigError or FormatError where they do not fit together."""
    if settings.model == "replay":
        return _recorded(settings, manifest)
    if settings.faults_from is not None:
        raise ConfigError(
            f"faults_from must go with the model replay, got {settings.faults_from} with {settings.model}: leave it out"
        )
    parameters = settings.model_dump(include={"model", "seed", "memories", "bits", "stuck", "flips", "ber", "burst"})
    own = {"per_stratum": settings.per_stratum} if settings.model == "single" else {}
    return fault_model(manifest, {**parameters, **own})


def rules_of(settings: Inject, model: FaultModel, scheduler: str | None = None) -> Rules:
    """The rules that the settings name.

    Without a margin, a drawn sample is as large as it is told, or as Leveugle's formula asks for 2.5 points at 95 %,
    and its interval is that of a fixed number of trials; a list is run as a whole, and has none.
    """
    method: Method
    is_mean = settings.metric == "top1_change_rate"
    trials = settings.trials
    if settings.margin is not None:
        trials = trials or min(MOST, model.trials or MOST)
        method = settings.method or ("betting" if is_mean else "beta-binomial")
        stopping = Stopping(settings.metric, settings.margin, settings.confidence, method, most=trials)
    elif model.is_sample:
        trials = trials or sample_size(model.trials or math.inf)
        least = min(trials, model.trials or trials)
        method = settings.method or ("betting" if is_mean else "fixed")
        stopping = Stopping(settings.metric, MARGIN, settings.confidence, method, least, most=trials)
    else:
        stopping = None
    screen = None if settings.audit is None else Screen(settings.audit, settings.seed)
    return Rules(trials, stopping, screen, settings.timeout_s, scheduler)


def _recorded(settings: Inject, manifest: Manifest) -> Replay:
    path: Path | None = settings.faults_from
    if path is None:
        raise ConfigError("faults_from must name a campaign's folder or a text file for the model replay, got nothing")
    for name in ("flips", "ber", "burst", "stuck", "bits", "memories"):
        if getattr(settings, name) is not None:
            raise ConfigError(
                f"{name} must not be given with the model replay, got {getattr(settings, name)}: the list says which "
                "faults there are"
            )
    return Replay(recorded_trials(path, manifest)) if path.is_dir() else Replay.read(path)
