# SPDX-License-Identifier: Apache-2.0
"""Accuracy and vulnerability of a small trained network, against naive loops; what is kept is not done again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tiny_classic
import torch

import bitward
from bitward.errors import ConfigError, StoreError
from bitward.explore import evaluate as evaluate_module
from bitward.explore.design import Design, Point
from bitward.explore.evaluate import SOURCES, Bench, Rate, Rules
from bitward.explore.ledger import Ledger
from bitward.explore.search import Evaluation
from bitward.explore.subject import accuracy
from bitward.statistics import student

RULES = Rules(trials=8, images=48)


@pytest.fixture(scope="module")
def subject():
    return tiny_classic.subject()


P4 = Point(4, "tmr", 1)


def bench(subject, folder, point=P4, rules=RULES) -> Bench:
    design = Design(point, per="channel")
    return Bench(subject, design, design.to_dict(), folder, rules)


def naive(made: Bench, rate: Rate) -> list[float]:
    """The accuracy lost in each trial: each weight of the network rebuilt, bit by bit, from Python integers."""
    target = made._target
    images, labels = made.subject.some(made.rules.images)
    clean = made.subject.make()
    stored = {memory.name: target.engine.stored(memory.name) for memory in made.manifest.memories}
    golden = {name: image[:, 0].tolist() for name, image in made.images().items()}
    network = target.engine.network
    before = accuracy(network, images, labels)
    lost = []
    for number in range(made.rules.trials):
        copy = {name: list(words) for name, words in golden.items()}
        faults = rate.model(made.manifest, made.rules.seed).trial(number)
        for fault in faults:
            copy[fault.memory][fault.word] ^= 1 << fault.bit
        clean.load_state_dict(network.state_dict())
        tensors = dict(clean.named_parameters())
        for name, words in copy.items():
            for word in {fault.word for fault in faults if fault.memory == name}:
                tensors[name].data.view(-1)[word] = _value(stored[name], words[word], word)
        lost.append(before - accuracy(clean, images, labels))
    return lost


def _value(stored, word: int, index: int) -> float:
    """What a P-4-bit affine word stands for, by FORTUNE's figure 4: three copies of the MSB, a majority."""
    copies = [word >> 3 & 1, word >> 4 & 1, word >> 5 & 1]
    plain = (word & 7) | (sum(copies) >= 2) << 3
    return float(np.float32(plain * stored._scale[index] + stored._offset[index]))


@pytest.mark.parametrize("spread", ["bits", "layers"])
def test_a_campaign_finds_what_a_naive_loop_finds(subject, tmp_path, spread):
    made, rate = bench(subject, tmp_path), Rate(2e-3, spread)
    found = made.vulnerability(rate, "trials")
    expected = naive(made, rate)
    assert max(expected) > 0, "faults must matter, or nothing is compared"
    assert found.drop == student(expected, step=1 / 48)
    assert (found.trials, found.images, found.failed) == (8, 48, 0)
    assert found.flips[1] <= found.flips[0] <= found.flips[2] and found.flips[2] > 100
    assert Rate(**found.to_dict()["rate"]) == rate and type(found).from_dict(found.to_dict()) == found


def test_what_is_stored_is_not_computed_again(subject, tmp_path, monkeypatch):
    first = bench(subject, tmp_path)
    found, share = first.vulnerability(Rate(2e-3), "trials"), first.accuracy
    monkeypatch.setattr(evaluate_module, "accuracy", lambda *given: pytest.fail("the accuracy was computed again"))
    again = bench(subject, tmp_path)
    assert again.accuracy == share
    monkeypatch.undo()
    monkeypatch.setattr("bitward.engine.pytorch.TorchEngine.outcomes", lambda *_: pytest.fail("a trial was run again"))
    assert again.vulnerability(Rate(2e-3), "trials") == found
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 1


def test_another_design_has_folders_of_its_own(subject, tmp_path):
    for point in (P4, Point(4)):
        bench(subject, tmp_path, point, Rules(2, 8)).vulnerability(Rate(2e-3), "trials")
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 2


def test_full_protection_loses_nothing_to_a_flip_a_word(subject, tmp_path):
    """SEC-DED and full TMR mask every single flip of a word; plain words of as many bits do not."""
    rules = Rules(trials=6, images=48)
    rate = Rate(1e-4)
    for point in (Point(4, "secded"), Point(4, "tmr", 4)):
        made = bench(subject, tmp_path, point, rules)
        for number in range(rules.trials):
            words = [(fault.memory, fault.word) for fault in rate.model(made.manifest, rules.seed).trial(number)]
            assert len(words) == len(set(words)) > 10, "no word is hit twice at this rate and seed"
        found = made.vulnerability(rate, str(point))
        assert found.drop.estimate == 0 and 0 < found.drop.high < 0.01


def test_another_test_set_is_evaluated_anew(subject, tmp_path):
    first = bench(subject, tmp_path).accuracy
    half = len(subject.images) // 2
    other = replace(subject, images=subject.images[:half], labels=subject.labels[:half])
    swapped = replace(subject, labels=np.roll(subject.labels, 1))
    assert bench(other, tmp_path).accuracy != first and bench(swapped, tmp_path).accuracy < 0.3 < first
    assert bench(subject, tmp_path).accuracy == first


def test_images_are_the_same_for_everyone(subject):
    images, labels = subject.some(10)
    again, _ = replace(subject, name="another").some(10)
    assert np.array_equal(images, again) and len(labels) == 10
    assert not np.array_equal(images, subject.images[:10])
    assert len(subject.some(10**6)[0]) == len(subject.images)


def test_a_network_is_the_same_each_time(subject):
    one, two = subject.make().state_dict(), subject.make().state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_rate_that_comes_to_no_flip_is_refused(subject, tmp_path):
    with pytest.raises(ConfigError, match=r"^ber must come to at least one flip of 692,400 stored bits .*, got 1e-07:"):
        bench(subject, tmp_path).vulnerability(Rate(1e-7, "layers"), "trials")


def test_every_source_that_decides_a_trial_is_there():
    package = next(iter(bitward.__path__))
    for source in SOURCES:
        found = evaluate_module.Path(package) / source
        assert found.is_file() or any(found.glob("*.py")), source


def test_a_ledger_keeps_what_was_found_and_refuses_what_is_damaged(tmp_path):
    made = Evaluation("P-4-bit", 0.9, None, 10, 60, 0.75)
    ledger = Ledger(tmp_path)
    assert ledger.evaluate("P-4-bit, fc 3", {"seed": 1}, lambda: made) == made
    assert ledger.evaluate("P-4-bit, fc 3", {"seed": 1}, lambda: pytest.fail("asked again")) == made
    assert ledger.fresh == 1
    assert ledger.evaluate("P-4-bit, fc 3", {"seed": 2}, lambda: made) == made and ledger.fresh == 2
    path = next(tmp_path.iterdir())
    path.write_text("{}")
    with pytest.raises(StoreError, match=rf"^{path} must be an evaluation that bitward wrote, got KeyError: delete it"):
        for seed in (1, 2):
            ledger.evaluate("P-4-bit, fc 3", {"seed": seed}, lambda: made)
