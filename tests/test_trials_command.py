# SPDX-License-Identifier: Apache-2.0
"""`bitward trials`: counts with intervals, filters, exports, and one trial run again on every target."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from toy_target import FAULTS, MANIFEST, ToyTarget, campaign

from bitward.campaign import Screen, TrialStore, run_campaign, verdicts_sha256
from bitward.campaign.query import Group, export, summary, where
from bitward.cli import main
from bitward.datasets import load_dataset
from bitward.errors import ConfigError, StoreError
from bitward.faults import Ber, Exact, Uniform
from bitward.flow.attack import Place, run, run_again
from bitward.flow.rules import Rules
from bitward.manifest import Manifest
from bitward.statistics import Stopping, exact


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> Path:
    """The toy's trials, those that hit bit 0 of `second` failed."""
    folder = tmp_path_factory.mktemp("mixed")
    toy = campaign()
    with TrialStore.open(folder, toy.spec()) as store:
        run_campaign(toy, partial(ToyTarget, broken="stumbles"), store)
    return folder


@pytest.fixture(scope="module")
def table(mixed):
    return TrialStore.load(mixed).read()


# ---- counts ----------------------------------------------------------------------------------------------------------


def test_every_group_is_counted_as_a_naive_loop_does(table):
    rows = table.to_pylist()
    groups = summary(table)
    assert sum(group.trials for group in groups) == len(rows)
    assert [(g.memory, g.stored_bit) for g in groups] == list(
        dict.fromkeys((row["memory"], row["stored_bit"]) for row in rows)
    )
    for group in groups:
        mine = [row for row in rows if (row["memory"], row["stored_bit"]) == (group.memory, group.stored_bit)]
        failed = [row for row in mine if row["status"] == "failed"]
        assert (group.trials, group.failed, group.screened_out) == (len(mine), len(failed), 0)
        hit = sum(row["status"] == "failed" or row["top1_changed"] > 0 for row in mine)
        expected = exact(hit, len(mine))
        found = group.top1_changed
        assert (found.count, found.total, found.low, found.high) == (hit, len(mine), expected.low, expected.high)
    assert max(group.failed for group in groups) > 0


def test_trials_of_several_faults_are_one_group_and_screened_ones_are_not_in_shares(tmp_path, capsys):
    class Blind(ToyTarget):
        def screened(self, images, trials):
            return np.ones(len(trials), dtype=bool)

    toy = campaign(faults=Ber(MANIFEST, 1, ber=0.1), trials=40, screen=Screen(audit=0.4))
    with TrialStore.open(tmp_path, toy.spec()) as store:
        run_campaign(toy, Blind, store)
        (group,) = [each for each in summary(store.read()) if each.memory is None]
        assert isinstance(group, Group) and group.trials > 30
        assert group.top1_changed.total == group.trials - group.screened_out < group.trials
        assert summary(store.read().slice(0, 0)) == []
        one = next(row for row in range(40) if store.read()["path"][row].as_py() == "screened")
        assert summary(store.read().slice(one, 1))[0].outputs_changed is None
    assert main(["trials", str(tmp_path), "--where", "path = 'screened'"]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if "several, none" in line]
    assert len(rows) == 1 and rows[0].count("not measured") == 2


def test_the_command_shows_the_table_and_the_hash(mixed, table, capsys):
    assert main(["trials", str(mixed)]) == 0
    out = capsys.readouterr().out
    assert f"{len(FAULTS)} of {len(FAULTS)} trials" in out and "ended: all trials done" in out
    assert out.splitlines()[-1] == f"verdicts {verdicts_sha256(table)}"
    line = next(line.split() for line in out.splitlines() if "second" in line)
    share = exact(5, 5)
    assert line[:5] == ["weight", "second", "0", "5", "5"] and f"[{100 * share.low:.3g}," in line
    assert "left out" not in out  # nothing was


