# SPDX-License-Identifier: Apache-2.0
"""Exponent protection under upsets: which bit is risky, against trying all of them; harm, against a naive loop."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import tiny_unet
import torch

from bitward.engine.pytorch import as_integers
from bitward.errors import ConfigError
from bitward.rewrites import at_risk, protect_exponents
from bitward.sensitivity.protection import protection, risky_bit


def test_the_risky_bit_is_the_one_that_lifts_a_value_above_1_or_to_no_number():
    """Every exponent: the one upset of bits 24 to 30 that makes 2^k * 1.5 at least 1 and below 2, or not finite."""
    exponents = np.arange(1, 255, dtype=np.uint32)
    values = (exponents << 23 | 1 << 22).view(np.float32)
    found = risky_bit(values)
    assert np.array_equal(found >= 0, at_risk(values))
    for value, bit in zip(values, found, strict=True):
        lifted = []
        for each in range(24, 31):
            after = (np.array([value]).view(np.uint32) ^ np.uint32(1 << each)).view(np.float32)[0]
            if not np.isfinite(after) or (value < 1 and 1 <= after < 2):
                lifted.append(each)
        assert bit == (lifted[0] if len(lifted) == 1 and value < 2 else -1), value


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Some parameters right above or below a power of two."""
    network = tiny_unet.network()
    with torch.no_grad():
        network.enc1.bn1.weight.copy_(torch.tensor([1.0004, 1.3]))
        network.enc1.conv1.weight[0, 0, 0] = torch.tensor([0.2502, -0.2501, 0.3])
        network.head.bias.copy_(torch.tensor([1.0008, -0.0626, 0.2503, -0.4]))
    return tiny_unet.study(tmp_path_factory.mktemp("study"), made=network)


def test_what_moves_and_what_upsets_of_it_do_is_what_a_naive_loop_finds(study):
    (found,) = protection(study, ["PT1"], per_bit=50)
    protected = copy.deepcopy(study.network)
    candidates: dict[int, list[tuple[str, int]]] = {}
    for name, tensor in protected.named_parameters():
        values, changed = protect_exponents(tensor.numpy(), 1.001, 1.999)
        for word in np.flatnonzero(changed.reshape(-1)):
            bit = int(risky_bit(tensor.numpy().reshape(-1)[word]))
            candidates.setdefault(bit, []).append((name, int(word)))
        tensor.copy_(torch.from_numpy(values))
    assert found.moved == sum(map(len, candidates.values())) >= 4
    golden = tiny_unet.classes(study.network, study.images)
    assert found.changed == np.mean(tiny_unet.classes(protected, study.images) != golden)
    assert [row.bit for row in found.bits] == sorted(candidates, reverse=True)
    for row in found.bits:
        assert row.candidates == len(candidates[row.bit])
        for network, harm in ((study.network, row.before), (protected, row.after)):
            errors = []
            for name, word in candidates[row.bit]:
                faulty = copy.deepcopy(network)
                faulty.get_parameter(name).numpy().reshape(-1).view(np.uint32)[word] ^= np.uint32(1 << row.bit)
                errors.append(np.mean(tiny_unet.classes(faulty, study.images) != golden))
            assert harm.error.estimate == pytest.approx(np.mean(errors)) and harm.error.trials == len(errors)
            assert harm.error.low == harm.error.high, "every candidate was tried"
    at_msb = next(row for row in found.bits if row.bit == 30)
    assert at_msb.before.error.estimate > at_msb.after.error.estimate, "no gamma becomes infinite or NaN any more"


def test_fewer_candidates_are_drawn_where_asked(study):
    (found,) = protection(study, ["PT4"], per_bit=1)
    assert all(row.before.error.trials == 1 == row.after.error.trials for row in found.bits)
    assert any(row.candidates > 1 and row.before.error.low < row.before.error.high for row in found.bits)


def test_integers_cannot_be_protected_so(tmp_path):
    made = tiny_unet.study(tmp_path, choose=as_integers(8))
    with pytest.raises(ConfigError, match=r"^memory enc1\.conv1\.weight must be in single precision to be protected, "):
        list(protection(made))
