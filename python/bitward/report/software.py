# SPDX-License-Identifier: Apache-2.0
"""The pages of software-only work: the report of a flow of a float network, and of a search of its design space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from bitward.explore.seeds import over_seeds
from bitward.explore.text import with_interval
from bitward.report.figures import NARROW_SPACE, Tone, number, percent
from bitward.report.scatter import Dot, curve, scatter
from bitward.report.templates import template, text_of
from bitward.statistics import Interval

ACROSS, LOST = "bit error rate: flips per stored bit", "points lost"
Row = Sequence[str]


@dataclass(frozen=True)
class Section:
    """A heading, a sentence, a figure, a table, small print: whatever there is of them."""

    title: str
    columns: Row = ()
    rows: Sequence[Row] = ()
    note: str = ""
    small: str = ""
    figure: Markup | None = None
    ends_in_words: bool = False  # the last column is no numbers


def page(
    title: str,
    kicker: str,
    lede: str,
    sections: Sequence[Section],
    summary: Mapping[str, Any],
    chip: str = "software-only",
) -> str:
    """One self-contained HTML file; `summary` has what was said of the figures, the settings and the versions.

    `chip` stands beside the kicker: what no figure here is more than.
    """
    versions = ", ".join(f"{name} {value}" for name, value in sorted(summary["versions"].items()))
    return template("software.html").render(
        css=text_of("page.css"), title=title, kicker=kicker, lede=lede, chip=chip,
        sections=sections, said=summary["said"], settings=summary["settings"],
        provenance=[("Device", summary["device"]), ("Versions", versions), ("Source", summary["git"])],
    ) + "\n"  # fmt: skip


def render_flow(summary: Mapping[str, Any]) -> str:
    """The report of a software-only flow, from its summary."""
    return page(
        summary["flow"],
        f"{summary['network']}, width {summary['width']:g} · {summary['dataset']}",
        "What happens to a float network's accuracy when its weights are quantized without retraining, stored so, and "
        "bits of these stored words flip.",
        flow_sections(summary),
        summary,
    )


def flow_sections(summary: Mapping[str, Any]) -> list[Section]:
    """What a software-only flow's report shows."""
    memory, at_risk, apart = summary["memory"], summary.get("exponents_at_risk", 0), summary.get("apart", 0)
    return [
        Section(
            "Accuracy without faults",
            ("Seed", "Float network", f"Stored as {summary['stored_as']}"),
            [
                (f"{seed}", percent(summary["float_accuracy"][seed], 2), percent(found, 2))
                for seed, found in summary["accuracy"].items()
            ],
            small=f"Top-1 over all {number(summary['test_images'])} test images; no retraining.",
        ),
        Section(
            "Memory",
            ("", "Bits"),
            [
                ("Parameters in memories", number(memory["parameters"])),
                ("Stored bits, copies and check bits included", number(memory["stored_bits"])),
                ("Against unprotected 8-bit words", percent(memory["of_8_bit"], 2)),
                *([("Weights apart, each with its place", number(apart))] if apart else []),
                *([("Words whose exponents' top bit is 1", number(at_risk))] if at_risk else []),
            ],
            small="Upsets of the other exponent bits may make these words huge: they are 2 or more as stored."
            if at_risk
            else "",
        ),
        *_vulnerability(summary),
    ]


def _vulnerability(summary: Mapping[str, Any]) -> list[Section]:
    rows = summary.get("vulnerability", [])
    if not rows:
        return [Section("Accuracy lost under faults", note="Not measured: the flow did not come so far.")]
    columns = (
        "Rate, seed", "Flips a trial: mean (range)", "Points lost [95 %]", "Fault sets x images", "P_drop, index", "RAP"
    )  # fmt: skip
    cells = [
        (
            f"{row['rate']['ber']:g} over {row['rate']['spread']}{_assumed(row['rate'])}, seed {row['seed']}",
            f"{row['flips'][0]:,.1f} ({row['flips'][1]:,} to {row['flips'][2]:,})",
            with_interval(Interval(**row["drop"])),
            f"{row['trials']} x {row['images']}",
            f"{row['p_drop']:.3g}",
            f"{row['rap']:.3g}",
        )
        for row in rows
    ]
    failed = sum(row["failed"] for row in rows)
    curves = [
        Section(
            f"Accuracy lost against the rate, over {spread}", figure=curve(_says(dots), dots, ACROSS, LOST),
            small="Means of training seeds, with Student's 95 % interval between seeds where there are several, else "
            "over fault sets.",
        )
        for spread, dots in lost_dots(summary).items()
    ]  # fmt: skip
    return [
        *curves,
        Section(
            "Accuracy lost under faults",
            columns,
            cells,
            note="Vulnerability: the accuracy without faults less that under them, on the same images.",
            small=f"{number(failed)} trials failed and count as an accuracy of 0." if failed else "No trial failed.",
        ),
    ]


