# SPDX-License-Identifier: Apache-2.0
"""What single event upsets do to networks that label pixels: which parameter sets and bits matter, and why.

study = Study("unet", network, images, labels, Path("runs/unet"), choose)
rates, table = flip_rates(study, Sampling(margin=0.025))

study.py        a network as it is stored, its images, its campaigns (resumable)
pixels.py       a target whose decisions are pixels
sets.py         parameter sets: a layer's parameters of one role
sample.py       which faults are tried
rates.py        error rates by set and bit, with intervals
explain.py      what goes with them: signs, ranges, bits needed
output_bias.py  the analytic prediction for the output layer's biases, beside injection
several.py      many flips at once
"""

from __future__ import annotations

from bitward.sensitivity.pixels import PixelTarget
from bitward.sensitivity.rates import Cell, Rates, flip_rates, rates_of
from bitward.sensitivity.sample import Sampling, faults_of
from bitward.sensitivity.sets import FLOAT_BITS, ParameterSet, parameter_sets
from bitward.sensitivity.study import Study, error_rates

__all__ = [
    "FLOAT_BITS",
    "Cell",
    "ParameterSet",
    "PixelTarget",
    "Rates",
    "Sampling",
    "Study",
    "error_rates",
    "faults_of",
    "flip_rates",
    "parameter_sets",
    "rates_of",
]