@pytest.mark.parametrize(
    ("faults", "rules", "said", "method"),
    [
        (Ber(MANIFEST, 1, ber=0.1), {"trials": 40}, "model ber, ber 0.1, seed 1; {mean:,.3g} flips a trial ({least} to "
         "{most})", "95 %, exact (Clopper-Pearson)"),
        (Exact(MANIFEST, 1, flips=3), {"trials": 9}, "model exact, flips 3, seed 1; 3 flips a trial", "95 %, exact ("),
        (Uniform(MANIFEST, 2), {"trials": 30}, "model uniform, seed 2; 1 flip a trial", "95 %, finite population"),
        (Uniform(MANIFEST, 2), {"trials": 30, "screen": Screen(0.5)}, "model uniform, seed 2; 1 flip a trial",
         "95 %, exact (Clopper-Pearson), of what was kept and what was audited"),
        (Uniform(MANIFEST, 2), {"stopping": Stopping("top1_changed", 0.2, method="betting", most=60)}, "seed 2; 1 flip",
         "95 % confidence sequence (betting)"),
    ],
    ids=["ber", "exact", "uniform", "screened", "sequence"],
)  # fmt: skip
def test_flips_stand_beside_the_model_and_the_method_beside_the_interval(tmp_path, capsys, faults, rules, said, method):
    toy = campaign(faults=faults, **rules)
    with TrialStore.open(tmp_path, toy.spec()) as store:
        ended = run_campaign(toy, ToyTarget, store)
        flips = [trial.flips for trial in store.trials()]
    assert main(["trials", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert f"{said.format(mean=np.mean(flips), least=min(flips), most=max(flips))}" in out
    assert re.search(rf"of all faults: .* %\], {re.escape(method)}", out)
    rule = rules.get("stopping") or Stopping("top1_changed", 0.025, method="fixed", most=len(flips))
    if "screen" not in rules:  # what is named is what was computed
        values = [float(bool(trial.top1_changed)) for trial in TrialStore.load(tmp_path).trials()]
        assert ended.interval == rule.interval(values, faults.trials)


def test_the_live_line_states_flips_where_they_are_several(tmp_path):
    notes: dict[str, list[str]] = {}
    for name, model in (("ber", Ber(MANIFEST, 1, ber=0.1)), ("one", Uniform(MANIFEST, 1))):
        toy, said = campaign(faults=model, trials=20), notes.setdefault(name, [])
        with TrialStore.open(tmp_path / name, toy.spec()) as store:
            run_campaign(toy, ToyTarget, store, progress=lambda done, total, note, said=said: said.append(note))
            mean = np.mean([trial.flips for trial in store.trials()])
        if name == "ber":
            assert said[-1].startswith(f"{mean:.3g} flips a trial, top1_changed ")
    assert all("flip" not in note for note in notes["one"]) and notes["one"][-1].startswith("top1_changed ")


def test_a_campaign_that_has_not_ended_says_so(tmp_path, capsys):
    toy = campaign()
    TrialStore.open(tmp_path, toy.spec()).close()
    assert main(["trials", str(tmp_path)]) == 0
    assert "not ended yet: 0 trials are stored" in capsys.readouterr().out


# ---- filters ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "rule"),
    [
        ("top1_changed > 0", lambda row: (row["top1_changed"] or 0) > 0),
        ("memory = 'second' AND status = 'failed'", lambda row: row["status"] == "failed"),
        ("outputs_changed IS NULL", lambda row: row["outputs_changed"] is None),
        ("len(faults) = 1 -- all of them", lambda row: True),
        ("trial IN (SELECT max(trial) FROM trials)", lambda row: row["trial"] == len(FAULTS) - 1),
    ],
)
def test_a_condition_chooses_the_rows_that_python_chooses(table, condition, rule):
    assert where(table, condition).to_pylist() == [row for row in table.to_pylist() if rule(row)]


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ("top_changed > 0", r".*Referenced column .?top_changed.? not found.*; the columns are trial, target, memory"),
        ("top1_changed >", r".*Parser Error: syntax error"),
        ("'x' > 1", r".*Conversion Error: Could not convert"),
        ("exists (SELECT * FROM read_csv('/etc/passwd'))", r".*(disabled|Permission)"),
    ],
)
def test_a_mistake_in_sql_is_one_sentence(table, condition, reason):
    with pytest.raises(ConfigError, match=rf"^a condition must be SQL on a trial's columns, got .*: {reason}"):
        where(table, condition)


@pytest.mark.parametrize(
    "condition",
    [
        "1=1); DROP VIEW trials; SELECT (1",
        "1=1); COPY trials TO 'stolen.csv'; SELECT (1",
        "1=1); SET threads=1; SELECT (1",
    ],
)
def test_a_condition_is_not_more_than_one(table, condition, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ConfigError, match=r"^a condition must be one SQL expression, got .1=1\); .*: for example flips"
    ):
        where(table, condition)
    assert list(tmp_path.iterdir()) == []


