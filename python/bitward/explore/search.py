# SPDX-License-Identifier: Apache-2.0
"""Searching a design space: FORTUNE's Algorithm 1 as its text means it, the whole space, and layer by layer.

A point is feasible where its accuracy without faults is at least a floor, and the whole interval of what it loses under
faults is at most a ceiling. Of feasible points the one that stores the fewest bits is the answer. Algorithm 1 as
printed does not narrow its range (its line 18); what its text says is a binary search on bit width, and this is one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any, Literal

from bitward.errors import ConfigError
from bitward.explore.design import Design, Point
from bitward.explore.evaluate import Vulnerability

Mode = Literal["binary", "exhaustive"]


@dataclass(frozen=True)
class Limits:
    """What a point must keep: `accuracy_floor` without faults, at most `vulnerability_ceiling` lost under them."""

    accuracy_floor: float
    vulnerability_ceiling: float


@dataclass(frozen=True)
class Evaluation:
    """What was found of a design. `vulnerability` is None where its accuracy is below the floor: not attacked.

    `memory` is its stored bits over those of plain 8-bit words; `is_buildable` says whether it can become RTL as it
    is, `reason` why (not).
    """

    name: str
    accuracy: float
    vulnerability: Vulnerability | None
    parameters: int
    stored_bits: int
    memory: float
    is_buildable: bool = False
    reason: str = ""

    def is_feasible(self, limits: Limits) -> bool:
        """Whether both limits hold, the interval's far end counting."""
        found = self.vulnerability
        return (
            self.accuracy >= limits.accuracy_floor
            and found is not None
            and found.drop.high <= limits.vulnerability_ceiling
        )

    @property
    def cost(self) -> tuple[int, float]:
        """What is minimised: stored bits, then what is lost."""
        return self.stored_bits, 1.0 if self.vulnerability is None else self.vulnerability.drop.estimate


Evaluate = Callable[[Any], Evaluation]
"""What is known of a design of the space, asked for or remembered."""


@dataclass(frozen=True)
class Search:
    """How a search ended: every evaluation in the order made, by design; the `answer` among them, None where none is.

    `is_monotone` is false where a feasible point has fewer bits than an infeasible one of its scheme: a binary search,
    which supposes that this never happens, may then have missed the best.
    """

    evaluations: Mapping[Any, Evaluation]
    answer: Any | None
    is_monotone: bool

    @property
    def count(self) -> int:
        """Designs that were evaluated."""
        return len(self.evaluations)

    @property
    def attacked(self) -> int:
        """Those whose accuracy sufficed, so that faults were injected into them."""
        return sum(each.vulnerability is not None for each in self.evaluations.values())


def ways(schemes: Sequence[str], voted: Sequence[int]) -> list[Callable[[int], Point]]:
    """The ways to store words of any width that a space has: of msb one for each number of voted bits.

    >>> [str(way(4)) for way in ways(["plain", "msb", "tmr", "secded"], [1, 2])]
    ['4-bit', 'P-4-bit', 'P2-4-bit', 'TMR-4-bit', 'SECDED-4-bit']
    """
    found: list[Callable[[int], Point]] = []
    for scheme in schemes:
        if scheme == "msb":
            found += [lambda bits, k=k: Point(bits, "tmr", min(k, bits)) for k in voted]  # type: ignore[misc]
        elif scheme == "tmr":
            found.append(lambda bits: Point(bits, "tmr", bits))
        else:
            found.append(lambda bits, name=scheme: Point(bits, name))  # type: ignore[misc]
    return found


def search(
    mode: Mode, widths: Sequence[int], each: Sequence[Callable[[int], Any]], evaluate: Evaluate, limits: Limits
) -> Search:
    """The space of those widths, ascending, stored in each of the ways, is searched by halves or as a whole.

    A way gives the design of a width: a point, or a whole `Design`. Several widths may give one design, as in formats
    that have a single width: it is evaluated once.
    """
    if not widths or list(widths) != sorted(set(widths)):
        raise ConfigError(f"widths must be at least one, ascending, got {list(widths)}: write bits as [3, 8]")
    found: dict[Any, Evaluation] = {}

    def known(point: Any) -> Evaluation:
        if point not in found:
            found[point] = evaluate(point)
        return found[point]

    for way in each:
        if mode == "exhaustive":
            for bits in reversed(widths):
                known(way(bits))
        else:
            _halve(len(widths), lambda at, way=way: known(way(widths[at])).is_feasible(limits))  # type: ignore[misc]
    return Search(found, best(found, limits), _is_monotone(found, widths, each, limits))


def _halve(count: int, is_feasible: Callable[[int], bool]) -> None:
    """Places are asked for, the middle first, until the first feasible one is known, if all behind one are feasible."""
    least, most = 0, count - 1
    while least <= most:
        middle = (least + most) // 2
        if is_feasible(middle):
            most = middle - 1
        else:
            least = middle + 1


def best(found: Mapping[Any, Evaluation], limits: Limits) -> Any | None:
    """The feasible design that stores the fewest bits, and of such the one that loses least; None without one."""
    feasible = [design for design, each in found.items() if each.is_feasible(limits)]
    return min(feasible, key=lambda design: found[design].cost, default=None)


def _is_monotone(
    found: Mapping[Any, Evaluation], widths: Sequence[int], each: Sequence[Callable[[int], Any]], limits: Limits
) -> bool:
    """Whether, of designs stored in one way, no infeasible width lies above a feasible one."""
    ways_ = ([found[way(bits)].is_feasible(limits) for bits in widths if way(bits) in found] for way in each)
    return all(answers == sorted(answers) for answers in ways_)


def pareto(found: Mapping[Any, Evaluation]) -> set[Any]:
    """The attacked designs that no other one betters in both stored bits and loss without being worse in one."""
    attacked = {design: each.cost for design, each in found.items() if each.vulnerability is not None}
    return {
        design
        for design, (bits, loss) in attacked.items()
        if not any(b <= bits and v <= loss and (b, v) != (bits, loss) for b, v in attacked.values())
    }


def by_layer(
    start: Design, layers: Sequence[str], least: int, evaluate: Callable[[Design], Evaluation], limits: Limits
) -> tuple[Design, dict[Design, Evaluation]]:
    """Layer by layer, in the order given, bits are taken away as long as the design stays feasible; greedy.

    `start` is the answer for the whole network. Each layer is tried with one bit less, and one less again, down to
    `least`, protection kept; the first infeasible try ends with its layer. Gives the last feasible design, and every
    evaluation that was made.
    """
    found: dict[Design, Evaluation] = {}
    chosen = start
    for layer in layers:
        while True:
            point = dict(chosen.layers).get(layer, chosen.point)
            if point.bits <= least:
                break
            fewer = point.with_bits(point.bits - 1)
            others = (pair for pair in chosen.layers if pair[0] != layer)
            tried = replace(chosen, layers=tuple(sorted((*others, (layer, fewer)), key=itemgetter(0))))
            found[tried] = evaluate(tried)
            if not found[tried].is_feasible(limits):
                break
            chosen = tried
    return chosen, found
