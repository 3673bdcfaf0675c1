# SPDX-License-Identifier: Apache-2.0
"""Fixed-n intervals, strata, screens, pairs and variance components against scipy, brute force and enumeration."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from scipy.stats import binom, binomtest, hypergeom, ttest_1samp

from bitward.errors import ConfigError
from bitward.statistics import (
    Components,
    Costs,
    Discordant,
    Interval,
    ScreenedSequence,
    Screening,
    Stopping,
    StratifiedSequence,
    StratumTrials,
    allocate,
    best_split,
    exact,
    finite,
    mcnemar,
    paired_difference,
    pilot_deviation,
    screened_share,
    sequence,
    split_for,
    standard_error,
    stratified_share,
    variance_components,
)
from bitward.statistics.fixed import exact_limits, finite_limits


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.999])
@pytest.mark.parametrize(("count", "total"), [(0, 1), (1, 1), (0, 299), (1, 100), (50, 100), (99, 100), (3, 299000)])
def test_exact_is_scipy_s(count, total, confidence):
    expected = binomtest(count, total).proportion_ci(confidence, method="exact")
    found = exact(count, total, confidence)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert (found.estimate, found.trials) == (count / total, total)


def test_no_failure_in_299_trials_shows_99_percent():
    """One-sided at 95 %: the figures of zero-failure testing, 299 for 99 % and 2,995 for 99.9 %."""
    for total, share in ((299, 0.01), (2995, 0.001)):
        assert exact(0, total, 0.9).high < share < exact(0, total - 1, 0.9).high


@pytest.mark.parametrize("rate", [0.0001, 0.001, 0.01, 0.1, 0.5])
def test_exact_covers_at_every_rate_and_wilson_s_do_not(rate):
    """The exact coverage, by the binomial distribution itself; Wilson's is the negative control."""
    hits = np.arange(1538)
    chance = binom.pmf(hits, 1537, rate)
    low, high = exact_limits(hits, 1537, 0.05)
    assert chance[(low <= rate) & (rate <= high)].sum() >= 0.95
    if rate == 0.0001:
        wilson = [binomtest(int(hit), 1537).proportion_ci(0.95, method="wilson") for hit in range(3)]
        assert chance[:3] @ [interval.low <= rate <= interval.high for interval in wilson] == pytest.approx(
            0.857, abs=1e-3
        )


@pytest.mark.parametrize("population", [1, 2, 5, 11, 30])
@pytest.mark.parametrize("alpha", [0.05, 0.37])
def test_finite_is_brute_force_s_and_covers(population, alpha):
    """Every population and sample: the limits are the extreme numbers of hits that both tails leave possible."""
    for trials in range(1, population + 1):
        hits = np.arange(trials + 1)
        low, high = finite_limits(hits, trials, population, alpha)
        for hit in hits:
            kept = [
                found
                for found in range(hit, population - trials + hit + 1)
                if _tail(range(hit, trials + 1), population, found, trials) > alpha / 2
                and _tail(range(hit + 1), population, found, trials) > alpha / 2
            ]
            assert (low[hit], high[hit]) == (min(kept) / population, max(kept) / population)
        for found in range(population + 1):
            covers = (low <= found / population) & (found / population <= high)
            assert hypergeom.pmf(hits, population, found, trials)[covers].sum() >= 1 - alpha - 1e-12


def _tail(hits, population, found, trials):
    ways = sum(math.comb(found, hit) * math.comb(population - found, trials - hit) for hit in hits)
    return ways / math.comb(population, trials)


def test_finite_is_narrower_than_exact_and_a_census_is_one_point():
    few, many = finite(20, 200, 10**9), finite(20, 200, 400)
    assert (few.low, few.high) == pytest.approx((exact(20, 200).low, exact(20, 200).high), abs=1e-6)
    assert many.half_width < 0.75 * few.half_width
    assert finite(37, 400, 400) == Interval(37 / 400, 37 / 400, 37 / 400, 400)


# -- strata ----------------------------------------------------------------------------------------------------------


