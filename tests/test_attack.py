# SPDX-License-Identifier: Apache-2.0
"""Which faults a flow injects, and a campaign on the real RTL that survives kill -9."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from bitward.campaign import TrialStore, verdicts_sha256
from bitward.cli import inject as cli_inject
from bitward.cli import main
from bitward.engine.images import load_images
from bitward.errors import ConfigError, ManifestError, StoreError
from bitward.faults import Ber, single_bit_stratified
from bitward.flow import attack, load_flow, stages
from bitward.flow.attack import Place, agreement_faults, msb_faults
from bitward.flow.rules import model_of
from bitward.flow.run import Run
from bitward.flow.spec import Inject
from bitward.manifest import Manifest, apply_edge
from bitward.targets.board import BoardTarget
from bitward.targets.engine import EngineTarget
from bitward.targets.rtl import RtlTarget


@pytest.fixture
def manifests(digits_run) -> dict[str, Manifest]:
    return {side: Manifest.load(digits_run.build(side) / "manifest.json") for side in ("plain", "hardened")}


def test_a_place_makes_the_target_it_names(digits_run):
    kinds = {"engine": EngineTarget, "rtl": RtlTarget, "board": BoardTarget}
    for on, kind in kinds.items():
        assert type(Place(on, digits_run.build("plain")).target()) is kind


@pytest.mark.parametrize("voted", [1, 2])
def test_msb_faults_are_the_top_bits_of_a_plain_design(manifests, voted):
    faults = msb_faults(manifests["plain"], voted)
    weights = sum(memory.parameters for memory in manifests["plain"].memories if memory.role == "weight")
    assert len(set(faults)) == len(faults) == voted * weights
    for fault in faults:
        at = manifests["plain"].memory(fault.memory).locate(fault.word, fault.bit)
        assert int(at.bit) >= 4 - voted


def test_msb_faults_are_the_voted_bits_and_copies_of_a_hardened_design(manifests):
    faults = msb_faults(manifests["hardened"], 1)
    copies = Counter()
    for fault in faults:
        at = manifests["hardened"].memory(fault.memory).locate(fault.word, fault.bit)
        assert int(at.bit) == 3
        copies[int(at.copy)] += 1
    assert len(set(copies.values())) == 1 and set(copies) == {0, 1, 2}


def test_agreement_faults_are_different_ones_and_the_same_for_a_seed(digits_run, manifests):
    golden = load_images(digits_run.build("hardened") / "memories.npz")
    first = agreement_faults(manifests["hardened"], golden, 200, seed=1)
    assert len(set(first)) == 200
    assert first == agreement_faults(manifests["hardened"], golden, 200, seed=1)
    assert first != agreement_faults(manifests["hardened"], golden, 200, seed=2)
    manifest = manifests["hardened"]
    for fault in first:
        assert not manifest.memory(fault.memory).locate(fault.word, fault.bit).dead
    assert len(agreement_faults(manifest, golden, 3, seed=1)) == 3


def test_agreement_faults_cannot_outnumber_the_live_bits(digits_run, manifests):
    golden = load_images(digits_run.build("plain") / "memories.npz")
    small = replace(manifests["plain"], memories=manifests["plain"].memories[:1])
    assert len(agreement_faults(small, golden, small.population, seed=1)) == small.population
    with pytest.raises(ConfigError, match=f"^agree_faults must be at most the {small.population} live bits, got 10000"):
        agreement_faults(small, golden, 10000, seed=1)


def test_another_campaign_is_moved_aside_or_refused(mlp_run, tmp_path):
    place = Place("engine", mlp_run.build("hardened"))
    manifest = Manifest.load(place.build / "manifest.json")
    images = np.zeros((2, 1, 8, 8), np.float32)
    trials = tmp_path / "trials"
    for seed in (1, 2, 3):
        faults = single_bit_stratified(manifest, 1, seed)
        attack.run(place, faults, images, None, trials, {"seed": seed}, restart=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trials", "trials.old"]
    assert TrialStore.load(tmp_path / "trials.old").spec["seed"] == 2  # the one before the last
    with pytest.raises(
        StoreError, match="^the trials in .* must be continued as they were begun, got .*seed = 4, was 3"
    ):
        attack.run(place, single_bit_stratified(manifest, 1, 4), images, None, trials, {"seed": 4})


def test_a_campaign_that_another_process_runs_is_left_alone(mlp_run, tmp_path):
    place = Place("engine", mlp_run.build("hardened"))
    manifest = Manifest.load(place.build / "manifest.json")
    images = np.zeros((2, 1, 8, 8), np.float32)
    faults = single_bit_stratified(manifest, 1, 1)
    attack.run(place, faults, images, None, tmp_path / "trials", {"seed": 1})
    with (
        TrialStore.open(tmp_path / "trials", TrialStore.load(tmp_path / "trials").spec),
        pytest.raises(StoreError, match="^the store .* must be appended to by one process at a time"),
    ):
        attack.run(place, faults, images, None, tmp_path / "trials", {"seed": 1}, restart=True)
    assert [path.name for path in tmp_path.iterdir()] == ["trials"]


def test_software_only_designs_are_not_attacked_by_streams(mlp_run, tmp_path):
    build = Path(shutil.copytree(mlp_run.build("plain"), tmp_path / "build"))
    replace(Manifest.load(build / "manifest.json"), io=None).save(build / "manifest.json")
    with pytest.raises(ManifestError, match=r"^io must be in the manifest of design .+, got none; build it for hard"):
        attack.run(Place("engine", build), [], np.zeros((1, 1, 8, 8)), None, tmp_path / "trials", {})


# ---- kill -9 -------------------------------------------------------------------------------------------------------


def inject(mlp_run, runs: Path) -> list[str]:
    """The command line of a campaign on the RTL that takes some seconds."""
    arguments = ["--on", "rtl", "--per-stratum", "40", "--images", "2", "--seed", "5", "--workers", "2"]
    return [sys.executable, "-m", "bitward", "-q", "inject", str(mlp_run.flow), "--runs", str(runs), *arguments]


def end_group(process: subprocess.Popen) -> None:
    """kill -9 for the command and its workers, as a machine that loses power does."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_a_campaign_on_rtl_survives_kill_9_and_ends_with_the_undisturbed_table(mlp_run, tmp_path):
    tables = {}
    for name in ("undisturbed", "killed"):
        shutil.copytree(mlp_run.folder, tmp_path / name / "digits-mlp", ignore=shutil.ignore_patterns("campaigns"))
    store = tmp_path / "killed" / "digits-mlp" / "campaigns" / "inject-hardened-rtl"
    process = subprocess.Popen(inject(mlp_run, tmp_path / "killed"), start_new_session=True)
    try:
        until = time.monotonic() + 120
        while not list(store.glob("part-*.parquet")) and process.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
    finally:
        end_group(process)
    done = len(TrialStore.load(store).read())
    subprocess.run(inject(mlp_run, tmp_path / "undisturbed"), check=True)
    subprocess.run(inject(mlp_run, tmp_path / "killed"), check=True)
    for name in tables or ("undisturbed", "killed"):
        folder = tmp_path / name / "digits-mlp" / "campaigns" / "inject-hardened-rtl"
        tables[name] = TrialStore.load(folder).read()
        assert TrialStore.load(folder).result()["restored_golden"] is True
    killed, undisturbed = (tables[name].drop_columns(["seconds"]) for name in ("killed", "undisturbed"))
    assert killed.equals(undisturbed)
    assert 0 < done < len(tables["killed"])


