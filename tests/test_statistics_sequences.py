# SPDX-License-Identifier: Apache-2.0
"""Confidence sequences: the equations written out naively, and how often they ever miss, by enumeration."""

from __future__ import annotations

import math
import time
from itertools import combinations, product

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.stats import betabinom

from bitward.errors import ConfigError
from bitward.statistics import BetaBinomial, Betting, Interval, Stopping, exact, finite, sequence
from bitward.statistics.beta_binomial import looks_up_to, with_replacement, without_replacement
from bitward.statistics.methods import SEQUENCES

METHODS = sorted(SEQUENCES)
RNG = np.random.default_rng(0)


def fed(method, values, confidence=0.95, population=None):
    """The interval after all values, given at once."""
    found = sequence(method, confidence, population)
    found.update(values)
    return found.interval()


# -- what all have in common -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("population", [None, 1000, 10**6])
@pytest.mark.parametrize("method", METHODS)
def test_chunks_and_looks_change_no_bit_of_the_answer(method, population):
    values = (RNG.random(1000) < 0.2).astype(float)
    whole = fed(method, values, population=population)
    for _ in range(5):
        cuts = np.sort(RNG.integers(0, 1001, 30))
        found = sequence(method, population=population)
        for chunk in np.split(values, cuts):
            found.update(chunk)
            if RNG.random() < 0.5:
                found.interval()
        assert found.interval() == whole


@pytest.mark.parametrize("method", METHODS)
def test_means_lie_inside_and_widths_shrink(method):
    values = (RNG.random(4000) < 0.1).astype(float)
    found, before = sequence(method), Interval(0, 1, math.nan, 0)
    for chunk in np.split(values, looks_up_to(4000)[:-1]):
        found.update(chunk)
        now = found.interval()
        assert before.low <= now.low <= 0.1 <= now.high <= before.high
        before = now
    assert before.trials == 4000
    assert before.estimate in before
    assert before.half_width < 0.03
    assert 0.15 not in before


@pytest.mark.parametrize("method", METHODS)
def test_a_census_is_one_point_and_nearly_one_is_nearly_one(method):
    values = (RNG.random(300) < 0.3).astype(float)
    end = fed(method, values, population=300)
    assert (end.low, end.high) == pytest.approx((values.mean(), values.mean()), abs=1e-12)
    near = fed(method, values[:290], population=300)
    assert near.high - near.low <= 10 / 300 + 1e-12
    assert values.mean() in near
    assert fed(method, values[:290]).half_width > 0.05  # negative control: with replacement there is no census