def test_allocation_is_proportional_or_neyman_s():
    assert allocate([100, 300, 600], 100).tolist() == [10, 30, 60]
    assert allocate([100, 300, 600], 100, [0.6, 0.1, 0.05]).tolist() == [50, 25, 25]
    assert allocate([10, 1000], 100, [0.5, 0.001]).tolist() == [10, 90]  # no more than there are
    assert allocate([10, 1000], 100, least=50).tolist() == [10, 90]
    assert allocate([3, 3, 3], 9).tolist() == [3, 3, 3]


def test_allocations_add_up_within_their_bounds():
    rng = np.random.default_rng(3)
    for _ in range(300):
        sizes = rng.integers(1, 200, rng.integers(1, 12))
        least = int(rng.integers(0, 5))
        trials = int(rng.integers(np.minimum(sizes, least).sum(), sizes.sum() + 1))
        plan = allocate(sizes, trials, rng.random(len(sizes)) + 1e-3, least)
        assert plan.sum() == trials
        assert (np.minimum(sizes, least) <= plan).all()
        assert (plan <= sizes).all()


def test_neyman_s_allocation_has_the_least_variance():
    """Of all ways to split 30 trials over three strata, brute force finds none that is better."""
    sizes, spread = np.array([50, 100, 200]), np.array([0.5, 0.3, 0.05])

    def variance(plan):
        return float(np.sum((sizes * spread) ** 2 / plan))

    every = [np.array([a, b, 30 - a - b]) for a, b in product(range(1, 29), repeat=2) if a + b < 30]
    assert variance(allocate(sizes, 30, spread)) == pytest.approx(min(map(variance, every)), rel=0.01)


def test_a_pilot_without_hits_still_has_a_spread():
    assert 0 < pilot_deviation(np.zeros(20)) < pilot_deviation(np.arange(20) < 1)
    values = np.random.default_rng(0).random(10_000)
    assert pilot_deviation(values) == pytest.approx(values.std(), rel=1e-3)


def test_a_stratified_share_is_weighted_by_size():
    strata = [StratumTrials(1000, 100, 50), StratumTrials(9000, 100, 0)]
    union, mover = (stratified_share(strata, method=method) for method in ("union", "mover"))
    assert union.estimate == mover.estimate == pytest.approx(0.05)
    halves = [finite(part.hits, part.trials, part.size, 0.975) for part in strata]
    assert union.high == pytest.approx(0.1 * halves[0].high + 0.9 * halves[1].high)
    assert union.low < mover.low < 0.05 < mover.high < union.high
    alone = stratified_share(strata[:1], method="mover")
    assert (alone.low, alone.high) == pytest.approx((finite(50, 100, 1000).low, finite(50, 100, 1000).high))


def test_strata_that_were_tried_whole_are_certain():
    strata = [StratumTrials(100, 100, 50), StratumTrials(300, 300, 0)]
    for method in ("union", "mover"):
        found = stratified_share(strata, method=method)
        assert found.low == found.high == found.estimate == 0.125


def test_a_stratified_sequence_is_its_strata_s_at_a_share_of_alpha():
    rng = np.random.default_rng(5)
    sizes, values = [400, 1200], [rng.random(300), (rng.random(200) < 0.1).astype(float)]
    for replaced in (False, True):
        found = StratifiedSequence(sizes, "betting", 0.9, replaced)
        assert found.interval().low == 0
        assert math.isnan(found.interval().estimate)
        parts = [sequence("betting", 0.95, None if replaced else size) for size in sizes]
        for stratum in (1, 0):
            found.update(stratum, values[stratum])
            parts[stratum].update(values[stratum])
        low, high, mean = np.array([[p.interval().low, p.interval().high, p.interval().estimate] for p in parts]).T @ [
            0.25,
            0.75,
        ]
        end = found.interval()
        assert (end.low, end.high, end.estimate, end.trials) == pytest.approx((low, high, mean, 500))


def test_a_stratified_census_is_one_point():
    found = StratifiedSequence([3, 5], "beta-binomial")
    found.update(0, [1, 0, 1])
    found.update(1, [0, 0, 0, 0, 1])
    assert found.interval() == Interval(0.375, 0.375, 0.375, 8)


# -- screens ---------------------------------------------------------------------------------------------------------


def _screened(rng, trials, rate, audit, missed=0.2):
    values = (rng.random(trials) < rate).astype(float)
    screened = rng.random(trials) < np.where(values == 1, missed, 0.9)
    return values, Screening(screened, screened & (rng.random(trials) < audit), audit)