def test_inject_draws_the_same_faults_on_engine_and_board_and_they_agree(mlp_run, tmp_path, capsys):
    shutil.copytree(mlp_run.folder, tmp_path / "digits-mlp", ignore=shutil.ignore_patterns("campaigns"))
    rows = {}
    for on in ("engine", "board"):
        given = [
            "inject",
            str(mlp_run.flow),
            "--runs",
            str(tmp_path),
            "--on",
            on,
            "--per-stratum",
            "1",
            "--images",
            "3",
        ]
        assert main(given) == 0
        folder = Path(capsys.readouterr().out.splitlines()[-1])
        table = TrialStore.load(folder).read()
        rows[on] = table.select(["trial", "memory", "word", "bit", "outputs_sha256", "top1_correct"]).to_pylist()
    assert rows["engine"] == rows["board"]
    assert len(rows["engine"]) == len(Manifest.load(mlp_run.build("hardened") / "manifest.json").strata)


# ---- other fault models, from the command line -----------------------------------------------------------------------


@pytest.fixture
def inject_by_hand(mlp_run, tmp_path, capsys):
    """`inject_by_hand(*arguments)`: the store that `bitward inject` leaves for the MLP, and what it printed."""
    shutil.copytree(mlp_run.folder, tmp_path / "digits-mlp", ignore=shutil.ignore_patterns("campaigns"))

    def call(*arguments: object) -> tuple[TrialStore, str]:
        assert main(["inject", str(mlp_run.flow), "--runs", str(tmp_path), "--images", "3", *map(str, arguments)]) == 0
        out = capsys.readouterr().out
        return TrialStore.load(Path(out.splitlines()[-1])), out

    return call


