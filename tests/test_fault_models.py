# SPDX-License-Identifier: Apache-2.0
"""Fault models: distributions against scipy and brute force, the same trial whoever asks, refusals."""

from __future__ import annotations

import json
import pickle
import time
from collections import Counter
from itertools import combinations, permutations

import numpy as np
import pytest
from scipy import stats

from bitward.errors import FormatError, ManifestError
from bitward.faults import (
    SAMPLERS,
    Ber,
    Burst,
    Exact,
    Fault,
    Faults,
    Layers,
    Population,
    Replay,
    Single,
    Uniform,
    every_fault,
    fault_model,
    fault_text,
    faults_sha256,
    parse_trial,
    single_bit_stratified,
)  # fmt: skip
from bitward.faults.draw import Binomial, below, distinct, fraction, shuffled, stream
from bitward.faults.permutation import Permutation
from bitward.formats import Int
from bitward.manifest import Axis, Hardware, Manifest, Memory
from bitward.schemes import Plain, Tmr

BEAT = Memory(  # two lanes of 4 bits, the top one voted, in rows of 16 with padding; row 3 is never read
    "conv", "first", "conv.weight", "weight", (6, 2), Int(4), Tmr(4, 1),
    Hardware(6, 16, 2, "block", 0, 4, (Axis(6, 1, 2),), (Axis(2, 1, 1),), 1, unused_words=(3,)),
)  # fmt: skip
BIAS = Memory("bias", "first", "conv.bias", "bias", (3,), Int(8), Plain(8))
SMALL = Memory("fc", "last", "fc.weight", "weight", (5,), Int(8), Plain(8))
MANIFEST = Manifest("net", 1, "virtual", 200.0, (BEAT, BIAS, SMALL))
ALL = [fault for memory in MANIFEST.memories for fault in every_fault(MANIFEST, memory.name)]
MODELS = {
    "single": Single(MANIFEST, 3, per_stratum=2),
    "uniform": Uniform(MANIFEST, 3),
    "layers": Layers(MANIFEST, 3, flips=2),
    "exact": Exact(MANIFEST, 3, flips=7),
    "ber": Ber(MANIFEST, 3, ber=0.05),
    "burst": Burst(MANIFEST, 3, burst=3),
}


def is_uniform(counts, cells) -> bool:
    """Whether counts over `cells` equally likely cells pass a chi-square test (fixed seeds: it never flickers)."""
    observed = [counts.get(cell, 0) for cell in cells]
    assert set(counts) <= set(cells)
    return stats.chisquare(observed).pvalue > 1e-3


# ---- draws -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [*range(1, 70), 255, 256, 257, 1000, 4097])
def test_a_permutation_holds_every_number_once(size):
    order = Permutation(size, 5, "test")
    assert sorted(order(place) for place in range(size)) == list(range(size))


def test_permutations_of_a_few_are_all_equally_likely():
    orders = Counter(tuple(map(Permutation(4, seed, "t"), range(4))) for seed in range(2400))
    assert is_uniform(orders, list(permutations(range(4))))


def test_a_permutation_of_thousands_looks_random_and_is_the_seeds():
    size = 100_003
    first = list(map(Permutation(size, 1, "t"), range(4000)))
    assert is_uniform(Counter(number * 50 // size for number in first), range(50))
    pairs = Counter((a < b) for a, b in zip(first, first[1:], strict=False))
    assert is_uniform(pairs, [True, False])
    assert first != list(map(Permutation(size, 2, "t"), range(4000)))


def test_a_permutation_of_everything_there_is_takes_no_memory():
    order = Permutation(10**15, 1, "t")
    assert len({order(place) for place in range(0, 10**15, 10**12)}) == 1000


@pytest.mark.parametrize("size", [1, 2, 3, 8, 100])
def test_numbers_below_a_size_are_equally_likely(size):
    drawn = below(stream(4, "b"), size, 300 * size)
    assert len(drawn) == 300 * size
    assert size == 1 or is_uniform(Counter(drawn.tolist()), range(size))


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 6])
def test_every_set_of_distinct_numbers_is_equally_likely(count):
    cells = list(combinations(range(6), count))
    found = Counter(tuple(distinct(stream(seed, "d"), 6, count).tolist()) for seed in range(60 * len(cells)))
    assert len(cells) == 1 or is_uniform(found, cells)
    assert set(found) <= set(cells)