def test_what_the_screen_left_out_is_in_the_estimate():
    values, screening = _screened(np.random.default_rng(1), 200_000, 0.02, 0.05)
    found = screened_share(values, screening)
    ignored = np.where(screening.screened, 0, values).mean()  # negative control: a screen that is believed
    assert 0.02 in found
    assert found.estimate == pytest.approx(0.02, rel=0.1)
    assert ignored < found.low


def test_values_of_trials_that_did_not_run_do_not_matter():
    values, screening = _screened(np.random.default_rng(2), 5000, 0.1, 0.1)
    unknown = np.where(screening.screened & ~screening.audited, np.nan, values)
    assert screened_share(unknown, screening) == screened_share(values, screening)
    assert np.isnan(unknown).any()


def test_an_audit_of_all_is_no_screen():
    values, screening = _screened(np.random.default_rng(2), 500, 0.1, 1)
    assert screened_share(values, screening) == exact(int(values.sum()), 500)


@pytest.mark.parametrize("audit", [0.05, 0.5])
def test_screened_shares_cover(audit):
    rng = np.random.default_rng(7)
    covered = [0.01 in screened_share(*_screened(rng, 3000, 0.01, audit)) for _ in range(400)]
    assert np.mean(covered) >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / 400)


@pytest.mark.parametrize("method", ["beta-binomial", "betting", "empirical-bernstein"])
def test_a_screened_sequence_covers_at_all_times(method):
    """A finite population without replacement, looked at all the way to its end."""
    rng = np.random.default_rng(8)
    missed = 0
    for _ in range(30):
        values, screening = _screened(rng, 2000, 0.03, 0.2)
        found, ever = ScreenedSequence(method, 0.2, population=2000), False
        for part in np.split(np.arange(2000), 4):
            found.update(values[part], screening.screened[part], screening.audited[part])
            ever = ever or values.mean() not in found.interval()
        missed += ever
    assert missed <= 5  # more has a chance of 1 in 300 at 95 %


@pytest.mark.parametrize("method", ["beta-binomial", "betting", "fixed"])
def test_a_stopping_rule_takes_a_screen_into_account(method):
    values, screening = _screened(np.random.default_rng(3), 4000, 0.05, 0.2)
    rule = Stopping("critical", 0.05, method=method, most=4000)
    found = rule.interval(values, screening=screening)
    assert 0.05 in found
    assert found.half_width > rule.interval(values).half_width
    if method == "fixed":
        assert found == screened_share(values, screening)
        return
    parts = rule.screened_sequence(0.2)
    for part in np.split(np.arange(4000), [1, 100, 101, 2000]):
        parts.update(values[part], screening.screened[part], screening.audited[part])
    assert parts.interval() == found
    assert rule.is_met(values, screening=screening) is rule.is_met_by(found) is True
    assert not rule.is_met(values[:100], screening=Screening(screening.screened[:100], screening.audited[:100], 0.2))


def test_a_screened_sequence_without_population_is_two_sequences():
    values, screening = _screened(np.random.default_rng(9), 2000, 0.1, 0.25)
    found = ScreenedSequence("betting", 0.25)
    found.update(values, screening.screened, screening.audited)
    kept, run = (sequence("betting", 0.975) for _ in range(2))
    kept.update(np.where(screening.screened, 0, values))
    run.update(np.where(screening.audited, values, 0))
    assert found.interval().high == pytest.approx(kept.interval().high + 4 * run.interval().high)
    wider = ScreenedSequence("betting", 0.25, population=10**7)
    wider.update(values, screening.screened, screening.audited)
    assert found.interval().half_width < wider.interval().half_width < 1.1 * found.interval().half_width


# -- pairs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("both", "plain", "hardened", "neither"), [(3, 12, 2, 100), (0, 5, 5, 0), (1, 0, 9, 50)])
def test_mcnemar_is_the_binomial_test_of_discordant_faults(both, plain, hardened, neither):
    before = np.repeat([1, 1, 0, 0], [both, plain, hardened, neither])
    after = np.repeat([1, 0, 1, 0], [both, plain, hardened, neither])
    n = plain + hardened
    two_sided = min(1.0, 2 * sum(math.comb(n, k) for k in range(min(plain, hardened) + 1)) / 2**n)
    assert mcnemar(before, after) == Discordant(plain, hardened, pytest.approx(two_sided))