def lost_dots(summary: Mapping[str, Any]) -> dict[str, list[Dot]]:
    """Points of accuracy lost at each rate, by how the flips are spread; means of training seeds."""
    memory = summary["memory"]
    tone: Tone = "hardened" if memory["stored_bits"] > memory["plain_bits"] else "plain"
    found: dict[str, list[Dot]] = {}
    for (spread, ber), cell in over_seeds(summary.get("vulnerability", [])).items():
        low, lost, high = (100 * cell[name] for name in ("low", "drop", "high"))
        says = f"{ber:g}: {lost:.2f} [{low:.2f}, {high:.2f}] points lost"
        found.setdefault(spread, []).append(Dot(ber, lost, low, high, "", says, tone))
    return found


def _says(dots: Sequence[Dot]) -> str:
    return "Accuracy lost: " + "; ".join(dot.says for dot in dots)


def _assumed(rate: Mapping[str, Any]) -> str:
    return ", exponents safe" if rate.get("safe_exponents") else ""


def render_search(summary: Mapping[str, Any]) -> str:
    """The page of a search, from its `search.json`."""
    answer = summary["recommended"]
    rows = [row for row in summary["points"] if row["drop"] is not None]
    search = summary["search"]
    figure = None
    if rows:
        ceiling = 100 * search["vulnerability_ceiling"]
        figure = scatter(
            "Points lost under faults against memory", [_dot(row) for row in rows],
            "stored bits, % of unprotected 8-bit words", "points lost", limit=ceiling,
        )  # fmt: skip
    sections = [
        Section("Recommended", note=summary["reason"], small=summary["evaluations_text"]),
        Section(
            "Vulnerability against memory",
            figure=figure,
            note="" if rows else "No point was attacked: none has the accuracy asked for.",
            small="Circles are plain, squares protected; the line joins the Pareto front, the ring is the answer, and "
            f"dashes are the ceiling. {search['ber']:g} flips per stored bit, over {search['spread']}."
            if rows
            else "",
        ),
        Section(
            "Every point",
            ("Point", "Accuracy", "Points lost [95 %]", "Flips a trial", "Stored bits", "Memory", "Feasible", "RTL"),
            [_cells(row) for row in summary["points"]],
            ends_in_words=True,
            small="Memory is stored bits over those of unprotected 8-bit words. RTL says whether hardware can be made "
            "of the point as it is, and why (not).",
        ),
    ]
    return page(
        f"{summary['flow']}: {answer or 'no point is feasible'}",
        f"{summary['network']} · {summary['dataset']}",
        "How few bits, and how much protection, keep the accuracy that was asked for when stored bits flip.",
        sections,
        summary,
    )


def _dot(row: Mapping[str, Any]) -> Dot:
    drop = row["drop"]
    tone: Tone = "hardened" if row["is_protected"] else "plain"
    low, estimate, high = (100 * drop[name] for name in ("low", "estimate", "high"))
    says = f"{row['name']}: {with_interval(Interval(**drop))} points lost"
    label = "" if "," in row["name"] and not row["is_recommended"] else row["name"]  # layer by layer they crowd
    return Dot(100 * row["memory"], estimate, low, high, label, says, tone, row["is_pareto"], row["is_recommended"])


def _cells(row: Mapping[str, Any]) -> Row:
    drop = row["drop"]
    return (
        row["name"],
        f"{percent(row['accuracy'], 2)}",
        "not attacked" if drop is None else with_interval(Interval(**drop)),
        "" if drop is None else f"{row['flips'][0]:,.1f}",
        number(row["stored_bits"]),
        f"{100 * row['memory']:.2f}{NARROW_SPACE}%",
        "yes" if row["is_feasible"] else "no",
        f"{'yes' if row['is_buildable'] else 'no'}: {row['reason']}",
    )
