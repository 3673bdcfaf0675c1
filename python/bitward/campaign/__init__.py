# SPDX-License-Identifier: Apache-2.0
"""Campaigns: every fault injected into a target once, and a store of trials that survives kill -9.

with TrialStore.open(directory, spec) as store:
    result = run_campaign(campaign, target_factory, store)
table = TrialStore.load(directory).read()
"""

from bitward.campaign.runner import Campaign, CampaignResult, run_campaign
from bitward.campaign.store import SCHEMA, Trial, TrialStore

__all__ = ["SCHEMA", "Campaign", "CampaignResult", "Trial", "TrialStore", "run_campaign"]