def test_equal_designs_do_not_differ():
    values = (np.random.default_rng(0).random(500) < 0.3).astype(float)
    assert mcnemar(values, values) == Discordant(0, 0, 1.0)
    assert 0 in paired_difference(values, values)
    assert paired_difference(values, values).estimate == 0


def test_pairs_see_what_two_intervals_cannot():
    """Hardening helps one fault in 50: the designs' intervals overlap, that of the difference excludes 0."""
    rng = np.random.default_rng(1)
    plain = (rng.random(3000) < 0.4).astype(float)
    hardened = plain * (rng.random(3000) > 0.05)
    alone = [sequence("betting") for _ in range(2)]
    for found, values in zip(alone, (plain, hardened), strict=True):
        found.update(values)
    assert alone[1].interval().high > alone[0].interval().low
    paired = paired_difference(plain, hardened)
    assert 0.02 in paired
    assert paired.low > 0
    worse = paired_difference(hardened, plain)
    assert (worse.low, worse.high) == pytest.approx((-paired.high, -paired.low))


# -- variance components ---------------------------------------------------------------------------------------------


def test_components_of_an_additive_table_are_its_effects():
    """No residual: what is left of the table is exactly the variances of its rows' and columns' effects."""
    rng = np.random.default_rng(0)
    rows, columns = rng.normal(size=12), 3 * rng.normal(size=30)
    found = variance_components(rows[:, None] + columns)
    assert found.residual == pytest.approx(0, abs=1e-12)
    assert (found.faults, found.images) == pytest.approx((rows.var(ddof=1), columns.var(ddof=1)))


def test_components_are_unbiased():
    rng = np.random.default_rng(1)
    found = [
        variance_components(rng.normal(0, 2, (8, 1)) + rng.normal(0, 1, 10) + rng.normal(0, 3, (8, 10)))
        for _ in range(2000)
    ]
    # components below 0 become 0, which biases the means up a little: hence the width
    means = [np.mean([getattr(one, name) for one in found]) for name in ("faults", "images", "residual")]
    assert means == pytest.approx([4, 1, 9], rel=0.15)


@pytest.mark.parametrize("design", ["fresh", "shared"])
def test_the_standard_error_is_that_of_simulated_campaigns(design):
    rng = np.random.default_rng(2)
    truth, sets, images = Components(4.0, 1.0, 9.0), 10, 5
    means = []
    for _ in range(4000):
        shape = (1, images) if design == "shared" else (sets, images)
        table = rng.normal(0, 2, (sets, 1)) + rng.normal(0, 1, shape) + rng.normal(0, 3, (sets, images))
        means.append(table.mean())
    assert np.std(means) == pytest.approx(float(standard_error(truth, sets, images, design)), rel=0.05)


def test_the_best_split_is_brute_force_s():
    found, costs = Components(0.0004, 0.01, 0.05), Costs(repetition=20, image=0.5)
    best = best_split(found, 0.01, images=200, costs=costs)
    every = [split_for(found, 0.01, images, costs=costs) for images in range(1, 201)]
    assert best.cost == pytest.approx(min(plan.cost for plan in every), rel=0.005)
    assert best.half_width <= 0.01
    assert best.cost == best.repetitions * (20 + best.images * 0.5)
    theory = math.sqrt(20 * 0.06 / (0.5 * 0.0004))  # images a repetition, where the derivative of the cost is 0
    assert best.images == pytest.approx(theory, rel=0.2)


def test_few_images_and_many_repetitions_need_fewer_evaluations():
    """Drops of 2 points between fault sets: 10,000 images each are wasted on repetitions that differ so much."""
    found = Components(faults=0.02**2, images=0.002, residual=0.05)
    whole = split_for(found, 0.005, images=10_000)
    best = best_split(found, 0.005, images=10_000)
    assert whole.evaluations > 20 * best.evaluations
    dear = best_split(found, 0.005, images=10_000, costs=Costs(repetition=1e6))
    assert dear.repetitions <= whole.repetitions + 1  # fault sets that cost a lot are few