def test_a_smaller_shuffle_is_the_start_of_a_larger_one():
    for size, count in ((1, 1), (10, 3), (10, 9), (10, 10), (10, 99), (1000, 7)):
        whole = shuffled(size, size, stream(1, "s")).tolist()
        assert shuffled(size, count, stream(1, "s")).tolist() == whole[:count]


@pytest.mark.parametrize(
    ("size", "p"), [(1, 0.3), (20, 0.5), (104, 0.05), (1000, 0.999), (88_000_000, 1e-3), (10**9, 1e-9)]
)
def test_binomial_probabilities_are_scipys(size, p):
    low, sums = Binomial(size, p)._table
    found = np.diff(sums, prepend=0) / sums[-1]
    counts = np.arange(low, low + len(sums))
    np.testing.assert_allclose(found, stats.binom.pmf(counts, size, p), rtol=1e-7, atol=1e-12)
    missing = stats.binom.cdf(low - 1, size, p) + stats.binom.sf(low + len(sums) - 1, size, p)
    assert missing < 1e-20


def test_binomial_counts_have_the_right_spread():
    draws = [Binomial(10_000, 0.01).draw(stream(seed, "n")) for seed in range(800)]
    assert abs(np.mean(draws) - 100) < 4 * 10 / 800**0.5
    assert 0.85 < np.var(draws) / 99 < 1.15
    assert Binomial(7, 1.0).draw(stream(1, "n")) == 7


def test_a_fraction_is_below_one():
    drawn = [fraction(stream(seed, "f")) for seed in range(500)]
    assert 0 <= min(drawn) and max(drawn) < 1
    assert is_uniform(Counter(int(10 * value) for value in drawn), range(10))


def test_draws_are_these_on_every_numpy():
    """Pinned: a board with another numpy must draw the same faults."""
    assert [fault_text(model.trial(5)) for model in MODELS.values()] == PINNED


PINNED = [  # also what numpy 1.26 draws
    "conv:2:11",
    "bias:2:5",
    "conv:2:5 fc:1:7",
    "conv:0:7 conv:5:2 conv:5:10 conv:5:4 conv:4:8 fc:1:1 fc:1:5",
    "conv:4:1 conv:5:9 bias:0:3 bias:0:4 fc:1:2 fc:4:3",
    "fc:3:2 fc:3:3 fc:3:4",
]


# ---- the population --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [None, (0,), (3, 7), (5, 1)])
@pytest.mark.parametrize("names", [None, ("fc",), ("fc", "conv")])
def test_ranks_are_the_live_bits_in_order(names, bits):
    population = Population(MANIFEST.select(names), bits)
    chosen = [m.name for m in MANIFEST.select(names)]
    expected = [
        fault
        for fault in ALL
        if fault.memory in chosen
        and (bits is None or int(MANIFEST.memory(fault.memory).locate(fault.word, fault.bit).stored_bit) in bits)
    ]
    assert population.faults(np.arange(population.size)) == tuple(expected)
    some = np.arange(0, population.size, 3)
    assert population.faults(some) == tuple(expected[rank] for rank in some)
    assert population.faults(some[:0]) == ()


def test_the_population_has_no_dead_bit():
    population = Population(MANIFEST.memories)
    assert population.size == MANIFEST.population == len(ALL) == 5 * 2 * 6 + 3 * 8 + 5 * 8
    assert not any(f.memory == "conv" and f.word == 3 for f in population.faults(np.arange(population.size)))


# ---- models ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("stuck", [None, 0, 1])
def test_a_trial_depends_on_its_number_alone(name, stuck):
    given = {**MODELS[name].to_dict(), "stuck": stuck}
    model = fault_model(MANIFEST, given)
    numbers = list(range(12))
    trials = [model.trial(number) for number in numbers]
    again = fault_model(MANIFEST, json.loads(json.dumps(model.to_dict())))
    assert [again.trial(number) for number in reversed(numbers)] == trials[::-1]
    assert [pickle.loads(pickle.dumps(model)).trial(number) for number in numbers] == trials
    assert fault_model(MANIFEST, {**given, "seed": 4}).trial(5) != model.trial(5)
    for trial in trials:
        assert len({(f.memory, f.word, f.bit) for f in trial}) == len(trial)
        assert all(MANIFEST.memory(f.memory).live(f.word, f.bit) for f in trial)
        assert {f.kind for f in trial} <= {{None: "flip", 0: "stuck0", 1: "stuck1"}[stuck]}


def test_what_goes_to_a_worker_is_small():
    model = Uniform(MANIFEST, 3)
    before = len(pickle.dumps(model))
    model.trial(0)
    assert len(pickle.dumps(model)) == before