def test_the_command_filters_and_tells_a_mistake(mixed, capsys):
    assert main(["trials", str(mixed), "--where", "status = 'failed'"]) == 0
    assert f"5 of {len(FAULTS)} trials" in capsys.readouterr().out
    assert main(["trials", str(mixed), "--where", "nonsense"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("bitward: a condition must be SQL") and len(err.splitlines()) == 1


# ---- exports ---------------------------------------------------------------------------------------------------------


def test_an_export_holds_every_trial_in_every_format(mixed, table, tmp_path, capsys):
    for suffix in ("csv", "parquet", "json"):
        assert main(["trials", str(mixed), "--export", str(tmp_path / f"t.{suffix}")]) == 0
        assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / f"t.{suffix}")
    rows = table.to_pylist()
    assert pq.read_table(tmp_path / "t.parquet").to_pylist() == rows
    assert json.loads((tmp_path / "t.json").read_text()) == rows
    kept = pyarrow.csv.read_csv(tmp_path / "t.csv").to_pylist()
    assert [row["faults"] for row in kept] == [" ".join(row["faults"]) for row in rows]
    assert [row["trial"] for row in kept] == [row["trial"] for row in rows]
    assert duckdb.sql(f"SELECT count(*) FROM '{tmp_path / 't.parquet'}'").fetchall() == [(len(rows),)]


def test_an_export_of_a_filter_holds_its_trials(mixed, tmp_path):
    target = tmp_path / "failed.json"
    assert main(["trials", str(mixed), "--where", "status = 'failed'", "--export", str(target)]) == 0
    assert Counter(row["status"] for row in json.loads(target.read_text())) == {"failed": 5}


def test_an_unknown_format_is_refused(table, tmp_path):
    with pytest.raises(
        ConfigError, match=r"^an export must end in .csv, .parquet, .json, got 't.xlsx': choose one of "
    ):
        export(table, tmp_path / "t.xlsx")


# ---- one trial again -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recorded(mlp_run, tmp_path_factory) -> tuple[Path, Path]:
    """A campaign of several faults a trial on the hardened MLP, on the engine, and its build."""
    build, folder = mlp_run.build("hardened"), tmp_path_factory.mktemp("recorded")
    model = Ber(Manifest.load(build / "manifest.json"), 3, ber=3e-4)
    images = load_dataset("digits").test_images[:3]
    run(Place("engine", build), model, images, None, folder / "trials", {}, rules=Rules(trials=6))
    return folder / "trials", build


@pytest.mark.parametrize("on", ["engine", "rtl", "board"])
def test_a_trial_run_again_gives_the_recorded_outputs_on_every_target(recorded, on, capsys):
    store, build = recorded
    rows = TrialStore.load(store).trials()
    number = max(rows, key=lambda row: row.outputs_changed).trial
    assert rows[number].flips > 1 and rows[number].outputs_changed > 0
    assert main(["trials", str(store), "--replay", str(number), "--on", on, "--build", str(build)]) == 0
    out = capsys.readouterr().out
    assert re.match(rf"trial {number} \(.*\) on {on}: outputs equal the recorded ones, [0-9a-f]{{64}}\n$", out)


def test_a_trial_whose_outputs_are_others_is_told(recorded, tmp_path, capsys):
    """Negative control: another trial's outputs recorded for this one."""
    store, build = recorded
    first, second = sorted(TrialStore.load(store).trials(), key=lambda row: row.outputs_changed)[::5]
    assert first.outputs_sha256 != second.outputs_sha256
    spec = TrialStore.load(store).spec
    with TrialStore.open(tmp_path / "spoilt", spec) as spoilt:
        spoilt.keep_images(TrialStore.load(store).images())
        spoilt.append([replace(first, outputs_sha256=second.outputs_sha256)])
    given = ["trials", str(tmp_path / "spoilt"), "--replay", str(first.trial), "--build", str(build)]
    assert main(given) == 1
    err = capsys.readouterr().err
    assert re.match(
        rf"bitward: trial {first.trial} \(.*\) must give on engine the outputs it gave, got \w{{12}} for ", err
    )


def test_a_replay_needs_the_campaigns_own_build_images_and_outputs(recorded, mlp_run, mixed, tmp_path, capsys):
    store, build = recorded
    with pytest.raises(ConfigError, match=r"^a trial must be one of those in .*, got 99: bitward trials lists them$"):
        run_again(store, 99, Place("engine", build))
    with pytest.raises(
        ConfigError, match=r"^.*plain must be the campaign's build, got one of other memories: name its"
    ):
        run_again(store, 0, Place("engine", mlp_run.build("plain")))
    failed = next(trial.trial for trial in TrialStore.load(mixed).trials() if trial.status == "failed")
    with pytest.raises(
        ConfigError, match=rf"^a trial must have outputs to be compared with, got {failed}, which is fai"
    ):
        run_again(mixed, failed, Place("engine", build))
    assert main(["trials", str(store), "--replay", "0"]) == 1
    assert "--build must name the build to run a trial again on, got nothing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (
            lambda path: path.unlink(),
            r"^.*images.npz must hold the images of the campaign, got .*No such file.*: run the",
        ),
        (lambda path: path.write_bytes(b"PK"), r"^.*images.npz must hold the images of the campaign, got "),
        (
            lambda path: np.savez(path, images=np.zeros(3)),
            r"^.*images.npz must hold the images that the spec names, got others: run the campaign again$",
        ),
    ],
)
def test_images_that_are_not_the_campaigns_are_refused(tmp_path, spoil, sentence):
    toy = campaign(faults=Uniform(MANIFEST, 1), trials=2)
    with TrialStore.open(tmp_path, toy.spec()) as store:
        run_campaign(toy, ToyTarget, store)
        np.testing.assert_array_equal(store.images(), toy.images)
        spoil(tmp_path / "images.npz")
        with pytest.raises(StoreError, match=sentence):
            store.images()