def test_the_split_is_student_s():
    """Repetitions of one pilot: the half-width expected is that of the t-interval."""
    rng = np.random.default_rng(4)
    plan = split_for(Components(0.01, 0, 0.04), 0.1, images=4)
    widths = [
        np.diff(ttest_1samp(rng.normal(0, math.sqrt(0.02), plan.repetitions), 0).confidence_interval(0.95))[0] / 2
        for _ in range(300)
    ]
    assert np.mean(widths) == pytest.approx(plan.half_width, rel=0.05)


def test_shared_images_may_not_reach_the_margin():
    found = Components(0.001, 0.25, 0.01)
    assert split_for(found, 0.01, 100, design="shared") is None
    assert best_split(found, 0.01, 50_000, design="shared").images > 0.25 * (1.96 / 0.01) ** 2


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: exact(3, 2), r"^count must be 0 to total and total at least 1, got 3 of 2; run trials first"),
        (lambda: exact(0, 0), r"^count must be 0 to total and total at least 1, got 0 of 0;"),
        (lambda: exact(0, 1, 95), r"^confidence must be above 0 and below 1, got 95; 0\.95 is 95 %"),
        (lambda: finite(0, 10, 9), r"^population must be at least the 10 trials, got 9;"),
        (lambda: allocate([], 1), r"^sizes must be one or more of at least 1, got \[\];"),
        (lambda: allocate([3, 0], 1), r"^sizes must be one or more of at least 1, got \[3, 0\];"),
        (lambda: allocate([3, 4], 2, [1, 0]), r"^deviations must be 2 above 0, got \[1\.0, 0\.0\];"),
        (lambda: allocate([3, 4], 8), r"^trials must be 2 to 7 for 2 strata with at least 1 each, got 8;"),
        (
            lambda: StratumTrials(3, 4, 1),
            r"^a stratum must have 0 <= hits <= trials <= size and at least one trial, got",
        ),
        (lambda: StratumTrials(3, 0, 0), r"^a stratum must have .* at least one trial, got StratumTrials\(size=3,"),
        (lambda: stratified_share([]), r"^strata must be at least one, got none;"),
        (
            lambda: stratified_share([StratumTrials(2, 1, 0)], method="mover-wald"),
            r"^method must .* did you mean 'mover'",
        ),
        (lambda: StratifiedSequence([2, 0]), r"^sizes must be one or more of at least 1, got \[2, 0\];"),
        (lambda: StratifiedSequence([2]).update(1, [0]), r"^stratum must be 0 to 0, got 1;"),
        (lambda: Screening(np.ones(2, bool), np.ones(2, bool), 0), r"^audit must be above 0 and at most 1, got 0;"),
        (lambda: Screening(np.zeros(2, bool), np.ones(2, bool), 0.5), r"^audited must be some of the screened trials,"),
        (
            lambda: screened_share([0], Screening(np.zeros(2, bool), np.zeros(2, bool), 0.5)),
            r"^values must be of shape \(2,\), got \(1,\); one per trial",
        ),
        (lambda: mcnemar([1, 0], [1]), r"^hardened must be of as many trials as plain, got 1 and 2;"),
        (lambda: mcnemar([0.5], [1]), r"^values must be 0 or 1 for this method, got 0\.5; use 'betting' for means"),
        (
            lambda: variance_components([[1, 2]]),
            r"^values must be finite, of shape \(fault sets, images\) .* \(1, 2\);",
        ),
        (lambda: best_split(Components(1, 1, 1), 0.1, 5, design="new"), r"^design must be a known one, got 'new';"),
        (lambda: best_split(Components(1, 1, 1), 0, 5), r"^half_width and images must be above 0, got 0(\.0)?"),
        (lambda: split_for(Components(1, 1, 1), 0.1, 0), r"^half_width and images must be above 0, got 0\.1"),
        (
            lambda: best_split(Components(0, 1, 0), 0.01, 5, design="shared"),
            r"^half_width must be one that 5 shared images can reach, got 0\.01;",
        ),
        (lambda: Costs(image=0), r"^costs must be 0 or more a repetition and above 0 an image, got 0\.0 and 0;"),
    ],
)
def test_refusals(call, match):
    with pytest.raises(ConfigError, match=match):
        call()
