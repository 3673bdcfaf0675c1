# SPDX-License-Identifier: Apache-2.0
"""Flows that begin from the models that come with bitward: nothing is trained, and the folder is another one."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from bitward.cli import main
from bitward.errors import ConfigError
from bitward.flow import load_flow
from bitward.flow.spec import from_shipped


def test_nothing_is_trained_and_the_model_is_the_shipped_one(repository: Path, tmp_path: Path) -> None:
    assert main(["run", "digits-mlp", "--shipped", "--to", "harden", "--runs", str(tmp_path)]) == 0
    folder = tmp_path / "digits-mlp-shipped"
    shipped = repository / "onnx_models" / "digits_mlp.onnx"
    assert (folder / "models" / "digits_mlp.onnx").read_bytes() == shipped.read_bytes()
    assert (folder / "models" / "digits_mlp-hardened.onnx").is_file() and not (folder / "train").exists()
    assert json.loads((folder / "summary.json").read_text())["seeds"]["train"] == []


@pytest.mark.slow
def test_every_image_of_the_shipped_model_is_equal(tmp_path: Path) -> None:
    assert main(["run", "digits", "--shipped", "--to", "verify", "--runs", str(tmp_path)]) == 0
    summary = json.loads((tmp_path / "digits-shipped" / "summary.json").read_text())
    assert summary["rtl_equal_images"] == summary["images"] == 360
    assert summary["accuracy"] == summary["verify"]["plain"]["accuracy"] == pytest.approx(0.9833, abs=1e-4)


def test_the_rest_of_the_flow_stays(repository: Path) -> None:
    flow = load_flow(repository / "flows" / "digits.yaml")
    shipped = from_shipped(flow)
    assert shipped.name == "digits-shipped" and shipped.model == repository / "onnx_models" / "digits_cnn.onnx"
    assert shipped.model_copy(update={"name": flow.name, "model": None}) == flow


def test_a_network_that_does_not_come_with_bitward_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("network: mine\ndataset: digits\n")
    with pytest.raises(
        ConfigError, match=r"^--shipped must be given to a flow of digits_cnn, .*, got mine: run it wit"
    ):
        from_shipped(load_flow(path))
    path.write_text("network: digits_cnn\nmodel: some.onnx\n")
    with pytest.raises(ConfigError, match=r"got a flow that has a model, some.onnx: run it without --shipped$"):
        from_shipped(load_flow(path))


def test_flows_that_never_become_hardware_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("run", "inject", "bitstream"):
        for flow in ("fortune/vgg11-p3", "segmentation/hardsigmoid-folded"):
            assert main([command, flow, "--shipped"]) == 2
            assert "--shipped goes with flows of networks that become hardware" in capsys.readouterr().err


@pytest.mark.slow
def test_what_a_run_says_to_go_on_with_goes_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Faults and an overlay of the same build, of the same folder, untrained."""
    runs = ["--runs", str(tmp_path)]
    assert main(["run", "digits-mlp", "--shipped", *runs]) == 0
    folder = tmp_path / "digits-mlp-shipped"
    said = next(line for line in capfd.readouterr().out.splitlines() if "bitward inject" in line)
    words = shlex.split(said.split("   ")[0])
    assert words[:2] == ["bitward", "inject"] and words[3:6] == ["--shipped", "--on", "rtl"], words
    built = (folder / "build" / "hardened" / "manifest.json").stat().st_mtime_ns
    assert main([*words[1:], "--model", "uniform", "--trials", "20", "--images", "2"]) == 0
    assert (folder / "campaigns" / "inject-uniform-hardened-rtl").is_dir() and not (tmp_path / "digits-mlp").exists()
    assert main(["bitstream", "digits-mlp", "--shipped", *runs]) == 0
    assert Path(capfd.readouterr().out.split()[-1]).is_relative_to(folder)
    assert (folder / "build" / "hardened" / "manifest.json").stat().st_mtime_ns == built
