# SPDX-License-Identifier: Apache-2.0
"""Outliers kept apart: every bit of the three memories, read anew by brute force, and the engine's shortcuts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from bitward.engine.pytorch import TorchEngine
from bitward.engine.pytorch.verdicts import UNKNOWN
from bitward.explore.design import Design, Point
from bitward.explore.scale import Scale
from bitward.faults import Ber, Fault
from bitward.formats import Float32, UInt
from bitward.metrics import memory_bits
from bitward.schemes import Plain, Secded, Tmr

OUT = {(0, 1): 2.5, (1, 0): -7.25, (1, 2): 3.0}  # of the second layer


def network() -> nn.Sequential:
    torch.manual_seed(5)
    made = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    with torch.no_grad():
        for place, value in OUT.items():
            made[2].weight[place] = value
    return made.eval()


DESIGNS = {
    "float32": Design(Point(32), "float32", beyond="apart"),
    "float16": Design(Point(16), "float16", beyond="apart"),
    "q2.5": Design(Point(8), "q2.5", beyond="apart"),
    "scaled": Design(Point(32), "float32", scale=Scale("layer", 6.9), beyond="apart"),
    "triple": Design(Point(8), "q2.5", beyond="apart_tmr"),
    "voted": Design(Point(16, "tmr", 2), "float16", beyond="apart"),
    "secded": Design(Point(16, "secded"), "bfloat16", scale=Scale("layer", 6.9), beyond="apart"),
}


def read_anew(engine: TorchEngine, name: str) -> np.ndarray:
    """What the three memories say now, by their formats and schemes alone; the scale is the storage's."""
    tensor = engine.stored(name)
    images = engine.images()

    def said(memory_name: str) -> np.ndarray:
        memory = engine.manifest.memory(memory_name)
        return memory.format.decode(memory.words(images[memory_name])[0].reshape(-1))

    factor = 1.0 if tensor._scale is None else tensor._scale
    with np.errstate(invalid="ignore", over="ignore"):
        values = (said(name) * factor).astype(np.float32)
    for place, value in zip(said(f"{name}.outliers.places"), said(f"{name}.outliers.values"), strict=True):
        if place < values.size:
            values[int(place)] = value
    return values


def same(found: np.ndarray, expected: np.ndarray) -> bool:
    """In single precision with a scale what was not hit is as it was before storing, within a rounding."""
    return np.allclose(found, expected, rtol=2e-7, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", DESIGNS)
def test_without_faults_outliers_are_what_they_were(name):
    made = network()
    before = made[2].weight.detach().clone().numpy()
    engine = TorchEngine(made, DESIGNS[name])
    found = engine.stored("2.weight").tensor.numpy()
    places = engine.stored("2.weight").apart
    assert len(places) >= 3 and np.array_equal(found.reshape(-1)[places], before.reshape(-1)[places])
    assert np.abs(found - before).max() < 0.02 and same(found.reshape(-1), read_anew(engine, "2.weight"))
    lowest, highest = engine.stored("2.weight").memory.format.bounds
    assert ((engine.stored("2.weight").said() >= lowest) & (engine.stored("2.weight").said() <= highest)).all()


def test_the_lists_are_memories_and_count_as_memory():
    point = Point(16, "tmr", 2)
    manifest = TorchEngine(network(), Design(point, "float16", beyond="apart")).manifest
    places, values = (manifest.memory(f"2.weight.outliers.{each}") for each in ("places", "values"))
    assert (places.format, places.scheme, places.role, places.shape) == (UInt(3), Tmr(3, 2), "outlier", (3,))
    assert (values.format, values.scheme) == (Float32(), Tmr(32, 2))
    bits = memory_bits(manifest)["total"]
    assert bits.parameters == 12 and bits.stored_bits == 12 * 20 + 3 * (3 + 4) + 3 * (32 + 4)
    secded = TorchEngine(network(), DESIGNS["secded"]).manifest
    assert secded.memory("2.weight.outliers.values").scheme == Secded(32, 1)
    kept = TorchEngine(network(), Design(Point(16), "float16", scale=Scale("layer", 1.99), beyond="apart")).manifest
    assert {memory.role for memory in kept.memories} == {"weight"}, "no outliers, no lists"
    full = TorchEngine(network(), Design(Point(16, "tmr", 16), "float16", beyond="apart")).manifest
    assert full.memory("2.weight.outliers.places").scheme == Tmr(3, 3)
    triple = TorchEngine(network(), Design(Point(8), "q2.5", beyond="apart_tmr")).manifest
    assert [each.scheme for each in triple.memories] == [Plain(8), Plain(8), Tmr(3, 3), Tmr(32, 32)]
    assert {m.scheme for m in TorchEngine(network(), DESIGNS["q2.5"]).manifest.memories} == {
        Plain(8), Plain(3), Plain(32),
    }  # fmt: skip


@pytest.mark.parametrize("name", DESIGNS)
def test_every_bit_of_every_memory_by_brute_force(name):
    engine = TorchEngine(network(), DESIGNS[name])
    golden = engine.stored("2.weight").tensor.clone()
    moved = 0
    for memory in engine.manifest.memories:
        for word, bit in itertools.product(range(memory.depth), range(memory.width) if memory.layer == "2" else ()):
            engine.inject([Fault(memory.name, word, bit)])
            found = engine.stored("2.weight").tensor.numpy().reshape(-1)
            assert same(found, read_anew(engine, "2.weight")), (memory.name, word, bit)
            moved += memory.name.endswith("places") and not np.array_equal(found, golden.numpy().reshape(-1))
            engine.restore()
            assert torch.equal(engine.stored("2.weight").tensor, golden)
    assert (moved >= 9) == (name not in ("triple", "voted", "secded")), "an upset of a place moves a value"


def test_many_faults_at_once_and_restored_in_any_order():
    engine = TorchEngine(network(), DESIGNS["float16"])
    golden, images = engine.stored("2.weight").tensor.clone(), engine.images()
    model = Ber(engine.manifest, 3, ber=0.1)
    for number in range(60):
        engine.inject(model.trial(number))
        assert same(engine.stored("2.weight").tensor.numpy().reshape(-1), read_anew(engine, "2.weight")), number
        for name in np.random.default_rng(number).permutation([each.name for each in engine.manifest.memories]):
            engine.stored(str(name)).restore()
        assert torch.equal(engine.stored("2.weight").tensor, golden)
        assert all(np.array_equal(image, images[name]) for name, image in engine.images().items())


@pytest.mark.parametrize("name", ["float32", "q2.5", "secded"])
def test_the_engines_shortcuts_give_what_the_network_gives(name):
    engine = TorchEngine(network(), DESIGNS[name])
    images = np.random.default_rng(1).standard_normal((6, 2)).astype(np.float32)
    trials = [
        [Fault(memory.name, word, bit)]
        for memory in engine.manifest.memories
        for word in range(min(2, memory.depth))
        for bit in range(memory.width)
    ]
    trials += [list(a) + list(b) for a, b in itertools.islice(zip(trials, trials[7:], strict=False), 0, 200, 9)]
    outcomes = [outputs for outputs, _, _ in engine.outcomes(images, trials)]
    verdicts = engine.verdicts(images, trials)
    for trial, outputs, verdict in zip(trials, outcomes, verdicts, strict=True):
        engine.inject(trial)
        with np.errstate(all="ignore"):
            expected = engine.infer(images)
        engine.restore()
        assert np.allclose(outputs, expected, rtol=1e-4, atol=1e-5, equal_nan=True), trial
        assert ".outliers." not in trial[0].memory or verdict == UNKNOWN, "no first order says what a list's fault does"
