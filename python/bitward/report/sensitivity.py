# SPDX-License-Identifier: Apache-2.0
"""The page of a sensitivity flow: heat maps, what goes with them, equation 2, several flips, upsets of a device."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from bitward.explore.text import points, with_interval
from bitward.report.figures import number, percent
from bitward.report.sensitivity_figures import draw
from bitward.report.software import Row, Section, page
from bitward.statistics import Interval

FIGURES = "figures"
NO_SOURCE = (
    "Not given: FIT/Mb of a device comes from its manufacturer. Put reliability: {fit_per_mb: ..., source: ...} into "
    "the flow, with the document that the figure is from."
)
RATE = "Pixels changed, % [95 %]"


def render_sensitivity(folder: Path, summary: Mapping[str, Any]) -> str:
    """The report of a sensitivity flow, from its summary; figures and cells.csv lie in its folder's `figures`."""
    return page(
        summary["flow"],
        f"{summary['network']}, width {summary['width']:g} · {summary['dataset']} ({summary['source']})",
        "What single event upsets in the stored parameters of a segmentation network do to the classes of pixels.",
        sensitivity_sections(draw(folder / FIGURES, summary), summary),
        summary,
    )


def sensitivity_sections(pictures: Mapping[str, Path], summary: Mapping[str, Any]) -> list[Section]:
    """What a sensitivity flow's report shows, with the figures that `draw` made of the summary."""
    sections = [_networks(summary), _answer(summary)]
    for found in summary["seeds"]:
        sections += _of_seed(found, summary, pictures)
    return [*sections, _reliability(summary)]


def _networks(summary: Mapping[str, Any]) -> Section:
    rows: list[Row] = []
    for found in summary["seeds"]:
        stored, trained = found["stored"], found["trained"] or {}
        known = (percent(trained[name], 2) if name in trained else "not measured" for name in stored)
        rows.append((
            f"seed {found['seed']}", *known,
            *(percent(value, 2) for value in stored.values()),
            number(found["parameters"]), number(found["stored_bits"]),
        ))  # fmt: skip
    return Section(
        "The networks",
        (
            "",
            "Trained: global IoU",
            "weighted IoU",
            "As stored: global IoU",
            "weighted IoU",
            "Parameters",
            "Stored bits",
        ),
        rows,
        small=f"Stored as {summary['stored_as']}; over all test images.",
    )


def _answer(summary: Mapping[str, Any]) -> Section:
    rows: list[Row] = [
        (
            f"seed {found['seed']}",
            with_interval(Interval(**found["mean"])),
            points(found["deviation"]),
            with_interval(Interval(**found["per_upset"])),
            number(found["faults"]),
            f"{number(found['census_cells'])} of {number(len(found['cells']))}",
            f"{found['images']} ({number(found['pixels'])} pixels)",
        )
        for found in summary["seeds"]
    ]
    return Section(
        "Mean error rates",
        ("", f"Mean of sets: {RATE}", "Deviation of sets", f"One upset of the bits tried: {RATE}", "Faults",
         "Cells tried whole", "Images"),
        rows,
        small="The mean of sets weighs each parameter set alike, as the papers do; the upset weighs each bit alike, so "
        "that large sets decide. "
        + ("Failed trials count 100 %." if any(found["failed"] for found in summary["seeds"]) else "No trial failed."),
    )  # fmt: skip


def _of_seed(found: Mapping[str, Any], summary: Mapping[str, Any], pictures: Mapping[str, Path]) -> list[Section]:
    seed = found["seed"]
    sections = [
        Section(f"Heat map, seed {seed}", figure=_picture(pictures[f"heatmap-seed{seed}"]),
                small="Every cell with its n and interval: figures/cells.csv. White cells have no such bit."),
        Section(f"Error rate by parameter set, seed {seed}",
                ("Set", "Kind", "Parameters", RATE, "Dangerous bits: " + RATE, "Positive", "1 <= |x| < 2",
                 "Bits of positive / negative values"),
                [_set(row) for row in found["sets"]], figure=_picture(pictures[f"sets-seed{seed}"]),
                small="Dangerous bits: 30 of single precision, 17 to 30 of 32-bit integers."),
        Section(f"What goes with it, seed {seed}", ("Of parameter sets", "Correlation with the dangerous bits", "Sets"),
                [_correlation(row) for row in found["correlations"]], figure=_picture(pictures[f"signs-seed{seed}"]),
                small="Pearson's coefficient with Fisher's 95 % interval; sets of one network are not independent."),
    ]  # fmt: skip
    if f"risk-seed{seed}" in pictures:
        sections.append(Section(f"Values in 1 <= |x| < 2, seed {seed}", figure=_picture(pictures[f"risk-seed{seed}"])))
    sections.append(_equation_2(found, summary, pictures))
    sections.append(Section(
        f"Activation ranges, seed {seed}", ("Module", "Kind", "Least", "Largest"),
        [(row["module"], row["kind"], f"{row['low']:.4g}", f"{row['high']:.4g}") for row in found["ranges"]],
        small="Over the images that faults are judged on, without faults.",
    ))  # fmt: skip
    if found["several"]:
        sections.append(_several(found, pictures))
    return sections


