# SPDX-License-Identifier: Apache-2.0
"""Accuracy under bit error rates: points from the trials, FORTUNE's indices to the plain build, the page's section."""

from __future__ import annotations

import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from report_run import IMAGES, manifest, store, trials, voted_faults, write_run
from rich.console import Console
from scipy import stats
from test_report import Page

from bitward.campaign import Trial
from bitward.flow.fortune import indices
from bitward.flow.rates import campaign_name, curves, point
from bitward.flow.run import Run
from bitward.flow.spec import Flow
from bitward.metrics import p_drop, rap
from bitward.report import write_report
from bitward.report.load import load_run

RIGHT, RATES, SIDES = IMAGES - 1, (1e-3, 1e-2), ("plain", "hardened")


def sets(side: str, ber: float) -> list[Trial]:
    """Thirty fault sets that change the more answers the higher the rate, in the plain build twice as many."""
    one = trials(manifest(side), voted_faults(manifest(side))[:1])[0]
    nowhere = dict.fromkeys(
        ("memory", "layer", "role", "word", "bit", "parameter", "replica", "stored_bit", "copy", "parameter_bit")
    )
    factor = (2 if side == "plain" else 1) * (1 if ber < 5e-3 else 3)
    return [
        replace(
            one, **nowhere, trial=n, flips=5 + n % 3, outputs_changed=IMAGES, top1_changed=factor * (n % 3),
            top1_correct=RIGHT - factor * (n % 3),
        )
        for n in range(30)
    ]  # fmt: skip


