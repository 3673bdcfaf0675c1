# SPDX-License-Identifier: Apache-2.0
"""Statistics of campaigns: intervals, sequences that may be stopped, strata, screens, pairs, variance components.

The unit is the fault. A trial's value is a mean over a fixed set of images, 0 to 1 (a share of changed images or
pixels, an IoU, the accuracy under the fault: its drop is the golden accuracy less that), or 0 or 1 (critical or not);
images are never counted as trials of their own.
"""

from bitward.statistics.allocation import allocate, pilot_deviation
from bitward.statistics.beta_binomial import BetaBinomial
from bitward.statistics.betting import Betting
from bitward.statistics.components import (
    Components,
    Costs,
    Split,
    best_split,
    split_for,
    standard_error,
    variance_components,
)
from bitward.statistics.confidence_sequence import ConfidenceSequence
from bitward.statistics.correlation import pearson
from bitward.statistics.empirical_bernstein import EmpiricalBernstein
from bitward.statistics.fixed import exact, finite
from bitward.statistics.interval import Interval
from bitward.statistics.methods import sequence
from bitward.statistics.paired import Discordant, mcnemar, paired_difference
from bitward.statistics.screening import ScreenedSequence, Screening, screened_share
from bitward.statistics.stopping import Method, Stopping
from bitward.statistics.stratified import StratifiedSequence, StratumTrials, stratified_share
from bitward.statistics.student import student

__all__ = [
    "BetaBinomial",
    "Betting",
    "Components",
    "ConfidenceSequence",
    "Costs",
    "Discordant",
    "EmpiricalBernstein",
    "Interval",
    "Method",
    "ScreenedSequence",
    "Screening",
    "Split",
    "Stopping",
    "StratifiedSequence",
    "StratumTrials",
    "allocate",
    "best_split",
    "exact",
    "finite",
    "mcnemar",
    "paired_difference",
    "pearson",
    "pilot_deviation",
    "screened_share",
    "sequence",
    "split_for",
    "standard_error",
    "stratified_share",
    "student",
    "variance_components",
]
