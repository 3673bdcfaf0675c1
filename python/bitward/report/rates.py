# SPDX-License-Identifier: Apache-2.0
"""Accuracy and changed answers against the bit error rate, both builds, with FORTUNE's two indices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from bitward.report.figures import NARROW_SPACE, number, percent
from bitward.report.headline import TONES
from bitward.report.load import SIDES, Missing, RunData, Side
from bitward.report.scatter import Dot, curve
from bitward.report.software import ACROSS
from bitward.statistics import Interval

UNKNOWN = "not measured"


@dataclass(frozen=True)
class RateRow:
    """A build under a rate, as text."""

    side: Side
    ber: str
    flips: str
    trials: str
    accuracy: str
    changed: str
    p_drop: str
    rap: str


@dataclass(frozen=True)
class Rates:
    """The section: its figures, its rows, and what the indices compare."""

    figures: tuple[Markup, ...]
    rows: tuple[RateRow, ...]
    baseline: str
    failed: int


def rates_of(run: RunData) -> Rates | None:
    """The section; None where the flow asked for no rates, or has not come so far."""
    found = run.figure("ber")
    if isinstance(found, Missing):
        return None
    figures = [_figure("Share of answers that change, %", changed_dots(found), "answers changed, %")]
    if all(found[side]["right"] is not None for side in SIDES):
        figures.insert(0, _figure("Accuracy under bit error rates, %", accuracy_dots(found), "accuracy, %"))
    rows = tuple(_row(side, found[side], each) for side in SIDES for each in found[side]["points"].values())
    failed = sum(each["failed"] for side in SIDES for each in found[side]["points"].values())
    return Rates(tuple(figures), rows, _baseline(found), failed)


def _figure(title: str, dots: list[Dot], up: str) -> Markup:
    return curve(f"{title}: " + "; ".join(dot.says for dot in dots), dots, ACROSS, up)


def accuracy_dots(found: Mapping[str, Any]) -> list[Dot]:
    """Accuracy in per cent, with its interval, of each build at each rate."""
    return [_dot(side, each, accuracy_of(found[side], each), "accuracy") for side, each in _points(found)]


def changed_dots(found: Mapping[str, Any]) -> list[Dot]:
    """Changed answers in per cent, with their interval, of each build at each rate."""
    return [_dot(side, each, within(Interval(**each["changed"])), "answers changed") for side, each in _points(found)]


def _points(found: Mapping[str, Any]) -> Iterator[tuple[Side, Mapping[str, Any]]]:
    return ((side, each) for side in SIDES for each in found[side]["points"].values())


def accuracy_of(build: Mapping[str, Any], point: Mapping[str, Any]) -> Interval:
    """The accuracy that is left under a rate: that without faults less the drop."""
    golden, drop = build["right"] / build["images"], Interval(**point["drop"])
    left = (golden - drop.high, golden - drop.low, golden - drop.estimate)
    return within(Interval(*left, drop.trials))


def within(found: Interval) -> Interval:
    """The interval of a share, which is 0 to 1."""
    return Interval(max(0.0, found.low), min(1.0, found.high), found.estimate, found.trials)


def _dot(side: Side, point: Mapping[str, Any], found: Interval, what: str) -> Dot:
    low, at, high = (100 * value for value in (found.low, found.estimate, found.high))
    return Dot(point["ber"], at, low, high, "", f"{TONES[side]}, {point['ber']:g}: {what} {_share(found)}", side)


def _share(found: Interval) -> str:
    """A share with the ends of its interval.

    >>> _share(Interval(0.01, 0.03, 0.02, 9)).replace(NARROW_SPACE, " ")
    '2.00 % [1.00, 3.00]'
    """
    return f"{100 * found.estimate:.2f}{NARROW_SPACE}% [{100 * found.low:.2f}, {100 * found.high:.2f}]"


def _row(side: Side, build: Mapping[str, Any], point: Mapping[str, Any]) -> RateRow:
    mean, least, most = point["flips"]
    return RateRow(
        side,
        f"{point['ber']:g}",
        f"{mean:,.1f} ({least:,} to {most:,})",
        f"{number(point['trials'])} x {number(build['images'])}",
        UNKNOWN if point["drop"] is None else _share(accuracy_of(build, point)),
        _share(within(Interval(**point["changed"]))),
        UNKNOWN if point["p_drop"] is None else f"{point['p_drop']:.3g}",
        UNKNOWN if point["rap"] is None else f"{point['rap']:.3g}",
    )


def _baseline(found: Mapping[str, Any]) -> str:
    """What the indices compare with, and the overheads that are in them."""
    build = found["hardened"]
    slower = "a time not measured" if build["time"] is None else f"{build['time']:.3f} times the cycles"
    return (
        f"The baseline is the plain build ({number(found['plain']['stored_bits'])} live bits); the hardened one has "
        f"{build['memory']:.3f} times the bits and takes {slower}. FORTUNE's own baseline is an unprotected 8-bit "
        f"network.{_without_faults(build)}"
    )


def _without_faults(build: Mapping[str, Any]) -> str:
    if build["right"] is None:
        return ""
    share = percent(build["right"] / build["images"], 2)
    return f" Without faults {number(build['right'])} of the {number(build['images'])} images are right ({share})."
