# SPDX-License-Identifier: Apache-2.0
"""Builds whose biases are hardened in either form: function, masked upsets, cycles; engine and RTL agree on both."""

from __future__ import annotations

import json

import numpy as np
import pytest
import small_networks
from small_networks import export

from bitward.faults import every_fault
from bitward.flow.verify import run_qonnx, verify_build
from bitward.hardware.build import build
from bitward.hardware.declare import BuildOptions
from bitward.manifest import Manifest, apply_edge
from bitward.rewrites import harden_model
from bitward.schemes import Plain, Tmr
from bitward.targets.engine import EngineTarget
from bitward.targets.rtl import RtlTarget

FOLDING = {"conv": {"PE": 2, "SIMD": 3}}
FORMS = {"add": "bias", "threshold": "threshold"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A small network, and the same one with hardened biases: (plain QONNX, hardened QONNX, images)."""
    folder = tmp_path_factory.mktemp("bias_builds")
    made = export(small_networks.convolutional(), folder / "model.onnx", seed=3)
    harden_model(made.path, folder / "hard.onnx", bias="tmr")
    return made, folder / "hard.onnx"


@pytest.fixture(scope="module", params=FORMS)
def twins(request, network, tmp_path_factory):
    """The form, the build without protection and the protected one, both of the model with integer biases."""
    _, hard = network
    folder = tmp_path_factory.mktemp(request.param)
    for name, bias in (("plain", "none"), ("hard", "model")):
        build(hard, folder / name, BuildOptions("none", bias=bias, bias_as=request.param, folding=FOLDING))
    return request.param, folder / "plain", folder / "hard"


def test_both_compute_the_hardened_qonnx_also_with_stalls(twins, network):
    made, hard = network
    images = made.images(24)
    expected = run_qonnx(hard, images)
    assert len(np.unique(expected, axis=0)) > 12  # else equality would say little
    for folder in twins[1:]:
        found = verify_build(folder, images, expected, stall=0.4)
        assert (found["equal"], found["equal_with_stalls"]) == (24, 24)


def test_the_memory_that_holds_the_biases_is_in_triplicate_and_says_what_it_is(twins):
    form, plain, hard = twins
    name = f"conv.{FORMS[form]}"
    before, after = (Manifest.load(folder / "manifest.json").memory(name) for folder in (plain, hard))
    assert before.role == after.role == FORMS[form]
    assert (before.scheme, after.scheme) == (Plain(before.format.bits), Tmr(before.format.bits, before.format.bits))
    others = [m for m in Manifest.load(hard / "manifest.json").memories if m.name != name]
    assert {type(memory.scheme) for memory in others} == {Plain}


def test_hardening_costs_no_cycle_an_image(twins):
    cycles = [json.loads((folder / "build.json").read_text())["cycles"] for folder in twins[1:]]
    assert cycles[0]["steady_per_image"] == cycles[1]["steady_per_image"]


def test_every_upset_is_masked_and_engine_and_rtl_agree_on_what_is_not(twins, network):
    form, plain, hard = twins
    name = f"conv.{FORMS[form]}"
    images = None
    changed = {}
    for folder in (plain, hard):
        manifest = Manifest.load(folder / "manifest.json")
        faults = list(every_fault(manifest, name))
        faults = [faults[at] for at in np.random.default_rng(1).permutation(len(faults))[:150]]
        images = apply_edge(manifest.io.pre, network[0].images(4, seed=7)).astype(np.int64)
        changed[folder] = 0
        with EngineTarget(folder) as engine, RtlTarget(folder) as rtl:
            golden = rtl.infer(images)
            for fault in faults:
                outputs = []
                for target in (engine, rtl):
                    target.inject(fault)
                    outputs.append(target.infer(images))
                    target.restore(fault)
                assert np.array_equal(*outputs), fault
                changed[folder] += not np.array_equal(outputs[1], golden)
    assert changed[plain] > 0 and changed[hard] == 0
