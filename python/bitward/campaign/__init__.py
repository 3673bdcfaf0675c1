# SPDX-License-Identifier: Apache-2.0
"""Campaigns: trials injected into a target, and a store of them that survives kill -9.

    campaign = Campaign("rtl", manifest, golden, faults, images, parameters={"seed": 1})
    with TrialStore.open(directory, campaign.spec()) as store:
        result = run_campaign(campaign, partial(RtlTarget, build_dir), store, workers=2)
    table = TrialStore.load(directory).read()

The table has a row for each trial.
"""

from bitward.campaign.metrics import METRICS
from bitward.campaign.plan import Campaign, Screen
from bitward.campaign.recorded import recorded_trials, trial_faults
from bitward.campaign.runner import CampaignResult, run_campaign
from bitward.campaign.store import SCHEMA, TrialStore, verdicts_sha256
from bitward.campaign.trial import Trial

__all__ = [
    "METRICS",
    "SCHEMA",
    "Campaign",
    "CampaignResult",
    "Screen",
    "Trial",
    "TrialStore",
    "recorded_trials",
    "run_campaign",
    "trial_faults",
    "verdicts_sha256",
]