def test_single_is_the_stratified_draw_and_no_sample():
    model = MODELS["single"]
    assert [fault for n in range(model.trials) for fault in model.trial(n)] == single_bit_stratified(MANIFEST, 2, 3)
    assert not model.is_sample and MODELS["uniform"].is_sample


def test_uniform_visits_every_live_bit_once():
    model = MODELS["uniform"]
    assert model.trials == len(ALL)
    assert sorted(model.trial(n)[0] for n in range(model.trials)) == sorted(ALL)
    bits = Uniform(MANIFEST, 3, ("fc",), bits=(7,))
    assert {bits.trial(n)[0] for n in range(bits.trials)} == {Fault("fc", word, 7) for word in range(5)}


def test_uniform_draws_every_bit_first_equally_often():
    first = Counter(Uniform(MANIFEST, seed).trial(0)[0] for seed in range(20 * len(ALL)))
    assert is_uniform(first, ALL)


def test_layers_are_equally_likely_and_so_are_their_bits():
    model = Layers(MANIFEST, 1)
    faults = [model.trial(number)[0] for number in range(4000)]
    layers = Counter(MANIFEST.memory(fault.memory).layer for fault in faults)
    assert is_uniform(layers, ["first", "last"])  # 84 bits against 40
    assert is_uniform(Counter(f for f in faults if f.memory == "fc"), [f for f in ALL if f.memory == "fc"])
    assert is_uniform(Counter(f for f in faults if f.memory != "fc"), [f for f in ALL if f.memory != "fc"])
    assert {f.memory for n in range(200) for f in Layers(MANIFEST, 1, bits=(6, 7)).trial(n)} == {"bias", "fc"}


def test_layers_with_repeats_hit_what_is_drawn_an_odd_number_of_times():
    """One draw of one bit, against counts: a bit of layer l is hit with (1 - (1 - 2/(2 s))^n) / 2, n draws, s bits."""
    draws, trials = 100, 1500
    model = Layers(MANIFEST, 1, flips=draws, repeats=True)  # more than the smallest layer has
    hit: Counter = Counter()
    for number in range(trials):
        found = model.trial(number)
        assert len(set(found)) == len(found) <= draws and (draws - len(found)) % 2 == 0
        hit.update(found)
    for layer, size in (("first", 84), ("last", 40)):
        expected = (1 - (1 - 2 / (2 * size)) ** draws) / 2
        counts = [hit[fault] / trials for fault in ALL if MANIFEST.memory(fault.memory).layer == layer]
        assert len(counts) == size and abs(sum(counts) / size - expected) < 0.01
        assert max(abs(count - expected) for count in counts) < 5 * (0.25 / trials) ** 0.5
    assert fault_model(MANIFEST, model.to_dict()).trial(7) == model.trial(7)
    assert model.trial(3) != Layers(MANIFEST, 2, flips=draws, repeats=True).trial(3)


def test_exact_is_so_many_distinct_bits_each_equally_likely():
    trials = [MODELS["exact"].trial(number) for number in range(1500)]
    assert {len(set(trial)) for trial in trials} == {7}
    assert is_uniform(Counter(fault for trial in trials for fault in trial), ALL)
    everything = Exact(MANIFEST, 1, flips=len(ALL))
    assert sorted(everything.trial(0)) == sorted(ALL)


def test_ber_hits_every_bit_with_its_rate():
    trials = [MODELS["ber"].trial(number) for number in range(2000)]
    counts = np.array([len(trial) for trial in trials])
    expected = stats.binom.pmf(np.arange(30), len(ALL), 0.05) * len(trials)
    cells = [min(int(count), 13) for count in counts]
    observed = np.bincount(cells, minlength=14)
    assert stats.chisquare(observed, np.append(expected[:13], len(trials) - expected[:13].sum())).pvalue > 1e-3
    assert () in trials  # at this rate some trials hit nothing, and are trials all the same
    assert is_uniform(Counter(fault for trial in trials for fault in trial), ALL)
    assert MODELS["ber"].expected_flips == pytest.approx(0.05 * len(ALL))