@pytest.mark.parametrize(
    ("model", "given"),
    [
        ("ber", ["--ber", "3e-4", "--trials", "12"]),
        ("exact", ["--flips", "40", "--trials", "6", "--stuck", "1"]),
        ("burst", ["--burst", "4", "--trials", "12", "--memory", "fc2.weight"]),
    ],
)
def test_several_faults_at_once_agree_on_engine_and_rtl(inject_by_hand, model, given):
    stores = {on: inject_by_hand("--model", model, *given, "--on", on)[0] for on in ("engine", "rtl")}
    rows = {on: store.trials() for on, store in stores.items()}
    assert stores["rtl"].directory.name == f"inject-{model}-hardened-rtl"
    for ours, theirs in zip(rows["engine"], rows["rtl"], strict=True):
        assert (ours.faults, ours.outputs_sha256) == (theirs.faults, theirs.outputs_sha256)
    assert any(row.flips > 1 for row in rows["rtl"]) and any(row.outputs_changed for row in rows["rtl"])
    assert verdicts_sha256(stores["engine"].read()) == verdicts_sha256(stores["rtl"].read())


def test_a_recorded_campaign_is_replayed_and_stops_by_its_rule_on_dask_too(inject_by_hand):
    store, out = inject_by_hand("--model", "uniform", "--margin", "0.1", "--metric", "outputs_changed")
    ended = store.result()
    assert ended["ended"] == "margin reached" and ended["trials"] == len(store.trials()) < ended["planned"]
    assert re.search(r"outputs_changed: \d.* % \[.*\], 95 % confidence sequence \(beta-binomial\); margin reached", out)
    dask, _ = inject_by_hand(
        "--model", "uniform", "--margin", "0.1", "--metric", "outputs_changed", "--scheduler", "local", "--restart"
    )
    assert dask.result() == ended
    again, _ = inject_by_hand("--model", "replay", "--faults-from", store.directory)
    assert verdicts_sha256(again.read()) == verdicts_sha256(store.read())


def test_models_and_rules_that_do_not_fit_are_one_sentence(inject_by_hand, mlp_run, tmp_path, capsys):
    flow = ["inject", str(mlp_run.flow), "--runs", str(tmp_path)]
    for given, sentence in (
        (["--margin", "0.1"], "a stopping rule must go with trials that are a random sample, got the model single"),
        (["--model", "uniform", "--flips", "2"], "the fault model uniform must have only seed, memories, stuck, bits"),
        (
            ["--model", "replay"],
            "faults_from must name a campaign's folder or a text file for the model replay, got no",
        ),
        (["--model", "ber", "--memory", "fc9.weight"], "a memory must be one of design"),
        (
            ["--model", "uniform", "--scheduler", "tcp://127.0.0.1:9", "--timeout", "1"],
            "a time limit must be watched by",
        ),
    ):
        assert main([*flow, *given]) == 1
        err = capsys.readouterr().err
        assert err.startswith(f"bitward: {sentence}") and len(err.splitlines()) == 1, err


# ---- the flow's own fault model --------------------------------------------------------------------------------------


@pytest.fixture
def inject_stage(mlp_run, tmp_path, monkeypatch):
    """`inject_stage(**keys)`: what the stage finds with these keys in the flow's inject section, and its run."""
    shutil.copytree(mlp_run.folder, tmp_path / "digits-mlp", ignore=shutil.ignore_patterns("campaigns"))
    monkeypatch.setattr(stages, "AGREEING", ("engine",))
    monkeypatch.setattr(stages, "cores", lambda: 1)
    small = {"msb": False, "per_stratum": 1, "strata_images": 5, "agree_faults": 1, "images": 2, "seed": 7}

    def call(**keys: object) -> tuple[dict, Run]:
        flow = load_flow(mlp_run.flow)
        flow = flow.model_copy(update={"inject": Inject.model_validate({**small, **keys})})
        run = Run(flow, tmp_path / "digits-mlp", Console(file=StringIO()))
        return stages._inject(run), run

    return call