@pytest.mark.parametrize("method", METHODS)
def test_a_large_population_is_none(method):
    values = (RNG.random(500) < 0.3).astype(float)
    without, within = fed(method, values, population=10**9), fed(method, values)
    assert (without.low, without.high) == pytest.approx((within.low, within.high), abs=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_hits_and_misses_are_mirror_images(method):
    values = (RNG.random(800) < 0.05).astype(float)
    for population in (None, 1600):
        hits, misses = (fed(method, found, population=population) for found in (values, 1 - values))
        assert (misses.low, misses.high) == pytest.approx((1 - hits.high, 1 - hits.low), abs=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_known_without_trials(method):
    found = sequence(method).interval()
    assert (found.low, found.high, found.trials) == (0, 1, 0)
    assert math.isnan(found.estimate)
    assert fed(method, []).trials == 0


@pytest.mark.parametrize("method", ["betting", "empirical-bernstein"])
def test_means_that_vary_little_are_known_sooner_than_shares(method):
    shares = (RNG.random(2000) < 0.3).astype(float)
    means = RNG.binomial(64, 0.3, 2000) / 64
    assert fed(method, means).half_width < 0.35 * fed(method, shares).half_width
    assert 0.3 in fed(method, means)


def test_sequences_are_wider_than_a_fixed_n_and_not_by_much():
    """At n = 10,000 about twice a fixed-n interval, as anytime-valid intervals are."""
    values = (RNG.random(10_000) < 0.1).astype(float)
    fixed = exact(int(values.sum()), 10_000).half_width
    widths = {method: fed(method, values).half_width / fixed for method in METHODS}
    assert all(1.2 < width < 2.2 for width in widths.values()), widths


# -- the beta-binomial mixture ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("hits", "trials"), [(0, 1), (0, 30), (3, 40), (20, 40), (40, 40)])
def test_the_mixture_is_the_integral_over_the_prior(hits, trials):
    """The same martingale by numerical integration over Jeffreys' prior, and its roots by Brent's method."""

    def log_ratio(p):
        def ratio(angle):  # q = sin^2 makes the prior flat
            q = math.sin(angle) ** 2
            return (q / p) ** hits * ((1 - q) / (1 - p)) ** (trials - hits)

        return math.log(quad(ratio, 0, math.pi / 2, limit=200)[0] * 2 / math.pi) - math.log(20)

    low, high = with_replacement(hits, trials, 0.05)
    share = min(max(hits / trials, 1e-6), 1 - 1e-6)
    if hits and log_ratio(1e-6) > 0:
        assert low == pytest.approx(brentq(log_ratio, 1e-6, share), abs=1e-7)
    if hits < trials and log_ratio(1 - 1e-6) > 0:
        assert high == pytest.approx(brentq(log_ratio, share, 1 - 1e-6), abs=1e-7)
    assert (hits > 0 or low == 0) and (hits < trials or high == 1)


@pytest.mark.parametrize("population", [1, 2, 7, 40])
def test_the_prior_posterior_ratio_is_bayes_rule(population):
    """Prior over posterior of each number of hits, both beta-binomial, by scipy."""
    everything = np.arange(population + 1)
    prior = betabinom.pmf(everything, population, 0.5, 0.5)
    for trials in range(1, population + 1):
        for hits in range(trials + 1):
            left = population - trials
            posterior = betabinom.pmf(everything - hits, left, 0.5 + hits, 0.5 + trials - hits) if left else None
            if posterior is None:
                posterior = (everything == hits).astype(float)
            kept = everything[(posterior > 0) & (prior < 20 * posterior)]
            low, high = without_replacement(hits, trials, population, 0.05)
            assert (round(low * population), round(high * population)) == (kept.min(), kept.max())


@pytest.mark.parametrize("rate", [0.001, 0.02, 0.1, 0.5, 0.7])
def test_the_mixture_ever_misses_in_at_most_alpha(rate):
    """Exactly, over 400 trials with a look after each: the chance of every path that was never excluded."""
    trials = 400
    alive = np.array([1.0])
    for n in range(1, trials + 1):
        alive = np.append(alive * (1 - rate), 0) + np.append(0, alive * rate)
        low, high = with_replacement(np.arange(n + 1), n, 0.05)
        alive[(rate < low) | (rate > high)] = 0
    assert 0.95 <= alive.sum() <= 1


def test_a_fixed_interval_that_is_looked_at_ever_misses_more():
    """Negative control of the computation above."""
    alive = np.array([1.0])
    for n in range(1, 401):
        alive = np.append(alive, 0) / 2 + np.append(0, alive) / 2
        for hits in np.flatnonzero(alive > 0):
            if 0.5 not in exact(int(hits), n):
                alive[hits] = 0
    assert alive.sum() < 0.85


@pytest.mark.parametrize("hits", [0, 1, 7, 30, 60])
def test_without_replacement_it_ever_misses_in_at_most_alpha(hits):
    """Exactly, from the first trial to the last of 60 faults."""
    alive, truth = np.array([1.0]), hits / 60
    for n in range(60):
        drawn = np.arange(n + 1)
        chance = np.clip((hits - drawn) / (60 - n), 0, 1)
        alive = np.append(alive * (1 - chance), 0) + np.append(0, alive * chance)
        low, high = without_replacement(np.arange(n + 2), n + 1, 60, 0.05)
        alive[(truth < low) | (truth > high)] = 0
    assert alive.sum() >= 0.95


def test_looks_are_all_small_numbers_and_then_2_percent_apart():
    looks = looks_up_to(100_000)
    assert looks[:50].tolist() == list(range(1, 51))
    assert (np.diff(looks)[50:] / looks[50:-1]).max() <= 0.0201
    assert looks[-1] <= 100_000 < looks[-1] * 1.021
    assert looks_up_to(7).tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert looks_up_to(0).tolist() == []


# -- betting and empirical Bernstein -----------------------------------------------------------------------------------


def plug_in_bets(values, alpha):
    """The bets, one after the other, as the paper has them, with u = t + 100."""
    bets, means = [], []
    total = squares = 0.0
    for t, value in enumerate(values, start=1):
        variance = (0.25 + squares) / t
        u = t + 100
        bets.append(math.sqrt(2 * math.log(2 / alpha) / (variance * u * math.log(1 + u))))
        means.append((0.5 + total) / t)
        total += value
        squares += (value - (0.5 + total) / (t + 1)) ** 2
    return bets, means


def capitals(values, mean, alpha, population):
    """The largest capital of the two gamblers at any time, in a loop."""
    capital, best, total = [1.0, 1.0], [0.0, 0.0], 0.0
    for t, (value, bet) in enumerate(zip(values, plug_in_bets(values, alpha)[0], strict=True)):
        rest = mean if population is None else (population * mean - total) / (population - t)
        more = min(bet, 0.75 / rest) if rest > 0 else bet
        less = min(bet, 0.75 / (1 - rest)) if rest < 1 else bet
        capital = [capital[0] * (1 + more * (value - rest)), capital[1] * (1 - less * (value - rest))]
        best = [max(pair) for pair in zip(best, capital, strict=True)]
        total += value
    return best


@pytest.mark.parametrize("population", [None, 120])
def test_capitals_are_the_paper_s(population):
    values = RNG.beta(1, 4, 100)
    found = Betting(0.95, population)
    found.update(values)
    low, high = found.possible()
    for mean in np.linspace(low, high, 7):
        expected = capitals(values, mean, 0.05, population)
        assert [found.largest_capital(mean, sign) for sign in (1, -1)] == pytest.approx(expected)


@pytest.mark.parametrize("population", [None, 3000])
def test_betting_s_ends_are_where_the_capital_is_2_over_alpha(population):
    values = RNG.binomial(20, 0.1, 400) / 20
    end = fed("betting", values, 0.9, population)
    assert capitals(values, end.low, 0.1, population)[0] == pytest.approx(20, rel=1e-4)
    assert capitals(values, end.high, 0.1, population)[1] == pytest.approx(20, rel=1e-4)
    inside = np.linspace(end.low, end.high, 9)[1:-1]
    assert all(max(capitals(values, mean, 0.1, population)) < 20 for mean in inside)


def test_no_gambler_wins_at_the_true_mean():
    """Over every outcome of 8 trials, weighted by its chance, the capital's mean is 1: with and without replacement."""
    outcomes = np.array(list(product([0.0, 1.0], repeat=8)))
    chances = np.prod(np.where(outcomes == 1, 0.3, 0.7), axis=1)
    for sign in (0, 1):
        ends = [_final(values, 0.3, None)[sign] for values in outcomes]
        assert chances @ ends == pytest.approx(1)
    orders = [np.isin(np.arange(9), hits).astype(float) for hits in combinations(range(9), 3)]
    for sign in (0, 1):
        assert np.mean([_final(values[:8], 3 / 9, 9)[sign] for values in orders]) == pytest.approx(1)
        assert np.mean([_final(values[:8], 0.5, 9)[sign] for values in orders]) != pytest.approx(1, abs=1e-3)


def _final(values, mean, population):
    """Both gamblers' capital after the last value."""
    found = Betting(0.95, population)
    found.update(values)
    return [found.growth(mean, sign).prod() for sign in (1, -1)]


@pytest.mark.parametrize("population", [None, 500])
def test_empirical_bernstein_is_the_paper_s(population):
    values = RNG.beta(2, 5, 200)
    low, high = 0.0, 1.0
    centre = weight = slack = total = 0.0
    for t, (value, bet, mean) in enumerate(zip(values, *plug_in_bets(values, 0.05), strict=True), start=1):
        bet = min(bet, 0.5)
        left = math.inf if population is None else population - t + 1
        centre += bet * (value + total / left)
        weight += bet * (1 + (t - 1) / left)
        slack += 4 * (value - mean) ** 2 * (-math.log(1 - bet) - bet) / 4
        low = max(low, centre / weight - (math.log(2 / 0.05) + slack) / weight)
        high = min(high, centre / weight + (math.log(2 / 0.05) + slack) / weight)
        total += value
    end = fed("empirical-bernstein", values, population=population)
    assert (end.low, end.high) == pytest.approx((low, high))


@pytest.mark.parametrize("method", ["betting", "empirical-bernstein"])
def test_a_small_population_of_means_is_covered_at_all_times(method):
    """Half-certain sequences, so that misses are many enough to count: at most half of the orders ever miss."""
    values = np.array([0, 0, 0.1, 0.2, 0.9, 1.0])
    missed = 0
    orders = [RNG.permutation(values) for _ in range(100)]
    for order in orders:
        found = sequence(method, 0.5, population=6)
        ever = False
        for value in order:
            found.update([value])
            end = found.interval()
            ever = ever or not end.low - 1e-9 <= values.mean() <= end.high + 1e-9
        missed += ever
    assert missed <= 0.5 * len(orders) + 3 * math.sqrt(0.25 * len(orders))


# -- the stopping rule -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("population", [None, 2000])
def test_a_rule_stops_when_its_interval_is_narrow_enough(method, population):
    values = (RNG.random(2000) < 0.1).astype(float)
    rule = Stopping("top1_change_rate", margin=0.04, method=method, least=20)
    found = rule.sequence(population)
    at = 0
    while not rule.is_met_by(found.interval(), population):
        chunk = values[at : rule.next_look(at)]
        found.update(chunk)
        at += len(chunk)
    assert rule.is_met(values[:at], population)
    assert not rule.is_met(values[: int(at / 1.03)], population)
    assert rule.interval(values[:at], population) == found.interval()
    assert found.interval().half_width <= 0.04
    assert 20 < at < 2000


def test_a_rule_never_stops_before_least_nor_goes_on_after_most():
    nothing = np.zeros(100_000)
    rule = Stopping("critical", margin=0.4, method="beta-binomial", least=500, most=1000)
    assert [rule.is_met(nothing[:n]) for n in (0, 499, 500)] == [False, False, True]
    strict = Stopping("critical", margin=1e-6, method="beta-binomial", most=1000)
    assert [strict.is_met(nothing[:n]) for n in (999, 1000, 1001)] == [False, True, True]
    assert strict.is_met(nothing[:300], population=300)


def test_looks_depend_on_the_number_of_trials_alone():
    rule = Stopping("critical", margin=0.01, least=100, most=1000)
    looks = [0]
    while looks[-1] < 1000:
        looks.append(rule.next_look(looks[-1]))
    assert looks[:3] == [0, 100, 102]
    assert looks[-1] == 1000
    assert all(after > before for before, after in zip(looks, looks[1:], strict=False))
    assert Stopping("critical", margin=0.01).next_look(10**6) == 1_020_000


def test_a_fixed_number_of_trials_has_the_exact_interval():
    values = (RNG.random(1537) < 0.1).astype(float)
    rule = Stopping("critical", margin=0.025, method="fixed", most=1537)
    assert not rule.is_met(values[:1536])
    assert rule.is_met(values)
    assert rule.interval(values) == exact(int(values.sum()), 1537)
    assert rule.interval(values, 5000) == finite(int(values.sum()), 1537, 5000)
    assert math.isnan(rule.interval([]).estimate)


def test_a_rule_comes_back_from_its_plan():
    for rule in (
        Stopping("critical", 0.01),
        Stopping("iou", 0.005, 0.99, "empirical-bernstein", 10, 10**6),
        Stopping("critical", 0.025, method="fixed", most=1537),
    ):
        assert Stopping.from_dict(rule.to_dict()) == rule


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("population", [None, 10**6])
def test_an_interval_of_100_000_trials_takes_less_than_a_second(method, population):
    values = (RNG.random(100_000) < 0.001).astype(float)
    started = time.process_time()
    fed(method, values, population=population)
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: sequence("beting"), r"^method must be a confidence sequence, got 'beting'; did you mean 'betting'\?"),
        (lambda: BetaBinomial(1.0), r"^confidence must be above 0 and below 1, got 1\.0;"),
        (lambda: Betting(0.95, 0), r"^population must be at least 1, got 0; it counts live bits"),
        (lambda: fed("betting", [0, 1.5]), r"^values must be 0 to 1, got 1\.5; a trial that failed or timed out"),
        (lambda: fed("betting", [math.nan]), r"^values must be 0 to 1, got nan;"),
        (lambda: fed("betting", [[0, 1]]), r"^values must be of shape \(trials,\), got \(1, 2\); one mean over the"),
        (lambda: fed("beta-binomial", [0, 0.25]), r"^values must be 0 or 1 for this method, got 0\.25; use 'betting'"),
        (lambda: fed("betting", [0, 0], population=1), r"^values must be at most the population of 1, got 2; give"),
        (lambda: Stopping("iou", 0), r"^margin must be above 0 and below 0\.5, got 0; 0\.01 is one point"),
        (lambda: Stopping("iou", 0.1, 95), r"^confidence must be above 0 and below 1, got 95;"),
        (lambda: Stopping("iou", 0.1, method="wald"), r"^method must be a known one, got 'wald'; known are 'beta-"),
        (
            lambda: Stopping("iou", 0.1, least=9, most=8),
            r"^least and most trials must be 1 <= least <= most, got 9 and 8",
        ),
        (lambda: Stopping("iou", 0.1, method="fixed"), r"^most must be given for the method 'fixed', got None; see"),
        (
            lambda: Stopping.from_dict({"metric": "iou", "margn": 1}),
            r"^stopping must have known keys only, got 'margn';",
        ),
        (
            lambda: Stopping("iou", 0.1, method="fixed", most=5).sequence(),
            r"^method must be a confidence sequence, got 'fixed'; known are",
        ),
    ],
)
def test_refusals(call, match):
    with pytest.raises(ConfigError, match=match):
        call()


def test_refused_values_leave_the_sequence_as_it_was():
    found = sequence("betting", population=4)
    found.update([0, 1, 0])
    before = found.interval()
    with pytest.raises(ConfigError, match=r"^values must be at most the population of 4, got 5;"):
        found.update([0, 0])
    assert found.interval() == before