def test_bursts_are_adjacent_bits_of_one_row_at_every_place_alike():
    places = Counter()
    for number in range(6000):
        trial = MODELS["burst"].trial(number)
        assert 1 <= len(trial) <= 3
        (row,) = {(fault.memory, fault.word) for fault in trial}
        assert max(f.bit for f in trial) - min(f.bit for f in trial) <= 2
        places[(*row, tuple(fault.bit for fault in trial))] += 1
    windows = Counter(
        (memory.name, word, tuple(bit for bit in range(low, low + 3) if memory.live(word, bit)))
        for memory in MANIFEST.memories
        for word in range(memory.depth)
        for low in range(memory.width - 2)
    )
    likely = {window: count for window, count in windows.items() if window[2]}
    assert set(places) == set(likely)
    scale = sum(places.values()) / sum(likely.values())
    assert stats.chisquare([places[w] for w in likely], [n * scale for n in likely.values()]).pvalue > 1e-3


def test_a_replay_is_the_list(tmp_path):
    trials = [(Fault("fc", 0, 1),), (Fault("fc", 1, 1, "stuck0"), Fault("bias", 2, 7)), ()]
    model = Replay([trials[0][0], *trials[1:]])
    assert [model.trial(n) for n in range(3)] == trials and model.trials == 3 and not model.is_sample
    (tmp_path / "faults.txt").write_text("# my faults\nfc:0:1\n\n" + fault_text(trials[1]) + "\n")
    assert Replay.read(tmp_path / "faults.txt").list == tuple(trials[:2])
    assert Replay.read(tmp_path / "faults.txt").to_dict()["sha256"] == Replay(trials[:2]).sha256 != model.sha256
    assert all(parse_trial(fault_text(trial)) == trial for trial in trials)


@pytest.mark.parametrize("count", [1, pytest.param(11, marks=pytest.mark.slow)])
def test_millions_of_weights_at_one_in_a_thousand_are_quick(count):
    """11 M weights: 88 M stored bits, 88,000 flips a trial; a full mask would take seconds and 88 MB."""
    names = [f"m{number}" for number in range(count)]
    memories = tuple(Memory(name, name, name, "weight", (1_000_000,), Int(8), Plain(8)) for name in names)
    model = Ber(Manifest("big", 1, "none", 1.0, memories), 1, ber=1e-3)
    assert model.population.size == 8_000_000 * count
    model.trial(0)
    started = time.process_time()
    trial = model.trial(1)
    taken = time.process_time() - started
    assert abs(len(trial) - model.expected_flips) < 6 * model.expected_flips**0.5
    assert len(set(trial)) == len(trial)
    assert taken < 0.5  # 0.1 s for all 11 million on one core; the rest is room for a busy machine


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (
            lambda: Exact(MANIFEST, flips=0),
            FormatError,
            r"^flips must be 1 to the 124 live bits chosen, got 0: ask for",
        ),
        (lambda: Exact(MANIFEST, flips=125), FormatError, r"^flips must be 1 to the 124 live bits chosen, got 125: "),
        (
            lambda: Layers(MANIFEST, flips=41),
            FormatError,
            r"^flips must be 1 to 40, the live bits of the smallest layer",
        ),
        (lambda: Layers(MANIFEST, flips=0, repeats=True), FormatError, r"^flips must be 1 or more, got 0: ask for one"),
        (
            lambda: Ber(MANIFEST, ber=0),
            FormatError,
            r"^ber must be above 0 and at most 1, got 0; it is flips per stored",
        ),
        (lambda: Ber(MANIFEST, ber=1.5), FormatError, r"^ber must be above 0 and at most 1, got 1.5; "),
        (
            lambda: Burst(MANIFEST, burst=9),
            FormatError,
            r"^burst must be 1 to 8, the bits of a row of memory bias, got 9",
        ),
        (
            lambda: Uniform(MANIFEST, -1),
            FormatError,
            r"^seed must be 0 or more, got -1; numpy takes no negative seeds$",
        ),
        (
            lambda: Uniform(MANIFEST, 1, ("fd",)),
            ManifestError,
            r"^a memory must be one of design net, got 'fd'; known ",
        ),
        (lambda: Uniform(MANIFEST, 1, bits=(8,)), FormatError, r"^bits must be 0 to 7 in the memories chosen, got 8; "),
        (
            lambda: Uniform(MANIFEST, 1, ("conv",), bits=(6,)),
            FormatError,
            r"^bits must be 0 to 5 in the memories chosen",
        ),
        (
            lambda: Population(()),
            FormatError,
            r"^the memories chosen must have live bits, got none in no memory: choose",
        ),
        (
            lambda: Uniform(MANIFEST, 1, stuck=2),
            FormatError,
            r"^stuck must be 0 or 1, got 2; leave it out for inverted ",
        ),
        (
            lambda: Uniform(MANIFEST).trial(124),
            FormatError,
            r"^a trial of model uniform must be 0 to 123, got 124; ask ",
        ),
        (
            lambda: Ber(MANIFEST).trial(-1),
            FormatError,
            r"^a trial of model ber must be 0 or more, got -1; ask for fewer",
        ),
        (lambda: Replay([]).trial(0), FormatError, r"^a trial of model replay must be 0 to -1, got 0; ask for fewer"),
        (
            lambda: fault_model(MANIFEST, {"model": "unifrom"}),
            FormatError,
            r"^a fault model must be one of single, uniform, layers, exact, ber, burst, got 'unifrom'; did you mean ",
        ),
        (
            lambda: fault_model(MANIFEST, {"model": "uniform", "flips": 2}),
            FormatError,
            r"^the fault model uniform must have only seed, memories, stuck, bits, got flips; it belongs to layers ",
        ),
        (
            lambda: fault_model(MANIFEST, {"model": "uniform", "bit": 2}),
            FormatError,
            r"^the fault model uniform must have only seed, .*, got bit; did you mean 'bits'\?$",
        ),
    ],
)
def test_refusals(call, error, match):
    with pytest.raises(error, match=match):
        call()


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"# nothing\n\n", r"^.*/faults\.txt must have a trial a line, got none: write faults such as conv1:3:17$"),
        (b"fc:0:1\nfc:0\n", r"^.*/faults\.txt, line 2: a fault must be memory:word:bit, or .*, got 'fc:0'; "),
        (b"\xff\xfe", r"^.* must be a text file of faults, got 'utf-8' codec can't decode .*: write one trial a line$"),
        (None, r"^.* must be a text file of faults, got No such file or directory: write one trial a line$"),
    ],
)
def test_a_file_that_lists_no_faults_is_refused(tmp_path, content, match):
    if content is not None:
        (tmp_path / "faults.txt").write_bytes(content)
    with pytest.raises(FormatError, match=match):
        Replay.read(tmp_path / "faults.txt")


