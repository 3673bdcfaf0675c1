# SPDX-License-Identifier: Apache-2.0
"""Campaigns on the torch engine: screened with an audit, stopped when sure, the same for any number of workers."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch_networks

from bitward.campaign import Campaign, Screen, TrialStore, run_campaign
from bitward.engine.pytorch import as_integers
from bitward.faults import Ber, Uniform
from bitward.statistics import Stopping
from bitward.targets.torch import TorchTarget

IMAGES = torch_networks.images(8).numpy()


def int8(name, role, tensor):
    """Weights as 8-bit integers; a function of a module, so that workers can have it."""
    return as_integers(8)(name, role, tensor)


TARGET = partial(TorchTarget, partial(torch_networks.calibrated, "chain"), int8)


def campaign(model=Uniform, **options) -> Campaign:
    with TARGET() as target:
        faults = model(target.manifest, **options.pop("model_options", {}))
        return Campaign("torch", target.manifest, target.engine.images(), faults, IMAGES, **options)


def table(folder: Path, plan: Campaign, workers: int = 1):
    with TrialStore.open(folder, plan.spec()) as store:
        result = run_campaign(plan, TARGET, store, workers=workers)
        return result, store.read()


def verdicts(rows) -> list[tuple]:
    return [(row["trial"], tuple(row["faults"]), row["top1_changed"]) for row in rows.to_pylist()]


def test_every_trial_is_judged_and_says_its_path(tmp_path):
    result, rows = table(tmp_path, campaign(trials=200))
    assert result.restored_golden and result.trials == 200
    assert set(rows["path"].to_pylist()) <= {"masked", "delta", "suffix", "again"}
    changed = [row["top1_changed"] > 0 for row in rows.to_pylist()]
    assert 0 < sum(changed) < 150
    assert all(row["outputs_changed"] == 0 for row in rows.to_pylist() if row["path"] == "masked")
    assert sum(row["outputs_changed"] for row in rows.to_pylist()) < 0.95 * 200 * len(IMAGES)  # no noise of rounding


@pytest.mark.slow
def test_workers_find_the_same(tmp_path):
    one, two = (table(tmp_path / str(workers), campaign(trials=150), workers)[1] for workers in (1, 2))
    assert verdicts(one) == verdicts(two)


def test_a_bit_error_rate_hits_many_weights_at_once(tmp_path):
    _, rows = table(tmp_path, campaign(Ber, trials=20, model_options={"ber": 2e-3}))
    flips = rows["flips"].to_pylist()
    assert max(flips) > 10 and min(flips) < max(flips)
    assert {row["path"] for row in rows.to_pylist() if row["flips"] > 1} <= {"suffix", "again"}


def test_a_screen_with_an_audit_agrees_with_running_everything(tmp_path):
    _, everything = table(tmp_path / "all", campaign(trials=600))
    truth = np.mean([row["top1_changed"] / len(IMAGES) for row in everything.to_pylist()])
    rule = Stopping("top1_change_rate", margin=0.04, method="betting", least=100)
    plan = campaign(trials=600, stopping=rule, screen=Screen(audit=0.2))
    result, rows = table(tmp_path / "screened", plan)
    assert rows["path"].to_pylist().count("screened") > 0.1 * len(rows)
    assert result.interval is not None and result.interval.low <= truth <= result.interval.high
