# SPDX-License-Identifier: Apache-2.0
"""Every option of every command is passed by a test, and does what its help says; those that no other test passes are
here, on the smallest model that can tell.
"""

from __future__ import annotations

import json
from pathlib import Path

import documented
import onnx
import pytest
import tiny_classic
import torch
from shared_runs import ROOT, SHARED_RUNS, turn

from bitward.cli import main
from bitward.rewrites import find_layers, load_model, read_weights

MLP = ROOT / "onnx_models" / "digits_mlp.onnx"


def test_every_option_is_passed_by_a_test() -> None:
    """By one of its spellings, in the tests or in a line of the pages that a test runs."""
    unnamed = [
        f"bitward {name} {option.opts[0]}"
        for name, option in documented.options()
        if not any(map(documented.named_in_tests, (*option.opts, *option.secondary_opts)))
    ]
    assert unnamed == []


def test_an_option_that_no_test_passes_is_seen() -> None:
    """Negative control."""
    assert not documented.named_in_tests("--" + "frobnicate")


def test_harden_takes_the_layers_that_are_named(tmp_path: Path) -> None:
    layers = list(find_layers(load_model(MLP)))
    assert main(["harden", str(MLP), str(tmp_path / "out.onnx"), "--layer", layers[0]]) == 0
    assert main(["harden", str(MLP), str(tmp_path / "all.onnx")]) == 0
    files = {name: onnx.load(str(tmp_path / f"{name}.onnx")) for name in ("out", "all")}
    voters = {name: [node.op_type for node in file.graph.node].count("MsbVoter") for name, file in files.items()}
    assert voters == {"out": 1, "all": len(layers)} and len(layers) > 1


def test_build_takes_safe_queues_without_measuring(tmp_path: Path) -> None:
    given = ["--protect", "none", "--fifos", "safe", "--fifo-seconds", "1", "--no-simulate", "--specialize"]
    words = tmp_path / "specialize.json"
    words.write_text(json.dumps({"Defaults": {}}))
    assert main(["build", str(MLP), "--out", str(tmp_path / "out"), *given, str(words)]) == 0
    record = json.loads((tmp_path / "out" / "build.json").read_text())
    assert (record["protect"], record["cycles"]) == ("none", "not measured")
    assert list((tmp_path / "out" / "rtl").glob("*.sv"))


@pytest.mark.parametrize("raw", [True, False])
def test_import_takes_pixels_as_the_network_does(raw: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = f"{ROOT / 'tests' / 'own_models.py'}:plain"
    pixels = ["--raw"] if raw else ["--mean", "0.3", "--std", "0.4"]
    given = ["--dataset", "digits", "--bits", "4", "--activation-bits", "6", "--name", "own", "--out", str(tmp_path)]
    assert main(["import", model, *given, *pixels]) == 0
    assert "right on the test images" in capsys.readouterr().out
    taken = load_model(tmp_path / "own.onnx")
    assert {read_weights(taken, layer).bits for layer in find_layers(taken).values()} == {4}
    widths = [
        float(onnx.numpy_helper.to_array(tensor))
        for node in taken.graph.node
        if node.op_type == "Quant"
        for tensor in taken.graph.initializer
        if tensor.name == node.input[3]
    ]
    assert 6.0 in widths


def test_inject_takes_a_side_a_bit_and_a_confidence(mlp_run, capsys: pytest.CaptureFixture[str]) -> None:
    short = ["--model", "uniform", "--trials", "30", "--images", "1", "--restart", "--runs", str(SHARED_RUNS)]
    with turn("digits-mlp"):
        given = ["--on", "engine", "--side", "plain", "--bit", "3", "--confidence", "0.5"]
        assert main(["inject", str(mlp_run.flow), *given, *short]) == 0
        half = capsys.readouterr().out
    assert "plain" in half


def test_scrub_begins_a_pass_so_often(mlp_run, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--on", "engine", "--passes", "2", "--every", "0.01", "--upsets", "3"]
    assert main(["scrub", str(mlp_run.build("hardened")), *given]) == 0
    assert capsys.readouterr().out.count("pass") >= 2


def test_train_says_where_it_is_to_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(tiny_classic.trained(), tmp_path / "weights.pt")
    given = ["--dataset", "digits", "--width", str(tiny_classic.WIDTH), "--weights", str(tmp_path / "weights.pt")]
    assert main(["train", "alexnet", *given, "--device", "cpu", "--cache", str(tmp_path / "cache")]) == 0
    assert "%" in capsys.readouterr().out


def test_resources_are_compared_under_each_protection(
    mlp_run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Yosys itself is not asked: each protection of the weight memories is counted by its own parameters, and shown."""
    from bitward.hardware import resources

    asked = []

    def counted(jobs: list[tuple[Path, dict[str, int | str]]], progress: object) -> list[dict[str, object]]:
        return [counts(values) for _, values in jobs]

    def counts(values: dict[str, int | str]) -> dict[str, object]:
        asked.append(values)
        found = {name: len(asked) for name in ("lut", "ff", "carry", "bram36", "uram", "dsp", "levels")}
        return {"tool": "stand-in", "instances": {"node": found}, "total": found}

    monkeypatch.setattr(resources, "_counted", counted)
    assert main(["resources", str(mlp_run.build("plain")), "--compare", "--json", str(tmp_path / "counts.json")]) == 0
    assert asked[1:] == list(resources.PROTECTIONS.values())
    said, written = capsys.readouterr().out, json.loads((tmp_path / "counts.json").read_text())
    assert all(name in said for name in resources.PROTECTIONS)
    assert {name: total["lut"] for name, total in written["compared"].items()} == {
        "plain": 2, "MSB voter": 3, "full TMR": 4, "SEC-DED": 5,
    }  # fmt: skip