def _set(row: Mapping[str, Any]) -> Row:
    bits = [str(row[name]) if row[name] is not None else "-" for name in ("positive_bits", "negative_bits")]
    return (
        f"p{row['number']} {row['name']}",
        row["kind"],
        number(row["parameters"]),
        with_interval(Interval(**row["error"])),
        "" if row["dangerous"] is None else with_interval(Interval(**row["dangerous"])),
        percent(row["positive"]),
        percent(row["risky"]),
        " / ".join(bits) if bits != ["-", "-"] else "",
    )


def _correlation(row: Mapping[str, Any]) -> Row:
    found = row["r"]
    if found is None:
        return row["what"], "not defined: too few sets, or all alike", ""
    return row["what"], f"{found['estimate']:.2f} [{found['low']:.2f}, {found['high']:.2f}]", str(found["trials"])


def _equation_2(found: Mapping[str, Any], summary: Mapping[str, Any], pictures: Mapping[str, Path]) -> Section:
    title = f"Output layer's biases: prediction and injection, seed {found['seed']}"
    rows = found["output_biases"]
    if rows is None:
        return Section(title, note="Not measured: the network has no output layer with a bias a class in a memory.")
    chosen = [row for row in rows["rows"] if row["bit"] in rows["bits"]]
    names = summary["class_names"]
    return Section(
        title,
        ("Class, bit", "P(class)", "Bias", "Flipped", "Predicted, %", "Computed, %", "Injected, %"),
        [
            (
                f"{names[row['label']] if row['label'] < len(names) else row['label']}, {row['bit']}",
                percent(row["share"], 2),
                f"{row['bias']:.5g}",
                f"{row['value']:.5g}",
                points(row["predicted"], 3),
                "" if row["computed"] is None else points(row["computed"], 3),
                points(row["measured"], 3),
            )
            for row in chosen
        ],  # fmt: skip
        figure=_picture(pictures[f"equation2-seed{found['seed']}"]),
        note=f"Equation 2 says {points(rows['predicted'], 3)} % over bits {_bits(rows['bits'])}, injection of every "
        f"fault {points(rows['measured'], 3)} %.",
    )


def _several(found: Mapping[str, Any], pictures: Mapping[str, Path]) -> Section:
    return Section(
        f"Several random flips at once, seed {found['seed']}",
        ("Flips", RATE, "Deviation", "Least", "Largest", "Repetitions"),
        [
            (
                str(row["flips"]),
                with_interval(Interval(**row["error"])),
                points(row["deviation"]),
                points(min(row["errors"])),
                points(max(row["errors"])),
                str(len(row["errors"])),
            )
            for row in found["several"]
        ],  # fmt: skip
        figure=_picture(pictures[f"several-seed{found['seed']}"]),
        small="Distinct stored bits of all parameters, drawn anew each time; Student's interval over repetitions.",
    )


def _reliability(summary: Mapping[str, Any]) -> Section:
    found = summary["reliability"]
    if found is None:
        return Section("Upsets of a device", note=NO_SOURCE)
    return Section(
        "Upsets of a device",
        ("", "Value"),
        [
            ("FIT/Mb", f"{found['fit_per_mb']:g}, from {found['source']}"),
            ("FIT of the stored parameters", f"{found['fit']:.4g}"),
            ("Upsets an hour", f"{found['upsets_per_hour']:.3g}"),
            ("Hours to one upset", f"{1 / found['upsets_per_hour']:.4g}"),
        ],
        small="FIT: upsets in 1e9 device hours; Mb: 1e6 bits. An upset is no failure: how much harm one does on "
        "average stands above.",
    )


DRAWN = {
    "heatmap": "Heat map: parameter sets down, bits across, share of changed pixels as colour; figures in cells.csv.",
    "sets": "Bars: the mean error rate of each parameter set with its interval, by kind; figures in the table below.",
    "signs": "Lines: share of positive values and error rate of the dangerous bits, set by set; figures above.",
    "risk": "Marks: error rate of the dangerous bits less the share of values in 1 <= |x| < 2, set by set.",
    "equation2": "Marks: error rates that equation 2 predicts against those injected; figures in the table below.",
    "several": "Marks and a line: changed pixels against the number of random flips; figures in the table below.",
}


def _picture(path: Path) -> Markup:
    """The figure in the page, with what it shows in words."""
    data = base64.b64encode(path.read_bytes()).decode()
    says = DRAWN[path.stem.partition("-")[0]]
    return Markup(
        '<div class="scroll" tabindex="0" role="region" aria-label="{}">'
        '<img alt="{}" class="picture" src="data:image/png;base64,{}"></div>'
    ).format(path.stem, says, data)


def _bits(bits: Sequence[int]) -> str:
    return f"{bits[0]} to {bits[-1]}" if len(bits) > 1 else str(bits[0])
