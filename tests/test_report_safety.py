# SPDX-License-Identifier: Apache-2.0
"""The report's section "Parameter memories only": every figure against counts made here, no rate without a source."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
import report_run

from bitward.errors import ConfigError
from bitward.flow.spec import load_flow
from bitward.formats import Int
from bitward.manifest import Memory
from bitward.metrics import double_upsets_per_hour
from bitward.report import write_report
from bitward.report.headline import duel
from bitward.report.load import Missing, load_run
from bitward.report.page import SIDES, _strata
from bitward.report.safety import NO_RATE, Safety, groups_of, safety
from bitward.schemes import Plain, Secded, Tmr

CITED = {"fit_per_mb": 12.5, "source": "a data sheet, table 3", "flux_factor": 4.0, "scrub_period_s": 3600.0}


def _found(folder: Path, given: dict | None) -> Safety:
    path = folder / "summary.json"
    summary = json.loads(path.read_text())
    path.write_text(json.dumps(summary | {"settings": {"safety": given}}))
    run = load_run(folder)
    sampled = {side: _strata(run, side, "strata") for side in SIDES}
    found = safety(run, sampled, duel(run, {side: _strata(run, side, "msb") for side in SIDES}))
    assert isinstance(found, Safety)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    report_run.write_run(tmp_path)
    return tmp_path


def test_rows_are_counts_times_the_cited_rate(folder: Path) -> None:
    """All figures of a memory anew, from its trials: 20 a stratum, weighted by the strata's sizes."""
    trials = [trial for trial in report_run.campaigns()["strata-plain"] if trial.memory == "fc.weight"]
    memory = report_run.manifest("plain").memory("fc.weight")
    rows = {(row.side, row.memory): row for row in _found(folder, CITED).rows}
    row = rows["plain", "fc.weight"]
    assert row.bits == f"{memory.depth * memory.width:,}" and row.unprotected.startswith("100")
    critical = sum(trial.top1_changed > 0 for trial in trials)
    assert row.critical == f"{critical} of {len(trials)}"
    share = critical / len(trials)  # equal strata, equally sampled
    assert row.share.startswith(f"{100 * share:.1f}")
    upsets = memory.depth * memory.width / 1e6 * 12.5 * 4
    assert row.upset_fit == f"{upsets:.3g}"
    at, most = re.match(r"(\S+), up to (\S+)$", row.critical_fit).groups()  # type: ignore[union-attr]
    assert float(at) == pytest.approx(upsets * share, rel=0.01) and float(at) < float(most) < upsets


def test_protection_leaves_fewer_bits_open_and_covers_the_same_faults(folder: Path) -> None:
    found = _found(folder, CITED)
    rows = {(row.side, row.memory): row for row in found.rows}
    assert rows["hardened", "conv.weight"].unprotected.startswith("50")  # 3 of 6 stored bits stand alone
    assert rows["hardened", "conv.threshold"].unprotected.startswith("100")
    assert [row.is_total for row in found.rows].count(True) == 2
    coverage = dict(found.coverage)
    plain = report_run.campaigns()["msb-plain"]
    changed = sum(trial.top1_changed > 0 for trial in plain)
    assert (
        f"{changed} of {len(plain)} flips plain, 0 of {3 * len(plain)} hardened"
        in coverage["The same bits, plain and hardened"]
    )
    assert coverage["Reads that disagree are counted (latent upsets are seen)"].startswith("0 of 2 memories")


def test_two_upsets_of_a_triple_are_as_rare_as_the_formula_says(folder: Path) -> None:
    """3 N lambda^2 T: 144 weights with a triplicated bit, an hour between passes."""
    per_bit = 12.5 * 4 / 1e6 / 1e9
    expected = 3 * (24 + 120) * per_bit**2 * 1.0 * 1e9
    text = dict(_found(folder, CITED).coverage)["Two upsets of one protected group between scrubs"]
    assert text == f"{expected:.3g} FIT with a scrub pass every 3600 s"
    without = dict(_found(folder, CITED | {"scrub_period_s": None}).coverage)
    assert without["Two upsets of one protected group between scrubs"].startswith("needs a scrub period")


def test_double_upsets_agree_with_a_simulation_of_single_ones() -> None:
    """A group of n bits, upsets as a Poisson process, counted by brute force over periods."""
    import numpy as np

    random, rate, periods = np.random.default_rng(2), 0.02, 400_000
    hits = random.poisson(rate, (periods, 3)).clip(max=1).sum(axis=1)
    assert np.mean(hits >= 2) == pytest.approx(double_upsets_per_hour(1, 3, rate, 1.0), rel=0.1)


@pytest.mark.parametrize(
    ("scheme", "groups"),
    [(Plain(4), []), (Tmr(4, 1), [(24, 3)]), (Tmr(4, 4), [(96, 3)]), (Secded(4, 1), [(24, 8)])],
)
def test_groups_are_what_one_upset_is_put_right_in(scheme, groups) -> None:
    assert groups_of(Memory("w", "l", "w", "weight", (6, 4), Int(4), scheme)) == groups
    assert all(math.comb(size, 2) for _, size in groups)


def test_without_a_source_there_is_no_rate(folder: Path, tmp_path: Path) -> None:
    rows = _found(folder, None).rows
    assert {row.upset_fit for row in rows} == {NO_RATE} == {row.critical_fit for row in rows}
    flow = tmp_path / "flow.yaml"
    flow.write_text("network: digits_mlp\nsafety: {fit_per_mb: 10}\n")
    with pytest.raises(ConfigError, match=r"safety.source must be given, got nothing"):
        load_flow(flow)
    flow.write_text("network: digits_mlp\nsafety: {fit_per_mb: 10, source: x}\n")
    with pytest.raises(ConfigError, match=r"safety.source .* at least 8 characters"):
        load_flow(flow)


def test_a_run_that_was_cut_off_says_so(folder: Path) -> None:
    run = load_run(folder)
    gone = {side: Missing("no trials") for side in SIDES}
    assert safety(run, gone, gone) == Missing("no trials")  # type: ignore[arg-type]


def test_the_page_has_the_section_and_names_what_it_leaves_out(folder: Path) -> None:
    _found(folder, CITED)
    page = write_report(folder).read_text(encoding="utf-8")
    section = page[page.index('id="safety"') : page.index('id="checks"')]
    assert "Parameter memories only" in section and "SPFM" in section
    assert "a data sheet, table 3" in section and "Not covered" in section
