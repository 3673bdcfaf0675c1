# SPDX-License-Identifier: Apache-2.0
"""Points and designs: names, stored bits, how tensors are stored, and what is refused."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from torch import nn

from bitward.engine.pytorch import store
from bitward.errors import ConfigError
from bitward.explore.design import Design, Point
from bitward.formats import Float32, Int, UInt
from bitward.schemes import Plain, Secded, Tmr


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(16, 5))


STORED = {  # of a word of that many bits, by hand
    Point(8): 8, Point(3, "tmr", 1): 5, Point(5, "tmr", 2): 9, Point(4, "tmr", 4): 12,
    Point(4, "secded"): 8, Point(8, "secded"): 13, Point(3, "secded"): 7,
}  # fmt: skip


@pytest.mark.parametrize("point", STORED, ids=str)
def test_a_point_takes_so_many_bits_a_weight(point):
    assert point.stored_bits == STORED[point]
    manifest, _ = store(network(), Design(point))
    assert manifest.population == STORED[point] * (4 * 2 * 9 + 16 * 5)


def test_formats_and_schemes_are_those_of_the_design():
    for design, made, scheme in (
        (Design(Point(3, "tmr", 1)), UInt(3), Tmr(3, 1)),
        (Design(Point(4, "secded"), "symmetric"), Int(4), Secded(4, 1)),
        (Design(Point(32), "float32"), Float32(), Plain(32)),
    ):
        manifest, _ = store(network(), pickle.loads(pickle.dumps(design)))
        assert {(memory.format, memory.scheme) for memory in manifest.memories} == {(made, scheme)}
        assert {memory.role for memory in manifest.memories} == {"weight"}


def test_biases_are_memories_where_they_are_asked_for():
    manifest, _ = store(network(), Design(Point(5), biases=True))
    assert [memory.role for memory in manifest.memories] == ["weight", "bias", "weight", "bias"]


def test_weights_per_channel_are_equations_1_to_5():
    made = network()
    before = made[0].weight.detach().numpy().astype(np.float64).copy()
    store(made, Design(Point(3), per="channel"))
    flat = before.reshape(4, -1)
    least, most = flat.min(axis=1, keepdims=True), flat.max(axis=1, keepdims=True)
    scale = (most - least) / 7
    expected = np.rint((flat - least) / scale) * scale + least
    assert np.allclose(made[0].weight.detach().numpy().reshape(4, -1), expected, atol=1e-6)


def test_layers_are_stored_otherwise_where_they_are_named():
    design = Design(Point(4, "tmr", 1), layers=(("2", Point(3, "tmr", 1)),))
    manifest, _ = store(network(), design)
    assert [str(memory.scheme) for memory in manifest.memories] == [str(Tmr(4, 1)), str(Tmr(3, 1))]
    assert str(design) == "P-4-bit, 2 P-3-bit" and design.to_dict()["layers"]["2"]["bits"] == 3
    many = Design(Point(8), layers=tuple((f"{n}", Point(3)) for n in range(4)))
    assert str(many) == "8-bit, 4 layers otherwise"


REFUSED = {
    "^voted must be 1 to 3 with the scheme tmr and 3 bits, got 4: it is how": lambda: Point(3, "tmr", 4),
    "^voted must be 0 with the scheme plain and 3 bits, got 1: it is how": lambda: Point(3, voted=1),
    "^a point's scheme must be a known one, got 'tmrr'; did you mean 'tmr'": lambda: Point(3, "tmrr"),
    "^bits must be 2 to 16 in the format affine, got 1: choose": lambda: Design(Point(1)),
    "^bits must be 32 in the format float32, got 8: choose": lambda: Design(Point(8), "float32"),
    "^biases must be false in the format symmetric, got true: take": lambda: Design(Point(8), "symmetric", biases=True),
}  # fmt: skip


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_is_refused(message):
    with pytest.raises(ConfigError, match=message):
        REFUSED[message]()
