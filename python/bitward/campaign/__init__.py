# SPDX-License-Identifier: Apache-2.0
"""Campaigns: every fault injected into a target once, and a store of trials that survives kill -9.

campaign = Campaign("rtl", manifest, golden, faults, images, parameters={"seed": 1})
with TrialStore.open(directory, campaign.spec()) as store:
    result = run_campaign(campaign, partial(RtlTarget, build_dir), store, workers=2)
table = TrialStore.load(directory).read()
"""

from bitward.campaign.runner import Campaign, CampaignResult, run_campaign
from bitward.campaign.store import SCHEMA, Trial, TrialStore

__all__ = ["SCHEMA", "Campaign", "CampaignResult", "Trial", "TrialStore", "run_campaign"]