def lost(folder: Path, right: int | None) -> dict:
    """What the flow finds of the run's campaigns, so many answers being right without faults."""
    found: dict = {side: {"right": right, "images": IMAGES, "points": {}} for side in SIDES}
    for side in SIDES:
        for ber in RATES:
            found[side]["points"][f"{ber:g}"] = point(folder / "campaigns" / campaign_name(side, ber), ber, right)
    run = Run(Flow(network="digits_cnn"), folder, Console())
    return curves(run, found, {"plain": 200.0, "hardened": 210.0})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole run whose flow asked for two rates."""
    folder = tmp_path / "run"
    write_run(folder)
    for side in SIDES:
        for ber in RATES:
            store(folder / "campaigns" / campaign_name(side, ber), sets(side, ber))
    edit(folder, ber=lost(folder, RIGHT), settings={"inject": {"bers": list(RATES)}})
    return folder


def edit(folder: Path, **changes: object) -> None:
    path = folder / "summary.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def of(folder: Path, side: str, ber: float) -> dict:
    return json.loads((folder / "summary.json").read_text())["ber"][side]["points"][f"{ber:g}"]


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("ber", RATES)
def test_a_point_is_the_mean_of_its_fault_sets_with_students_interval(folder: Path, side: str, ber: float) -> None:
    found = of(folder, side, ber)
    changed = np.array([row.top1_changed for row in sets(side, ber)]) / IMAGES
    low, high = stats.t.interval(0.95, len(changed) - 1, changed.mean(), stats.sem(changed))
    assert (found["drop"]["estimate"], found["drop"]["low"], found["drop"]["high"]) == pytest.approx(
        (changed.mean(), low, high)
    )
    assert found["changed"]["estimate"] == pytest.approx(changed.mean())
    assert found["flips"] == [6.0, 5, 7] and found["trials"] == 30 and found["trials_changed"] == 20


def test_the_indices_compare_with_the_plain_build(folder: Path) -> None:
    bits = {side: sum(m.population for m in manifest(side).memories) for side in SIDES}
    for ber in RATES:
        plain, hardened = of(folder, "plain", ber), of(folder, "hardened", ber)
        assert plain["rap"] == pytest.approx(plain["drop"]["estimate"])  # the baseline's overheads are 1
        overhead = bits["hardened"] / bits["plain"] * 210 / 200
        assert hardened["rap"] == pytest.approx(hardened["drop"]["estimate"] * overhead)
        for side, found in (("plain", plain), ("hardened", hardened)):
            expected = bits[side] ** 2 * 1.33e-13 * ber * found["drop"]["estimate"]
            assert found["p_drop"] == pytest.approx(expected)


def test_one_home_gives_the_papers_indices() -> None:
    found = indices(66_991_616, 1e-5, 0.3229, 1.0, 1.0)
    assert found == {
        "p_drop": p_drop(66_991_616, 1e-5, 0.3229, 1.33e-24, 1e11), "rap": rap(0.3229, 1, 1),
    }  # fmt: skip
    assert round(found["p_drop"], 5) == 0.00193  # Table II, ResNet18, 8-bit
    assert indices(10, 1e-5, 0.1, 1.0, None)["rap"] is None


def test_the_page_shows_both_builds_at_every_rate(folder: Path) -> None:
    html = write_report(folder).read_text(encoding="utf-8")
    text = Page(html).text
    section = html[html.index('id="rates"') : html.index("</section>", html.index('id="rates"'))]
    assert section.count('class="scatter curve"') == 2 and section.count('<circle class="mark" cx="') == 5
    assert section.count('<g class="plain" tabindex') == section.count('<g class="hardened" tabindex') == 4
    accuracy = 100 * (RIGHT / IMAGES - of(folder, "plain", 1e-2)["drop"]["estimate"])
    assert re.search(rf"Plain 0.01 6.0 \(5 to 7\) {accuracy:.2f}\u202f% .* 30 x {IMAGES} ", text)
    assert "[95 %, Student]" in text and "equations 6 and 7" in text and "No trial failed." in text
    assert "1.050 times the cycles" in text and f"Without faults {RIGHT} of the {IMAGES} images are right" in text
    assert "of several bits at once" not in text
    assert text.count("✓ holds summary.json says what the trials say") == 1


def test_a_summary_that_says_otherwise_than_the_trials_fails_a_check(folder: Path) -> None:
    summary = json.loads((folder / "summary.json").read_text())
    summary["ber"]["plain"]["points"]["0.01"]["trials_changed"] = 19
    edit(folder, ber=summary["ber"])
    text = Page(write_report(folder).read_text(encoding="utf-8")).text
    assert "A check fails: summary.json says what the trials say." in text
    assert "ber.plain.points.0.01.trials_changed is 19, counted 20" in text


def test_images_without_a_label_each_have_no_accuracy(folder: Path, tmp_path: Path) -> None:
    for side in SIDES:
        for ber in RATES:
            shutil.rmtree(path := folder / "campaigns" / campaign_name(side, ber))
            store(path, [replace(row, top1_correct=None) for row in sets(side, ber)])
    edit(folder, ber=lost(folder, None))
    for side in SIDES:
        for ber in RATES:
            found = of(folder, side, ber)
            assert [found[name] for name in ("drop", "p_drop", "rap")] == [None] * 3
            changed = np.mean([row.top1_changed for row in sets(side, ber)]) / IMAGES
            assert found["changed"]["estimate"] == pytest.approx(changed), "which needs no label"
    html = write_report(folder).read_text(encoding="utf-8")
    assert html.count('class="scatter curve"') == 1 and "not measured" in Page(html).text


def test_a_failed_fault_set_counts_as_no_right_answer(tmp_path: Path) -> None:
    none = dict.fromkeys(("outputs_changed", "top1_changed", "top1_correct", "outputs_sha256"))
    rows = sets("plain", 1e-3)
    rows[0] = replace(rows[0], status="failed", error="gone", **none)
    store(tmp_path / "store", rows)
    found = point(tmp_path / "store", 1e-3, RIGHT)
    shares = [1.0, *(row.top1_changed / IMAGES for row in rows[1:])]
    drops = [RIGHT / IMAGES, *(row.top1_changed / IMAGES for row in rows[1:])]
    assert found["failed"] == 1 and found["trials_changed"] == 21
    assert math.isclose(found["changed"]["estimate"], np.mean(shares))
    assert math.isclose(found["drop"]["estimate"], np.mean(drops))


def test_campaigns_that_the_flow_no_longer_asks_for_are_not_shown(folder: Path) -> None:
    store(folder / "campaigns" / "ber-0.1-plain", sets("plain", 0.1))
    store(folder / "campaigns" / "ber-0.001-plain.old", sets("plain", 1e-3))
    shown = {name for name in load_run(folder).campaigns if name.startswith("ber-")}
    assert shown == {"ber-0.001-plain", "ber-0.001-hardened", "ber-0.01-plain", "ber-0.01-hardened"}


def test_a_run_without_rates_has_no_such_section(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    assert "Accuracy under bit error rates" not in Page(write_report(tmp_path / "run").read_text("utf-8")).text
