# SPDX-License-Identifier: Apache-2.0
"""The faults of a campaign that was, for another one or for a single trial."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bitward.campaign.store import TrialStore
from bitward.campaign.trial import Trial
from bitward.errors import FormatError, StoreError
from bitward.faults import Fault, fault_model, faults_sha256
from bitward.faults import Trial as Faults
from bitward.manifest import Manifest


def recorded_trials(directory: Path, manifest: Manifest) -> tuple[Faults, ...]:
    """The faults of every trial in a store, ordered by number; StoreError where there is none."""
    store = TrialStore.load(directory)
    found = tuple(trial_faults(trial, store.spec, manifest) for trial in store.trials())
    if not found:
        raise StoreError(f"{directory} must hold a campaign's trials, got none yet: run its campaign first")
    return found


def trial_faults(trial: Trial, spec: Mapping[str, Any], manifest: Manifest) -> Faults:
    """The faults of a row, as it lists them or, where they were too many, as the spec's model draws them again.

    StoreError where what is drawn is not what was injected.
    """
    if trial.faults is not None:
        return tuple(map(Fault.parse, trial.faults))
    try:
        drawn = fault_model(manifest, spec["model"]).trial(trial.trial)
    except (KeyError, FormatError) as error:
        raise StoreError(
            f"the faults of trial {trial.trial} must be drawn from the spec's model again, got {error}: use the "
            "manifest of the campaign's own build"
        ) from error
    if faults_sha256(drawn) != trial.faults_sha256:
        raise StoreError(
            f"the faults of trial {trial.trial} must be those that were injected, got others: use the manifest of the "
            "campaign's own build"
        )
    return drawn
