# SPDX-License-Identifier: Apache-2.0
"""Numbers as text, and inline SVG that is as wide as the page leaves it.

Coordinates across are per cent and there is no viewBox: marks spread with the page while text and strokes keep their
size, on a phone too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup, escape

from bitward.report.statistics import Estimate

Tone = Literal["plain", "hardened", "neutral"]
NARROW_SPACE = "\u202f"
ROW_HEIGHT = 26


@dataclass(frozen=True)
class Bar:
    """One bar: how long (0 to 1), in which tone, and what it says at its end."""

    label: str
    length: float
    tone: Tone
    text: str


def number(value: float) -> str:
    """An integer with thousands separated, or a decimal as short as it is exact.

    >>> number(14912), number(199.0), number(70.5)
    ('14,912', '199', '70.5')
    """
    return f"{int(value):,}" if float(value).is_integer() else f"{value:,.4g}"


def percent(share: float, decimals: int = 1) -> str:
    """A share in per cent; what is not 0 or 1 is never rounded to it.

    >>> percent(0), percent(1), percent(0.98333, 2), percent(0.00004), percent(0.9999)
    ('0\u202f%', '100\u202f%', '98.33\u202f%', '0.004\u202f%', '99.99\u202f%')
    """
    if share in (0, 1):
        return f"{share * 100:.0f}{NARROW_SPACE}%"
    while float(text := f"{share * 100:.{decimals}f}") in (0, 100) and decimals < 12:
        decimals += 1
    return f"{text}{NARROW_SPACE}%"


def breakable(name: str) -> Markup:
    """A name that may go on in a new line after each dot or underscore.

    >>> print(breakable("conv1.weight"))
    conv1.<wbr>weight
    """
    return Markup(re.sub(r"([._])", r"\1<wbr>", str(escape(name))))


def capitalised(reason: str) -> str:
    """A sentence with its first letter raised, unless it begins with a file's name.

    >>> capitalised("no stage has run"), capitalised("summary.json has no git")
    ('No stage has run', 'summary.json has no git')
    """
    return reason[:1].upper() + reason[1:] if reason.partition(" ")[0].isalpha() else reason


def cell_text(share: float) -> str:
    """A share as the whole per cent of a heat map's cell; 0 and 100 are exact.

    >>> cell_text(0), cell_text(0.001), cell_text(0.42), cell_text(0.999), cell_text(1)
    ('0', '<1', '42', '>99', '100')
    """
    if share in (0, 1):
        return f"{share * 100:.0f}"
    return "<1" if share < 0.01 else ">99" if share > 0.99 else f"{share * 100:.0f}"


def interval(estimate: Estimate) -> str:
    """How sure a share is, in words, and by which method."""
    if estimate.is_census:
        return f"all {number(estimate.population)} were tried: a census, no sampling error"
    if estimate.count == 0:
        return f"at most {percent(estimate.high)} (95{NARROW_SPACE}% interval, {estimate.method})"
    return f"95{NARROW_SPACE}% interval {percent(estimate.low)} to {percent(estimate.high)} ({estimate.method})"


def sentence(estimate: Estimate | None) -> str:
    """A share, its counts and its interval, in one line."""
    if estimate is None:
        return "not measured: not every stratum was tried"
    counts = f"{number(estimate.count)} of {number(estimate.tried)} faults"
    return f"{percent(estimate.value)} ({counts}), {interval(estimate)}"


def whisker(estimate: Estimate, tone: Tone) -> Markup:
    """A mark at the share with its interval, on a track from 0 to 100 %: a circle for plain, a square for hardened."""
    at, low, high = (f"{100 * value:.3f}%" for value in (estimate.value, estimate.low, estimate.high))
    mark = (
        Markup('<circle class="mark" cx="{}" cy="9" r="5.5"/>').format(at)
        if tone == "plain"
        else Markup('<rect class="mark" x="{}" y="4" width="10" height="10" transform="translate(-5)"/>').format(at)
    )
    return Markup(
        '<svg class="whisker {tone}" role="img" aria-label="{label}" height="18"><title>{label}</title>'
        '<line class="track" x1="0" x2="100%" y1="9" y2="9"/>'
        '<line class="range" x1="{low}" x2="{high}" y1="9" y2="9"/>{mark}</svg>'
    ).format(tone=tone, label=sentence(estimate), low=low, high=high, mark=mark)


def bars(title: str, rows: Sequence[Bar]) -> Markup:
    """Bars under their labels, one under the other."""
    parts = []
    for at, row in enumerate(rows):
        top = at * (ROW_HEIGHT + 22)
        parts.append(
            Markup(
                '<text class="bar-label" x="0" y="{label_y}">{label}</text>'
                '<text class="bar-text" x="100%" y="{label_y}" text-anchor="end">{text}</text>'
                '<rect class="track" x="0" y="{y}" width="100%" height="12" rx="2"/>'
                '<rect class="bar {tone}" x="0" y="{y}" width="{width}%" height="12" rx="2"/>'
            ).format(
                label=row.label,
                text=row.text,
                tone=row.tone,
                label_y=top + 15,
                y=top + 22,
                width=f"{100 * row.length:.3f}",
            )
        )
    height = len(rows) * (ROW_HEIGHT + 22)
    return Markup('<svg class="bars" role="img" aria-label="{}" height="{}">{}</svg>').format(
        f"{title}: " + "; ".join(f"{row.label} {row.text}" for row in rows), height, Markup().join(parts)
    )
