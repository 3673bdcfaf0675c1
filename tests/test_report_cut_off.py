# SPDX-License-Identifier: Apache-2.0
"""A run that was cut off: what its campaigns did not come to is "not measured" on the page, in tables and figures."""

from __future__ import annotations

import csv
import re
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import report_run
from test_report import Page, edit

from bitward.campaign import Trial
from bitward.cli import main
from bitward.faults import every_fault, single_bit_stratified
from bitward.formats import Int
from bitward.manifest import Manifest, Memory
from bitward.report import export_run, tables, write_comparison, write_report
from bitward.report.load import Missing, load_run
from bitward.report.plots import COLOURS
from bitward.schemes import Plain, Scheme, Secded

SIDES = ("plain", "hardened")


def again(run: Path, name: str, rows: list[Trial], planned: int | None = None) -> None:
    """The campaign of the run has these trials, and no others."""
    shutil.rmtree(run / "campaigns" / name)
    report_run.store(run / "campaigns" / name, rows, planned)


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.open(encoding="utf-8")))


def failed(trial: Trial) -> Trial:
    return replace(trial, status="failed", error="it did", outputs_changed=None, top1_changed=None,
                   top1_correct=None, outputs_sha256=None)  # fmt: skip


@pytest.fixture(scope="module")
def cut_off(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both samples end behind one memory's trials, each target tried other faults, and the voted bits were sampled."""
    run: Path = tmp_path_factory.mktemp("cut") / "run"
    found = report_run.write_run(run)
    for side in SIDES:
        rows = found[f"strata-{side}"]
        again(run, f"strata-{side}", [row for row in rows if row.memory == "fc.weight"], len(rows))
    for at, on in enumerate(("engine", "rtl", "board")):
        again(run, f"agree-{on}", found[f"agree-{on}"][at::3])
    again(run, "msb-hardened", found["msb-hardened"][::2])
    return run


def test_the_page_says_what_was_not_measured(cut_off: Path) -> None:
    page = Page(write_report(cut_off).read_text(encoding="utf-8"))
    assert "Not measured. The campaign strata-plain has not come to every memory and bit." in page.text
    assert "Not measured. No fault was tried on every target: the run did not come so far." in page.text
    assert f"A sample of these bits, on {report_run.IMAGES} images each." in page.text
    assert "stopped early, strata-plain: 80 of " in page.text
    for name, size, cells in (("conv.weight", 24, 4 + 6), ("conv.threshold", 15, 10 + 10)):
        says = [each for each in page.says if each.startswith(f"{name}, bit")]
        assert len(says) == 2 * cells, "both metrics, both builds"
        assert all(each.endswith(f": not measured, none of its {size} bits was tried") for each in says)


def test_tables_say_what_was_not_measured(cut_off: Path, tmp_path: Path) -> None:
    edit(cut_off, settings={"safety": {"fit_per_mb": 10.0, "source": "a data sheet"}})
    assert main(["report", str(cut_off), "--out", str(tmp_path / "page.html"), "--csv", str(tmp_path / "csv")]) == 0
    bits = {row["memory"]: set() for row in rows_of(tmp_path / "csv" / "bits.csv")}
    for row in rows_of(tmp_path / "csv" / "bits.csv"):
        bits[row["memory"]].add((row["share"] == "not measured", row["tried"] == "", row["low"] == row["high"] == ""))
    assert bits == {"conv.weight": {(True,) * 3}, "conv.threshold": {(True,) * 3}, "fc.weight": {(False,) * 3}}
    safe = {(row["side"], row["memory"]): row for row in rows_of(tmp_path / "csv" / "safety.csv")}
    assert len(safe) == 8
    for (_, memory), row in safe.items():
        known = memory == "fc.weight"  # the others, and all memories together, are no figure
        assert [row[name] != "not measured" for name in ("critical", "share", "critical_fit")] == [known] * 3
        assert float(row["upset_fit"]) > 0 and (row["method"] == "-") is not known
    masked_rows = rows_of(tmp_path / "csv" / "masked.csv")
    assert {row["memory"] for row in masked_rows if row["masked"] != "not measured"} == {"fc.weight"}


def test_figures_show_what_was_not_measured(cut_off: Path, tmp_path: Path) -> None:
    shutil.copytree(cut_off, gone := tmp_path / "gone")
    shutil.rmtree(gone / "campaigns" / "strata-hardened")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a legend of nothing, an axis without ends
        export_run(gone, figures=tmp_path / "figures")
    text = " ".join((tmp_path / "figures" / "heat-map-outputs-changed.svg").read_text().split())
    assert text.count(">not measured<") == 2, "the hardened build's weights and thresholds"
    assert text.count(">\N{EN DASH}<") == 4 + 10, "bits that were not tried"


def test_a_comparison_leaves_out_dots_that_were_not_measured(cut_off: Path, tmp_path: Path) -> None:
    report_run.write_run(whole := tmp_path / "whole")
    edit(whole, flow="whole")
    shutil.copytree(cut_off, gone := tmp_path / "gone")
    shutil.rmtree(gone / "campaigns" / "strata-hardened")
    for one in (cut_off, gone):
        page = write_comparison([one, whole], tmp_path / "page.html", tmp_path / "csv").read_text(encoding="utf-8")
        rows = {
            row["Build"]: row["Flips that change a top-1 answer [95 %]"] for row in rows_of(tmp_path / "csv/builds.csv")
        }
        assert [rows[f"toy, {side}"] for side in SIDES] == ["not measured"] * 2
        assert all("%" in rows[f"whole, {side}"] for side in SIDES)
        assert len(re.findall(r"thousand critical bits of", page)) == 2 and "toy, plain: " not in page


def test_a_trial_that_failed_is_counted_and_hides_no_other(tmp_path: Path) -> None:
    found = report_run.write_run(tmp_path)
    rows = list(found["strata-plain"])
    worst = min(rows, key=lambda row: (row.top1_correct, -row.top1_changed, row.trial))
    unharmed = [row for row in rows if not row.top1_changed][:3]
    rows = [failed(row) if row in unharmed else row for row in rows]
    again(tmp_path, "strata-plain", rows)
    again(tmp_path, "strata-hardened", [failed(row) for row in found["strata-hardened"]])
    plain, hardened = tables.worst(load_run(tmp_path))
    assert plain.rows[0][0] == f"{worst.memory}:{worst.word}:{worst.bit}"
    assert plain.golden == report_run.IMAGES - 1
    bars = {bar.label: bar.text for bar in plain.histogram}
    assert bars.pop("failed: no answers") == "3" and sum(map(int, bars.values())) == len(rows) - 3
    assert hardened == Missing("no trial of the campaign strata-hardened gave answers")
    text = Page(write_report(tmp_path).read_text(encoding="utf-8")).text
    assert "run without labels" not in text and "failed: no answers 3" in text


def test_without_labels_no_fault_is_the_worst(tmp_path: Path) -> None:
    found = report_run.write_run(tmp_path)
    again(tmp_path, "strata-plain", [replace(row, top1_correct=None) for row in found["strata-plain"]])
    export_run(tmp_path, tmp_path / "csv", tmp_path / "figures")
    text = Page(write_report(tmp_path).read_text(encoding="utf-8")).text
    assert "Not measured. The campaign strata-plain was run without labels." in text
    assert {row["build"] for row in rows_of(tmp_path / "csv" / "worst-flips.csv")} == {"hardened"}
    svg = (tmp_path / "figures" / "worst-flips.svg").read_text()
    assert ">Hardened<" in svg and ">Plain<" not in svg


# -- other ways to be hardened ----------------------------------------------------------------------------------------


def hardened_with(run: Path, *schemes: Scheme) -> Manifest:
    """The run's hardened build has two weight memories, stored so; both of its campaigns are of these."""
    names = report_run.WEIGHTS.items()
    memories = tuple(
        Memory(name, name[:4], name, "weight", shape, Int(4), scheme)
        for (name, shape), scheme in zip(names, schemes, strict=True)
    )
    design = Manifest("toy", 0xB18, "virtual", 200.0, memories)
    design.save(run / "build" / "hardened" / "manifest.json")
    whole = [fault for memory in memories for fault in every_fault(design, memory.name, range(4))]
    again(run, "msb-hardened", report_run.trials(design, whole))
    again(run, "strata-hardened", report_run.trials(design, single_bit_stratified(design, 10, seed=3)))
    return design


def test_check_bits_are_columns_of_their_own_and_unvoted_memories_are_named(tmp_path: Path) -> None:
    report_run.write_run(tmp_path)
    hardened_with(tmp_path, Secded(4, 1), Plain(4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # thresholds are on one side alone
        export_run(tmp_path, tmp_path / "csv", tmp_path / "figures")
    text = Page(write_report(tmp_path).read_text(encoding="utf-8")).text
    assert "the same bits, but no voter, in fc.weight." in text
    assert "0 of 1 memories with redundancy" in text
    assert "bit 0 0 check bit 3 3 check check bit 2 2 check" in text and "copy -1" not in text
    assert text.count("Hardened This build has none.") == 2, "of thresholds, on both maps"
    meanings = {
        (row["memory"], row["meaning"]) for row in rows_of(tmp_path / "csv" / "bits.csv") if row["build"] == "hardened"
    }
    bits = {f"bit {bit}" for bit in range(4)}
    assert {what for memory, what in meanings if memory == "conv.weight"} == bits | {f"check {bit}" for bit in bits}
    assert {what for memory, what in meanings if memory == "fc.weight"} == bits, "it has no check bits"
    svg = (tmp_path / "figures" / "heat-map-outputs-changed.svg").read_text()
    assert svg.count(">check<") == 4 and "Thresholds, hardened: none" in svg
    framed = re.findall(rf"fill: #\w+; stroke: {COLOURS['hardened']}; stroke-width: 1.4", svg)
    assert len(framed) == 8, "all bits of conv.weight, and none of fc.weight, which has no check bits either"


def test_a_build_without_redundancy_says_so(tmp_path: Path) -> None:
    report_run.write_run(tmp_path)
    hardened_with(tmp_path, Plain(4), Plain(4))
    edit(tmp_path, settings={"safety": {"fit_per_mb": 10.0, "source": "a data sheet"}})
    export_run(tmp_path, tmp_path / "csv")
    coverage = {row["what"]: row["figure"] for row in rows_of(tmp_path / "csv" / "safety-coverage.csv")}
    assert [what for what, figure in coverage.items() if figure == "no memory has redundancy"] == [
        "Reads that disagree are counted (latent upsets are seen)",
        "Two upsets of one protected group between scrubs",
    ]
