# SPDX-License-Identifier: Apache-2.0
"""Bias hardening from the command line and from a flow: what it is told, what it says, what a build then protects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import small_networks
from small_networks import export

from bitward.cli import main
from bitward.errors import ConfigError, ModelError
from bitward.flow.spec import load_flow
from bitward.flow.stages import build_options
from bitward.flow.verify import run_qonnx
from bitward.hardware.declare import BuildOptions, declare, hardened_biases, memory_schemes
from bitward.hardware.lowering import lower
from bitward.rewrites import bias_schemes, load_model
from bitward.schemes import Tmr


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return export(small_networks.convolutional(), tmp_path_factory.mktemp("bias") / "model.onnx", seed=3)


@pytest.fixture(scope="module")
def hardened(network) -> Path:
    path = network.path.with_name("hard.onnx")
    assert main(["-q", "harden", str(network.path), str(path), "--bias", "tmr"]) == 0
    return path


def test_harden_says_which_biases_are_stored_and_which_layers_have_none(network, tmp_path, capsys):
    assert main(["harden", str(network.path), str(tmp_path / "hard.onnx"), "--bias", "tmr"]) == 0
    said = capsys.readouterr().out
    assert "conv             biases of 7 bits stored in 21, rounded by 0." in said
    assert "fc               no hardened bias: it has no bias, and no batch norm behind it" in said


def test_a_hardened_bias_keeps_the_networks_answers(network, hardened):
    model = load_model(hardened)
    assert bias_schemes(model) == {"conv": Tmr(7, 7)} and len(model.get_nodes_by_op_type("MsbVoter")) == 2
    images = network.images(20)
    before, after = run_qonnx(network.path, images), run_qonnx(hardened, images)
    assert np.mean(np.argmax(before, axis=1) == np.argmax(after, axis=1)) >= 0.9


def test_build_is_told_what_to_protect(network, tmp_path, monkeypatch):
    seen = []

    def stop(model: Path, out: Path, options: BuildOptions, **_: object) -> None:
        seen.append((options.bias, options.bias_as))
        raise ConfigError("enough seen")

    monkeypatch.setattr("bitward.hardware.build.build", stop)
    for flags in ([], ["--bias", "tmr", "--bias-as", "add"], ["--bias", "none"]):
        assert main(["build", str(network.path), "--out", str(tmp_path / "out"), *flags]) == 1
    assert seen == [("model", "threshold"), ("tmr", "add"), ("none", "threshold")]


def stored(path: Path, **options: str) -> dict[str, Tmr]:
    """The protected memories of a build."""
    given = BuildOptions("none", **options)
    model, schemes = declare(path, given)
    return memory_schemes(lower(model, bias_as=given.bias_as), schemes, hardened_biases(model, given), given.bias_as)


def test_either_form_is_protected_as_asked_or_as_the_model_says(network, hardened):
    plain = network.path
    assert set(stored(plain, bias="tmr", bias_as="add")) == {"conv.bias"}
    assert set(stored(plain, bias="tmr", bias_as="threshold")) == {"conv.threshold", "input.threshold"}
    assert stored(plain) == stored(plain, bias="none", bias_as="add") == {}
    assert stored(hardened, bias_as="add") == {"conv.bias": Tmr(7, 7)}
    assert set(stored(hardened)) == {"conv.threshold"}
    assert stored(hardened, bias="none", bias_as="add") == {}


def test_thresholds_say_what_went_into_them(hardened):
    """So that a bias upset in QONNX is not taken for a threshold upset in hardware."""
    model, _ = declare(hardened, BuildOptions("none"))
    inside, apart = lower(model), lower(model, bias_as="add")
    assert any("bias" in name for name in inside.parameters["conv.threshold"].folded)
    assert not any("bias" in name for name in apart.parameters["conv.threshold"].folded)
    assert apart.parameters["conv.bias"].folded == ()


def test_biases_that_no_memory_holds_are_refused(hardened):
    model, _ = declare(hardened, BuildOptions("none"))
    lowered = lower(model, bias_as="threshold")
    sentence = (
        r"^a model whose biases are to be protected must have them in a bias memory, got memories input\.threshold, "
    )
    with pytest.raises(ModelError, match=sentence):
        memory_schemes(lowered, {}, None, "add")


def test_a_flow_hardens_biases_of_its_hardened_side_alone(tmp_path):
    path = tmp_path / "flow.yaml"
    path.write_text("network: digits_cnn\nharden: {bias: tmr, bias_as: add}\n")
    flow = load_flow(path)
    sides = [build_options(flow, protect) for protect in ("none", "model")]
    assert [(side.bias, side.bias_as) for side in sides] == [("none", "threshold"), ("model", "add")]
    path.write_text("network: digits_cnn\nharden: {bias: twice}\n")
    with pytest.raises(ConfigError, match=r"harden\.bias must be 'none' or 'tmr', got 'twice'; see flows/digits\.yaml"):
        load_flow(path)