def test_rates_are_campaigns_on_both_builds_and_their_points_what_the_trials_say(inject_stage):
    result, run = inject_stage(bers=[1e-3, 2e-2], ber_trials=6, ber_images=9)
    images, labels = run.dataset().test_images[:9], run.dataset().test_labels[:9]
    for side in ("plain", "hardened"):
        place = Place("engine", run.build(side))
        manifest = Manifest.load(run.build(side) / "manifest.json")
        with place.target() as engine:
            integers = apply_edge(manifest.io.pre, images).astype(np.int64)
            right = int((engine.infer(integers).argmax(axis=1) == labels).sum())
        assert result["ber"][side]["right"] == right and result["ber"][side]["images"] == 9
        for ber in (1e-3, 2e-2):
            store = TrialStore.load(run.campaign(f"ber-{ber:g}-{side}"))
            rows, model = store.trials(), Ber(manifest, 7, ber=ber)
            assert [row.faults for row in rows] == [tuple(map(str, model.trial(row.trial))) for row in rows]
            found = result["ber"][side]["points"][f"{ber:g}"]
            assert found["drop"]["estimate"] == pytest.approx(np.mean([right - row.top1_correct for row in rows]) / 9)
            assert found["changed"]["estimate"] == pytest.approx(np.mean([row.top1_changed for row in rows]) / 9)
            assert result[f"ber-{ber:g}-{side}"]["restored_golden"] and len(rows) == found["trials"] == 6
    again, _ = inject_stage(bers=[1e-3, 2e-2], ber_trials=6, ber_images=9)
    assert again == result
    assert "ber" not in inject_stage()[0]


@pytest.mark.parametrize(
    "keys",
    [
        {"model": "ber", "ber": 5e-4, "trials": 8},
        {"model": "exact", "flips": 20, "stuck": 1, "trials": 4},
        {"model": "burst", "burst": 3, "memories": ["fc2.weight"], "trials": 5},
        {"model": "layers", "flips": 2, "bits": [3], "trials": 3},
        {"model": "uniform", "margin": 0.2, "metric": "outputs_changed"},
        {"stuck": 0, "trials": 6},
    ],
    ids=lambda keys: keys.get("model", "single"),
)
def test_a_run_injects_by_the_flows_own_fault_model(inject_stage, keys):
    result, run = inject_stage(**keys)
    for side in ("plain", "hardened"):
        store = TrialStore.load(run.campaign(f"model-{side}"))
        manifest = Manifest.load(run.build(side) / "manifest.json")
        model = model_of(run.flow.inject, manifest)
        assert store.spec["model"] == json.loads(json.dumps(model.to_dict()))
        rows = store.trials()
        assert [row.faults for row in rows] == [tuple(map(str, model.trial(row.trial))) for row in rows]
        assert {row.images for row in rows} == {5} and len(rows) == result[f"model-{side}"]["faults"] > 1
        found = result[f"model-{side}"]
        assert "a trial" in found["flips"] and found["model"].startswith(f"model {run.flow.inject.model}")
        assert (found["interval"] is None) == (not model.is_sample) == (found["method"] is None)
        assert (store.directory / "result.json") in stages._trials(run)


def test_a_run_without_own_faults_has_no_campaign_more_and_a_recorded_list_goes_into_the_hardened_build(
    inject_stage, tmp_path
):
    result, run = inject_stage()
    assert set(result) == {"strata-plain", "strata-hardened", "agree-engine", "agree"}
    (tmp_path / "faults.txt").write_text("fc2.weight:0:1\nfc2.weight:0:1 fc2.weight:1:0=1\n")
    result, run = inject_stage(model="replay", faults_from=tmp_path / "faults.txt")
    assert "model-plain" not in result and result["model-hardened"]["faults"] == 2
    assert result["model-hardened"]["flips"] == "1.5 flips a trial (1 to 2)"
    assert tmp_path / "faults.txt" in stages._attacked(run)


def test_what_a_flow_says_of_its_model_does_not_stand_in_the_way_of_another_one(mlp_run):
    flow = Inject(model="ber", ber=1e-3, bits=(1,), margin=0.1)
    changed = cli_inject._changed(flow, {"model": "exact", "flips": 3, "ber": None, "bits": (), "stuck": "1"})
    assert (changed.model, changed.flips, changed.ber, changed.bits, changed.stuck) == ("exact", 3, None, (1,), 1)
    replay = cli_inject._changed(flow, {"model": "replay", "bits": (2,)})
    assert (replay.bits, replay.margin) == ((2,), None)  # what a person gives by hand stays, to be refused
    assert cli_inject._changed(flow, {"model": None}) == flow
