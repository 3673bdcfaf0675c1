# SPDX-License-Identifier: Apache-2.0
"""Searches over made-up evaluations: by halves, as a whole, the front, layer by layer."""

from __future__ import annotations

import re

import pytest
from rich.console import Console

from bitward.errors import ConfigError
from bitward.explore.design import Design, Point
from bitward.explore.evaluate import Rate, Vulnerability
from bitward.explore.search import Evaluation, Limits, best, by_layer, pareto, search, ways
from bitward.flow.explore_spec import Explore
from bitward.flow.explorer import Explorer, count_text
from bitward.statistics import Interval

LIMITS = Limits(accuracy_floor=0.9, vulnerability_ceiling=0.03)


def evaluation(name, accuracy, drop, bits) -> Evaluation:
    lost = None
    if drop is not None:
        lost = Vulnerability(Rate(1e-4), Interval(drop - 0.01, drop + 0.01, drop, 20), accuracy, (1.0, 0, 2), 20, 9, 0)
    return Evaluation(name, accuracy, lost, 1000, bits, bits / 8000)


def monotone(least_accurate: int, least_robust: dict[str, int]):
    """A point is accurate from so many bits on, and robust from so many on that its scheme needs; asked are counted."""
    asked: list[Point] = []

    def evaluate(point: Point) -> Evaluation:
        asked.append(point)
        accuracy = 0.95 if point.bits >= least_accurate else 0.5
        drop = 0.01 if point.bits >= least_robust[point.scheme] else 0.2
        return evaluation(str(point), accuracy, drop if accuracy > 0.9 else None, 1000 * point.stored_bits)

    return evaluate, asked


CASES = [(3, {"plain": 7, "tmr": 4, "secded": 2}), (2, {"plain": 9, "tmr": 3, "secded": 2}),
         (8, {"plain": 2, "tmr": 2, "secded": 2}), (9, {"plain": 2, "tmr": 2, "secded": 2})]  # fmt: skip


@pytest.mark.parametrize(("accurate", "robust"), CASES)
def test_halves_and_the_whole_space_give_one_answer_where_it_is_monotone(accurate, robust):
    kinds = ways(["plain", "msb", "tmr", "secded"], [1, 2])
    found = {}
    for mode in ("binary", "exhaustive"):
        evaluate, asked = monotone(accurate, robust)
        found[mode] = search(mode, range(2, 9), kinds, evaluate, LIMITS)
        assert len(asked) == len(set(asked)) == found[mode].count, "a point was asked for twice"
        assert found[mode].is_monotone
    assert found["binary"].answer == found["exhaustive"].answer
    # 2-bit words with two voted bits and fully triplicated ones are the same point
    assert found["exhaustive"].count == 5 * 7 - 1
    assert found["binary"].count <= 5 * 3


def test_the_answer_stores_the_fewest_bits_whatever_its_width():
    evaluate, _ = monotone(2, {"plain": 9, "tmr": 3, "secded": 2})
    done = search("exhaustive", range(2, 9), ways(["msb", "secded"], [1]), evaluate, LIMITS)
    assert str(done.answer) == "P-3-bit"  # 5 bits, against 6 of SEC-DED with 2 bits
    assert done.attacked == done.count == 14


def test_a_point_below_the_floor_is_not_attacked_and_not_the_answer():
    evaluate, _ = monotone(9, {"plain": 2})
    done = search("binary", range(2, 9), ways(["plain"], [1]), evaluate, LIMITS)
    assert done.answer is None and done.attacked == 0 and done.count == 3


def test_a_search_by_halves_says_where_it_may_be_wrong(tmp_path):
    """Negative control: 5 bits are worse than 3, as noise can make them; halves then miss, and it is said."""

    def evaluate(point: Point) -> Evaluation:
        return evaluation(str(point), 0.95, {5: 0.2, 7: 0.01}.get(point.bits, 0.01), point.bits)

    done = search("exhaustive", range(2, 9), ways(["plain"], [1]), evaluate, LIMITS)
    assert not done.is_monotone and str(done.answer) == "2-bit"
    assert str(search("binary", range(2, 9), ways(["plain"], [1]), evaluate, LIMITS).answer) == "6-bit"
    section = Explore(
        bits=(2, 8), schemes=("plain",), ber=1e-4, accuracy_floor=0.9, vulnerability_ceiling=0.03, mode="exhaustive"
    )
    explorer = Explorer(tmp_path, Console(quiet=True), section, "cpu", False)
    _, count = explorer.searched(range(2, 9), explorer.ways, evaluate)
    assert (count["evaluated"], count["space"], count["same_answer"]) == (7, 7, False)
    assert re.fullmatch(
        r"Whole space: 7 of 7 points .* A binary search evaluates 3 and gives another answer\. Feasible widths lie "
        r"below infeasible ones of one scheme: a binary search may miss the best here\.", count_text(count),
    )  # fmt: skip


def test_a_point_is_feasible_only_with_its_whole_interval():
    sure, unsure = evaluation("sure", 0.95, 0.019, 10), evaluation("unsure", 0.95, 0.021, 5)
    assert sure.is_feasible(LIMITS) and not unsure.is_feasible(LIMITS)
    assert best({"sure": sure, "unsure": unsure}, LIMITS) == "sure"


def test_the_front_is_what_nothing_betters():
    found = {
        name: evaluation(name, 0.95, drop, bits)
        for name, drop, bits in (("a", 0.5, 1), ("b", 0.2, 3), ("c", 0.3, 4), ("d", 0.2, 5), ("e", 0.0, 9))
    }
    found["not attacked"] = evaluation("not attacked", 0.1, None, 1)
    assert pareto(found) == {"a", "b", "e"}


def test_layers_lose_bits_until_it_hurts():
    least = {"a": 2, "b": 4, "c": 3}  # bits that each layer needs, by itself

    def evaluate(design: Design) -> Evaluation:
        bits = {name: dict(design.layers).get(name, design.point).bits for name in least}
        lost = 0.5 if any(bits[name] < least[name] for name in least) else 0.01
        return evaluation(str(design), 0.95, lost, sum(bits.values()))

    chosen, found = by_layer(Design(Point(4, "tmr", 1)), list(least), 2, evaluate, LIMITS)
    assert {name: dict(chosen.layers).get(name, chosen.point).bits for name in least} == least
    assert all(point.scheme == "tmr" for _, point in chosen.layers)
    assert len(found) == 5  # a: 3 and 2; b: 3, in vain; c: 3, and 2 in vain
    assert found[chosen].is_feasible(LIMITS)


def test_widths_must_ascend():
    with pytest.raises(ConfigError, match=r"^widths must be at least one, ascending, got \[4, 3\]: write"):
        search("binary", [4, 3], [], lambda point: None, LIMITS)