# ---- trials of many faults -------------------------------------------------------------------------------------------


MANY = Memory("many", "many", "many.weight", "weight", (40, 10), Int(8), Plain(8))
BIG = Manifest("big", 1, "virtual", 200.0, (*MANIFEST.memories, MANY))


@pytest.mark.parametrize("kind", ["flip", "stuck0", "stuck1"])
def test_faults_in_arrays_are_the_same_sequence_as_objects(kind):
    arrays = Faults({"fc": (np.array([3, 1]), np.array([7, 0])), "conv": (np.array([2]), np.array([5]))}, kind)
    objects = (Fault("fc", 3, 7, kind), Fault("fc", 1, 0, kind), Fault("conv", 2, 5, kind))
    assert arrays == objects and objects == arrays and hash(arrays) == hash(objects)
    assert arrays == Faults(arrays.places, kind) and pickle.loads(pickle.dumps(arrays)) == objects
    assert arrays != objects[:2] and arrays != (*objects[:2], objects[0]) and arrays != list(objects)
    assert len(arrays) == 3 and [arrays[at] for at in (0, 1, 2, -1)] == [*objects, objects[2]]
    assert arrays[1:] == objects[1:] and arrays[::-2] == objects[::-2] and objects[2] in arrays
    assert fault_text(arrays) == fault_text(objects) and faults_sha256(arrays) == faults_sha256(objects)
    assert Fault("conv", 2, 5, kind) == next(reversed(arrays)) and repr(arrays) == "<3 faults in 2 memories>"
    assert arrays.of_kind("flip") == tuple(Fault(f.memory, f.word, f.bit) for f in objects)
    with pytest.raises(IndexError):
        arrays[3]


@pytest.mark.parametrize("stuck", [None, 0, 1])
@pytest.mark.parametrize(("name", "given"), [("ber", {"ber": 0.5}), ("exact", {"flips": 900})])
def test_a_trial_is_the_same_faults_whether_they_are_many_or_few(monkeypatch, name, given, stuck):
    model = SAMPLERS[name](BIG, 3, stuck=stuck, **given)
    arrays = model.trial(2)
    monkeypatch.setattr("bitward.faults.population.FEW", 10**6)
    objects = model.trial(2)
    assert isinstance(arrays, Faults) and isinstance(objects, tuple) and len(objects) > 800
    assert arrays == objects and faults_sha256(arrays) == faults_sha256(objects)
    assert {fault.memory for fault in objects} == {memory.name for memory in BIG.memories}
