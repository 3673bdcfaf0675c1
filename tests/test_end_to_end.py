# SPDX-License-Identifier: Apache-2.0
"""The two flows from training to report: the figures that bitward claims, checked on the shared runs' trials."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from bitward_runtime.extension_client import ExtensionClient
from shared_runs import ROOT, SHARED_RUNS, SharedRun, turn

from bitward import tools
from bitward.campaign import TrialStore
from bitward.datasets import load_dataset
from bitward.engine.images import load_images
from bitward.faults import every_fault
from bitward.flow import STAGE_NAMES
from bitward.flow.verify import equal_images, run_qonnx
from bitward.manifest import Manifest, apply_edge
from bitward.targets.board import BoardTarget

LEAST_ACCURACY = {"digits": 0.97, "digits-mlp": 0.95}
KEYS = {
    "accuracy", "images", "rtl_equal_images", "steady_cycles_per_image", "latency_cycles", "weight_memory_bits",
    "msb_faults", "targets_agree", "restored_golden", "wall_s",
}  # fmt: skip
TARGETS = ("engine", "rtl", "board")


@pytest.fixture(params=["digits_run", "mlp_run"])
def shared(request: pytest.FixtureRequest) -> SharedRun:
    return request.getfixturevalue(request.param)


def trials(run: SharedRun, campaign: str) -> list[dict]:
    return TrialStore.load(run.campaign(campaign)).read().to_pylist()


def test_the_summary_has_every_key_and_nothing_is_left_unmeasured(shared):
    summary = shared.summary
    assert set(summary) >= KEYS
    assert [key for key in KEYS if summary[key] == "not measured"] == []
    for key in ("steady_cycles_per_image", "latency_cycles", "weight_memory_bits"):
        assert set(summary[key]) >= {"plain", "hardened"}
    assert set(summary["wall_s"]) >= {"train", "export", "harden", "build", "verify", "inject"}
    assert any("virtual" in sentence for sentence in summary["simulated"])


def test_accuracy_is_the_mean_of_five_seeds(shared):
    summary = shared.summary
    assert len(summary["accuracy_seeds"]) == 5
    assert np.mean(summary["accuracy_seeds"]) == pytest.approx(summary["accuracy_mean"])
    assert summary["accuracy_mean"] >= LEAST_ACCURACY[summary["flow"]]
    assert summary["accuracy"] == summary["accuracy_seeds"][0]  # the first seed is exported, whatever it scored


def test_negative_gammas_were_there_and_were_folded(shared):
    stages = json.loads((shared.folder / "stages.json").read_text())
    folded = stages["harden"]["result"]["folded_signs"]
    assert len(folded) == 2 and min(folded.values()) >= 1
    assert stages["harden"]["result"]["saturated_weights"] == {}


def test_rtl_equals_qonnx_on_every_test_image_with_and_without_stalls(shared):
    summary = shared.summary
    assert (summary["images"], summary["rtl_equal_images"]) == (360, 360)
    for side in ("plain", "hardened"):
        assert (summary["verify"][side]["equal"], summary["verify"][side]["equal_with_stalls"]) == (360, 360)
        assert summary["verify"][side]["accuracy"] == summary["accuracy"]


def test_hardening_costs_no_cycle_per_image_and_at_most_four_of_latency(shared):
    summary = shared.summary
    steady, latency = summary["steady_cycles_per_image"], summary["latency_cycles"]
    assert steady["hardened"] == steady["plain"]
    assert 0 <= latency["hardened"] - latency["plain"] <= 4


def test_hardening_costs_two_bits_a_weight(shared):
    bits = shared.summary["weight_memory_bits"]
    weights = sum(
        m.parameters for m in Manifest.load(shared.build("plain") / "manifest.json").memories if m.role == "weight"
    )
    assert (bits["plain"], bits["hardened"], bits["int8"]) == (4 * weights, 6 * weights, 8 * weights)


def test_every_single_msb_fault_was_injected_into_the_rtl_and_none_changed_an_output(shared):
    manifest = Manifest.load(shared.build("hardened") / "manifest.json")
    weights = [memory for memory in manifest.memories if memory.role == "weight"]
    every = {
        (fault.memory, fault.word, fault.bit)
        for memory in weights
        for fault in every_fault(manifest, memory.name, memory.scheme.masked_bits)
    }
    assert len(every) == 3 * sum(memory.parameters for memory in weights)
    hardened = trials(shared, "msb-hardened")
    assert {(row["memory"], row["word"], row["bit"]) for row in hardened} == every
    assert {row["target"] for row in hardened} == {"rtl"}
    assert min(row["images"] for row in hardened) >= 16
    assert sum(row["outputs_changed"] for row in hardened) == 0
    plain = trials(shared, "msb-plain")
    assert {row["parameter_bit"] for row in plain} == {3}
    assert len(plain) == len(every) // 3
    changed = sum(row["outputs_changed"] > 0 for row in plain)
    assert changed > len(plain) // 2
    found = shared.summary["msb_faults"]
    assert (found["injected"], found["changed_plain"], found["changed_hardened"]) == (len(every), changed, 0)


def test_the_same_200_faults_on_engine_rtl_and_board_give_the_same_outputs(shared):
    agreed = shared.summary["targets_agree"]
    assert (agreed["compared"], agreed["equal"], agreed["targets"]) == (200, 200, list(TARGETS))
    tables = {on: trials(shared, f"agree-{on}") for on in TARGETS}
    results = {
        on: [(row["memory"], row["word"], row["bit"], row["images"], row["outputs_sha256"]) for row in table]
        for on, table in tables.items()
    }
    assert len(set(results["engine"])) == 200
    assert results["rtl"] == results["engine"]
    assert results["board"] == results["engine"]
    assert {row["target"] for row in tables["board"]} == {"board"}
    assert len({row["outputs_sha256"] for row in tables["rtl"]}) > 50  # they do change outputs


def test_the_200_faults_hit_weights_and_thresholds_lowest_weights_and_one_row_memories(shared):
    build = shared.build("hardened")
    manifest, images = Manifest.load(build / "manifest.json"), load_images(build / "memories.npz")
    rows = trials(shared, "agree-rtl")
    assert {row["role"] for row in rows} == {"weight", "threshold"}
    assert {row["copy"] for row in rows} >= {0, 1, 2}
    lowest, one_row = 0, 0
    for row in rows:
        memory = manifest.memory(row["memory"])
        words = memory.scheme.decode(memory.stored_words(images[memory.name])).reshape(-1)
        lowest += row["role"] == "weight" and int(words[row["parameter"]]) == 0b1000
        one_row += row["role"] == "weight" and memory.depth == 1
    assert lowest >= 10
    if shared.summary["flow"] == "digits":
        assert one_row >= 10


def test_memories_were_golden_before_and_after_every_campaign(shared):
    summary = shared.summary
    assert summary["restored_golden"] is True
    for name, found in summary["campaigns"].items():
        assert found["restored_golden"] is True, name
        assert found["repaired"] == [], name  # a design that starts afresh has nothing to repair


def test_both_sides_have_weights_of_one_origin_and_ids_of_their_own(shared):
    plain, hardened = (Manifest.load(shared.build(side) / "manifest.json") for side in ("plain", "hardened"))
    assert plain.design_id != hardened.design_id
    images = {side: load_images(shared.build(side) / "memories.npz") for side in ("plain", "hardened")}
    for left, right in zip(plain.memories, hardened.memories, strict=True):
        assert np.array_equal(left.values(images["plain"][left.name]), right.values(images["hardened"][right.name]))


def test_the_virtual_board_is_measured_and_says_so(shared):
    for side, row in shared.summary["measured"].items():
        cycles = shared.summary["steady_cycles_per_image"][side]
        assert row["simulated"] and row["differing_samples"] == 0 and row["golden_passes"] == 3
        assert row["fps_by_rtl_cycles"] == pytest.approx(200e6 / cycles) and row["busy_w"] is None
        assert json.loads((shared.folder / "measured" / f"{side}.json").read_text())["power"] is None
    text = (shared.folder / "report.html").read_text(encoding="utf-8")
    assert "Speed and power" in text and "not a measurement on a board" in text


def test_the_report_is_one_file_that_needs_no_other(shared):
    text = (shared.folder / "report.html").read_text(encoding="utf-8")
    assert "<html" in text and "simulat" in text
    assert 'src="http' not in text and 'href="http' not in text.replace('href="https://github.com', "")


def test_a_run_that_nothing_changed_for_runs_no_stage_again(mlp_run):
    command = [sys.executable, "-m", "bitward", "run", str(mlp_run.flow), "--to", "inject", "--runs", str(SHARED_RUNS)]
    with turn("digits-mlp"):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    stages = [line.split() for line in done.stdout.splitlines() if line.split()[-1:] == ["unchanged"]]
    assert [name for name, _ in stages] == [name for name in STAGE_NAMES if name != "report"]
    assert Path(done.stdout.splitlines()[-1]).name == "summary.json"


@pytest.mark.parametrize("way", ["extension", "stock client"])
def test_every_test_image_on_the_virtual_board_gives_what_qonnx_gives(shared, way, monkeypatch):
    """Our runtime, through the server's extension, and the stock pynq client: 360 of 360, in every output."""
    if way == "stock client":
        if tools.board_python() is None:
            pytest.skip("needs the PYNQ client's environment, .venv-board (make setup)")
        monkeypatch.setattr(ExtensionClient, "hello", lambda self, *_: None)
    (model,) = (shared.folder / "models").glob("*-hardened.onnx")
    images, build = load_dataset("digits").test_images, shared.build("hardened")
    io = Manifest.load(build / "manifest.json").io
    with BoardTarget(build) as target:
        integers = target.infer(apply_edge(io.pre, images).astype(np.int64))
    equal = equal_images(integers, run_qonnx(model, images), io.post)
    assert (int(equal.sum()), len(equal)) == (360, 360)
