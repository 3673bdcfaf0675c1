# SPDX-License-Identifier: Apache-2.0
"""Scatter plots and curves with intervals, as inline SVG: as wide as the page, text and marks of one size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from bitward.report.figures import Tone

LEFT, RIGHT, TOP, HEIGHT = 9.0, 96.0, 22, 320  # per cent of the width, and pixels
TICKS = 5
FAR = 70.0  # per cent of the width: names of marks further right stand to their left
WITHIN = 0.06  # of a logarithmic axis, before its first and behind its last value
APART = 4  # pixels from the middle to either tone's marks


@dataclass(frozen=True)
class Dot:
    """A mark at (x, y) with the interval of y; those on the front are joined, the chosen one is ringed.

    `says` is what the mark tells whoever points at it.
    """

    x: float
    y: float
    low: float
    high: float
    label: str
    says: str
    tone: Tone = "neutral"
    is_front: bool = False
    is_chosen: bool = False


def steps(least: float, most: float, count: int = TICKS) -> list[float]:
    """About so many round numbers from `least` or below to `most` or above.

    >>> steps(0, 1.1), steps(-3, 41)
    ([0.0, 0.5, 1.0, 1.5], [-20.0, 0.0, 20.0, 40.0, 60.0])
    """
    span = (most - least) / max(1, count - 1) or 1.0
    power = 10.0 ** math.floor(math.log10(span))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= span * 0.999)
    first, last = math.floor(least / step + 1e-9), math.ceil(most / step - 1e-9)
    return [round(number * step, 12) for number in range(first, max(last, first + 1) + 1)]


def with_front(dots: Sequence[Dot]) -> list[Dot]:
    """The dots, those marked as the Pareto front that no other is as good as in both and better in one; less is better.

    >>> one, two, three = (Dot(x, y, y, y, "", "") for x, y in ((1, 5), (2, 3), (3, 4)))
    >>> [dot.is_front for dot in with_front([one, two, three])]
    [True, True, False]
    """
    return [
        replace(dot, is_front=not any(
            other.x <= dot.x and other.y <= dot.y and (other.x, other.y) != (dot.x, dot.y) for other in dots
        ))
        for dot in dots
    ]  # fmt: skip


@dataclass(frozen=True)
class _Frame:
    """The ticks of both axes, and where values lie between them: across by their logarithms and within if so asked."""

    xs: list[float]
    ys: list[float]
    is_log: bool = False

    def x(self, value: float) -> str:
        first, last, at = (math.log10(each) if self.is_log else each for each in (self.xs[0], self.xs[-1], value))
        share = (at - first) / ((last - first) or 1.0)
        if self.is_log:
            share = WITHIN + (1 - 2 * WITHIN) * share
        return f"{LEFT + share * (RIGHT - LEFT):.2f}%"

    def y(self, value: float) -> str:
        return f"{TOP + (self.ys[-1] - value) / (self.ys[-1] - self.ys[0]) * (HEIGHT - TOP):.1f}"


def scatter(title: str, dots: Sequence[Dot], across: str, up: str, limit: float | None = None) -> Markup:
    """The dots over their axes (titles `across` and `up`); a dashed line at `limit`, what y may be at most."""
    heights = [value for dot in dots for value in (dot.low, dot.high)] + [0.0] + ([] if limit is None else [limit])
    frame = _Frame(steps(0.0, max(dot.x for dot in dots)), steps(min(heights), max(heights)))
    parts = [*_grid(frame), *_titles(across, up)]
    if limit is not None:
        parts.append(_line("limit", f"{LEFT}%", f"{RIGHT}%", frame.y(limit), frame.y(limit)))
    front = sorted((dot for dot in dots if dot.is_front), key=lambda dot: dot.x)
    for one, other in zip(front, front[1:], strict=False):
        parts.append(_line("front", frame.x(one.x), frame.x(other.x), frame.y(one.y), frame.y(other.y)))
    by_x = sorted(dots, key=lambda dot: dot.x)
    parts += [_mark(frame, dot, is_below=bool(at % 2)) for at, dot in enumerate(by_x)]
    return Markup('<svg class="scatter" role="img" aria-label="{}" width="100%" height="{}">{}</svg>').format(
        title, HEIGHT + 46, Markup("").join(parts)
    )


def curve(title: str, dots: Sequence[Dot], across: str, up: str) -> Markup:
    """The dots over a logarithmic axis, those of one tone joined from left to right; both tones a little apart."""
    heights = [value for dot in dots for value in (dot.low, dot.high)]
    frame = _Frame(sorted({dot.x for dot in dots}), steps(min(heights), max(heights)), is_log=True)
    parts = [*_grid(frame), *_titles(across, up)]
    for tone, apart in (("plain", -APART), ("hardened", APART)):
        line = sorted((dot for dot in dots if dot.tone == tone), key=lambda dot: dot.x)
        joined = [
            _line("front", frame.x(one.x), frame.x(other.x), frame.y(one.y), frame.y(other.y))
            for one, other in zip(line, line[1:], strict=False)
        ]
        marks = Markup("").join([*joined, *(_mark(frame, dot) for dot in line)])
        parts.append(Markup('<g class="{}" transform="translate({} 0)">{}</g>').format(tone, apart, marks))
    return Markup('<svg class="scatter curve" role="img" aria-label="{}" width="100%" height="{}">{}</svg>').format(
        title, HEIGHT + 46, Markup("").join(parts)
    )


def _line(kind: str, x1: str, x2: str, y1: str, y2: str) -> Markup:
    return Markup('<line class="{}" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(kind, x1, x2, y1, y2)


def _grid(frame: _Frame) -> list[Markup]:
    rows = [_line("grid", f"{LEFT}%", f"{RIGHT}%", frame.y(value), frame.y(value)) for value in frame.ys]
    up = Markup('<text class="tick" x="{}%" dx="-8" y="{}" dy="4" text-anchor="end">{:g}</text>')
    across = Markup('<text class="tick" x="{}" y="{}" text-anchor="middle">{:g}</text>')
    rows += [up.format(LEFT, frame.y(value), value) for value in frame.ys]
    return rows + [across.format(frame.x(value), HEIGHT + 18, value) for value in frame.xs]


def _titles(across: str, up: str) -> list[Markup]:
    return [
        Markup('<text class="axis" x="{}%" y="{}" text-anchor="middle">{}</text>').format(
            (LEFT + RIGHT) / 2, HEIGHT + 40, across
        ),
        Markup('<text class="axis" x="0" y="10">{}</text>').format(up),
    ]


def _mark(frame: _Frame, dot: Dot, is_below: bool = False) -> Markup:
    """A circle for plain, a square for hardened, with its interval and its name, above or below."""
    x, y = frame.x(dot.x), frame.y(dot.y)
    ring = Markup('<circle class="ring" cx="{}" cy="{}" r="11"/>').format(x, y) if dot.is_chosen else Markup("")
    mark = (
        Markup('<circle class="mark" cx="{}" cy="{}" r="5.5"/>').format(x, y)
        if dot.tone == "plain"
        else Markup('<rect class="mark" x="{}" y="{}" width="10" height="10" transform="translate(-5 -5)"/>').format(
            x, y
        )
    )
    return Markup(
        '<g class="{}" tabindex="0"><title>{}</title>{}{}{}'
        '<text class="name" x="{}" y="{}" dx="{}" dy="{}" text-anchor="{}">{}</text></g>'
    ).format(
        dot.tone, dot.says, _line("range", x, x, frame.y(dot.low), frame.y(dot.high)), ring, mark, x, y,
        -9 if float(x[:-1]) > FAR else 9, 16 if is_below else -7, "end" if float(x[:-1]) > FAR else "start", dot.label,
    )  # fmt: skip
