# SPDX-License-Identifier: Apache-2.0
"""Faults and the models that draw them. One definition for the engine, the RTL and the board (DESIGN.md).

Draws depend on the seed, the model and the number of the trial alone (those stratified: on the memory's name and the
stored bit), never on how many trials there are or who computes them. Only numpy's raw PCG64 stream is used, which numpy
keeps stable, so a board with an older numpy draws the same faults.

    model = Ber(manifest, seed=1, ber=1e-4)
    model.trial(17)        # the faults of trial 17, all there at once
    model.to_dict()        # what a store keeps; fault_model(manifest, ...) makes it again

A new model is one file here, and a line in `models.py`.
"""

from bitward.faults.ber import Ber
from bitward.faults.burst import Burst
from bitward.faults.exact import Exact
from bitward.faults.fault import Fault, Kind
from bitward.faults.faults import Faults, fault_text, faults_sha256, parse_trial
from bitward.faults.layers import Layers
from bitward.faults.model import FaultModel, Sampler, Trial
from bitward.faults.models import SAMPLERS, fault_model
from bitward.faults.population import Population, every_fault
from bitward.faults.replay import Replay
from bitward.faults.single import Single, single_bit_stratified
from bitward.faults.uniform import Uniform

__all__ = [
    "SAMPLERS",
    "Ber",
    "Burst",
    "Exact",
    "Fault",
    "FaultModel",
    "Faults",
    "Kind",
    "Layers",
    "Population",
    "Replay",
    "Sampler",
    "Single",
    "Trial",
    "Uniform",
    "every_fault",
    "fault_model",
    "fault_text",
    "faults_sha256",
    "parse_trial",
    "single_bit_stratified",
]
