# SPDX-License-Identifier: Apache-2.0
"""`bitward import`: networks of the user's own become QONNX that answers as torch does, and that hardware can take."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import public_graphs
import pytest
import torch

from bitward.cli import main
from bitward.datasets import load_dataset
from bitward.engine import HardwareEngine
from bitward.errors import ConfigError, ModelError
from bitward.flow import importing
from bitward.flow.importing import import_qonnx, import_torch
from bitward.flow.spec import load_flow
from bitward.flow.verify import equal_images, run_qonnx, verify_build
from bitward.hardware.build import build
from bitward.hardware.declare import BuildOptions
from bitward.hardware.survey import Survey, survey
from bitward.manifest import apply_edge
from bitward.qonnx_ops.execute import execute_images
from bitward.rewrites import find_layers, load_model, read_weights, save_model
from bitward.train import own as own_module
from bitward.train.own import Adopted, adopt
from bitward.train.own_recipe import Bits, Own

HERE = Path(__file__).parent
MODELS = str(HERE / "own_models.py")
OPTIONS = BuildOptions(target_fps=5000, board="kv260")


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


def _adopted(function: str, digits, **options: object) -> Adopted:
    return adopt(Own(f"{MODELS}:{function}", **options), digits, function)  # type: ignore[arg-type]


def _torch(function: str) -> torch.nn.Module:
    sys.path.insert(0, str(HERE))
    import own_models

    network: torch.nn.Module = getattr(own_models, function)()
    return network.eval()


@pytest.mark.parametrize("function", ["plain", "branches", "brevitas"])
def test_what_is_imported_becomes_hardware_and_answers_as_torch(function: str, digits, tmp_path: Path) -> None:
    adopted = _adopted(function, digits)
    assert adopted.same == 1 and adopted.compared == 360
    save_model(adopted.model, tmp_path / "own.onnx")
    found = survey(tmp_path / "own.onnx", OPTIONS)
    assert found.all_problems == [] and found.estimate is not None
    assert [layer.name for layer in found.layers] == {
        "plain": ["conv1", "conv2", "head"],
        "branches": ["stem", "block1.conv1", "block1.conv2", "block2.conv1", "block2.conv2", "left", "right", "head"],
        "brevitas": ["1", "5"],
    }[function]
    assert {layer.bits for layer in found.layers} == {4}


@pytest.mark.parametrize("function", ["plain", "branches"])
def test_at_eight_bits_a_quantized_network_is_close_to_its_floats(function: str, digits) -> None:
    """An independent way: the outputs of the user's own network in floats, on pixels as 0 to 1."""
    adopted = _adopted(function, digits, bits=Bits(8, 8))
    images = digits.test_images[:200]
    found = execute_images(adopted.model, images)
    network = _torch(function)
    if function == "branches":
        network.soft = torch.nn.Identity()  # left to the host, and said
        assert adopted.steps[0] == "softmax at the end left to the host: soft"
    with torch.no_grad():
        wanted = network(torch.from_numpy(images) / (2**digits.pixel_bits - 1)).numpy()
    error = abs(found - wanted).max() / np.ptp(wanted)
    assert error < 0.04
    coarse = execute_images(_adopted(function, digits, bits=Bits(2, 2)).model, images)
    assert abs(coarse - wanted).max() / np.ptp(wanted) > 2 * error  # the control: two bits are not close


@pytest.mark.parametrize("function", ["plain", "branches"])
def test_integers_of_the_hardware_are_those_of_the_file(function: str, digits, tmp_path: Path) -> None:
    """The hardware graph of a build, executed: shared quantizers, summands and concatenations are right."""
    save_model(_adopted(function, digits).model, tmp_path / "own.onnx")
    images = digits.test_images[:100]
    manifest = build(tmp_path / "own.onnx", tmp_path / "build", BuildOptions("msb", target_fps=5000, simulate=False))
    found = HardwareEngine.load(tmp_path / "build").infer(apply_edge(manifest.io.pre, images).astype(np.int64))
    assert equal_images(found, run_qonnx(tmp_path / "own.onnx", images), manifest.io.post).all()


@pytest.mark.slow
@pytest.mark.parametrize("function", ["plain", "branches", "brevitas"])
def test_the_rtl_is_bit_exact(function: str, digits, tmp_path: Path) -> None:
    save_model(_adopted(function, digits).model, tmp_path / "own.onnx")
    images = digits.test_images[:100]
    build(tmp_path / "own.onnx", tmp_path / "build", BuildOptions("msb", target_fps=20_000))
    found = verify_build(tmp_path / "build", images, run_qonnx(tmp_path / "own.onnx", images), 0.3)
    assert (found["equal"], found["equal_with_stalls"]) == (100, 100)


def test_what_networks_take_is_the_graphs_first_operations(digits) -> None:
    """Normalised, or as they are: the same network on images that were prepared so gives the same outputs."""
    plain = _torch("plain")
    images, largest = digits.test_images[:50], 2**digits.pixel_bits - 1
    ways = {
        "raw": ({"raw": True}, images),
        "normalised": ({"mean": (0.5,), "deviation": (0.25,)}, (images / largest - 0.5) / 0.25),
    }
    for options, prepared in ways.values():
        adopted = _adopted("plain", digits, bits=Bits(8, 8), **options)
        with torch.no_grad():
            wanted = plain(torch.from_numpy(prepared.astype(np.float32))).numpy()
        found = execute_images(adopted.model, images)
        assert abs(found - wanted).max() / np.ptp(wanted) < 0.03


def test_training_behind_quantization_helps(digits) -> None:
    """From random weights nothing is right by more than luck; with epochs of training most is."""
    untrained, trained = _adopted("plain", digits), _adopted("plain", digits, epochs=30)
    assert untrained.accuracy < 0.3 and trained.accuracy > 0.7
    assert trained.steps[-1].startswith("trained for 30 epochs with quantization")


class _CutOff(Exception):
    """As a ctrl-C would."""


def _ticking(limit: int) -> Callable[[], None]:
    """Cuts a training off in the epoch after that many."""
    left = [limit]

    def tick() -> None:
        if left[0] == 0:
            raise _CutOff
        left[0] -= 1

    return tick


@pytest.mark.parametrize(
    ("function", "epochs"), [("plain", 3), pytest.param("brevitas", 26, marks=pytest.mark.slow)]
)  # scales of the latter come from statistics of its first 300 steps, 22 epochs
def test_a_training_that_was_cut_off_goes_on(
    function: str, epochs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the file that an uncut one gives, byte for byte; what another network left is not taken."""
    if function == "plain":
        monkeypatch.setattr("bitward.train._loop.SETTLED_STEPS", 0)
    monkeypatch.setattr("bitward.train._loop.SAVE_EVERY_S", 0.0)
    own = Own(f"{MODELS}:{function}", epochs=epochs)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    made, _ = import_torch(own, whole, "mine", "digits", None)
    assert {path.suffix for path in whole.iterdir()} == {".onnx", ".md", ".yaml"}
    for other in (own, replace(own, source=f"{MODELS}:branches"), replace(own, epochs=epochs + 1)):
        with pytest.raises(_CutOff):
            import_torch(other, cut, "mine", "digits", None, _ticking(epochs - 1))
    assert {path.suffix for path in cut.iterdir()} == {".unfinished"} and len(list(cut.iterdir())) == 3
    ticks: list[float] = []
    again, _ = import_torch(own, cut, "mine", "digits", None, lambda: ticks.append(time.perf_counter()))
    assert again.model.read_bytes() == made.model.read_bytes()
    assert len(ticks) == epochs and ticks[-2] - ticks[0] < 0.25 * (ticks[-1] - ticks[-2])  # one epoch alone was run
    assert {path.suffix for path in cut.iterdir()} == {".onnx", ".md", ".yaml"}


def test_weights_of_the_users_own_file_are_taken_by_their_names(digits, tmp_path: Path) -> None:
    network = _torch("plain")
    with torch.no_grad():
        network.head.bias.copy_(torch.arange(10.0))
    torch.save(
        {"state_dict": {f"module.{name}": value for name, value in network.state_dict().items()}}, tmp_path / "w"
    )
    scores = execute_images(
        _adopted("plain", digits, weights=tmp_path / "w", bits=Bits(8, 8)).model, digits.test_images
    )
    assert (scores.argmax(axis=1) == 9).mean() > 0.99  # the bias decides
    torch.save({"shortcut.weight": torch.zeros(2)}, tmp_path / "other")
    with pytest.raises(ModelError, match=r"other must have the tensors of the network, got none called "):
        _adopted("plain", digits, weights=tmp_path / "other")


@pytest.mark.parametrize(
    ("source", "kind", "sentence"),
    [
        (f"{MODELS}:values_decide", ModelError, r".*:values_decide must be a network that torch.fx can trace, got "),
        (f"{MODELS}:five_classes", ModelError, r".*:five_classes must give 10 scores an image, as digits has classes, "
         r"got 5: "),
        (f"{MODELS}:three_channels", ModelError, r".*:three_channels must take images of 1x8x8, as digits has, got "
         r"RuntimeError: "),
        (f"{MODELS}:no_network", ConfigError, r".*:no_network must return a torch.nn.Module, got str: "),
        (f"{MODELS}:fails", ConfigError, r".*:fails must return a network, got RuntimeError: no such layer; "),
        (f"{MODELS}:nothing", ConfigError, r".* must have a function nothing, got none: "),
        ("no/such/file.py:build", ConfigError, r"no/such/file.py must be a Python file, got none there: "),
        ("no_such_module:build", ConfigError, r"no_such_module must be a module that can be imported, got: "),
        ("own_models.py", ConfigError, r"a network must be given as FILE.py:FUNCTION or MODULE:FUNCTION, got 'own"),
    ],
)  # fmt: skip
def test_what_cannot_be_imported_is_refused_in_a_sentence(source: str, kind: type, sentence: str, digits) -> None:
    with pytest.raises(kind, match="^" + sentence):
        adopt(Own(source), digits, "own")


def test_a_qonnx_that_decides_otherwise_is_refused(digits, monkeypatch) -> None:
    monkeypatch.setattr(own_module, "execute_images", lambda model, images: -execute_images(model, images))
    sentence = r"^plain must decide as QONNX as it does in torch, got the same decisions on \d{1,2}\.\d% of \d+ test "
    with pytest.raises(ModelError, match=sentence):
        _adopted("plain", digits)


def test_a_file_that_does_not_run_is_refused(digits, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import no_such_thing\n")
    with pytest.raises(ConfigError, match=r"broken.py must run as Python, got ModuleNotFoundError: "):
        adopt(Own(f"{tmp_path / 'broken.py'}:build"), digits, "own")


def test_means_and_deviations_go_with_channels(digits) -> None:
    with pytest.raises(ConfigError, match=r"^mean must have 1 or 1 values, one a channel, got 3: "):
        _adopted("plain", digits, mean=(0.1, 0.2, 0.3))
    with pytest.raises(ConfigError, match=r"^deviation must be above 0, got 0: "):
        _adopted("plain", digits, deviation=(0.0,))


def test_the_command_leaves_a_model_a_card_and_a_flow(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["import", f"{MODELS}:plain", "--dataset", "digits", "--bits", "4", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert re.search(r"\d+\.\d\d% right on the test images \(\d+\.\d\d% in floats\)", said)
    assert f"next: bitward run {out / 'plain.yaml'}" in said
    assert {path.name for path in out.iterdir()} == {"plain.onnx", "plain.md", "plain.yaml"}
    flow = load_flow(out / "plain.yaml")
    assert (flow.network, flow.model, flow.dataset) == ("plain", out / "plain.onnx", "digits")
    assert "batch norms merged" in (out / "plain.md").read_text()
    model = load_model(out / "plain.onnx")
    assert [read_weights(model, layer).bits for layer in find_layers(model).values()] == [4, 4, 4]


def test_the_command_asks_for_a_dataset_and_a_name_that_can_be_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", f"{MODELS}:plain"]) == 2
    assert "--dataset must say what images the network is for" in capsys.readouterr().err
    assert main(["import", f"{MODELS}:plain", "--dataset", "digits", "--name", "../x"]) == 1
    assert capsys.readouterr().err.startswith("bitward: the name must begin with a letter or digit")
    assert main(["import", f"{MODELS}:plain", "--dataset", "digits", "--mean", "a,b"]) == 2
    assert "'a,b' must be numbers, comma-separated" in capsys.readouterr().err


def test_qonnx_of_anybody_is_taken_and_told_what_its_input_is(tmp_path: Path) -> None:
    path = public_graphs.sigmoid_perceptron(tmp_path / "theirs.onnx")
    taken = import_qonnx(path, tmp_path / "out", "theirs", "digits", None)
    assert taken.survey.all_problems == [] and taken.flow == tmp_path / "out" / "theirs.yaml"
    model = onnx.load(str(path))
    del model.graph.quantization_annotation[:]
    onnx.save(model, str(tmp_path / "plain.onnx"))
    with pytest.raises(ModelError, match=r"must say which integers it takes, got FLOAT32: give --input UINT8"):
        import_qonnx(tmp_path / "plain.onnx", tmp_path / "out", "plain", None, None)
    again = import_qonnx(tmp_path / "plain.onnx", tmp_path / "out", "plain", None, "UINT4")
    assert again.survey.all_problems == [] and again.flow is None  # no images to run it on
    with pytest.raises(ConfigError, match=r"^--input must be an integer type as UINT8 or INT8, got 'FLOAT8'"):
        import_qonnx(tmp_path / "plain.onnx", tmp_path / "out", "plain", None, "FLOAT8")


def test_the_flow_is_folded_for_the_first_rate_that_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No design takes more than an image in each of 200 million cycles a second."""
    tried = []

    def looked_at(path: Path, options: BuildOptions) -> Survey:
        tried.append(options.target_fps)
        return survey(path, options)

    monkeypatch.setattr(importing, "survey", looked_at)
    monkeypatch.setattr(importing, "RATES", (4e8, 3e8, 1e5, 1e4))
    path = public_graphs.sigmoid_perceptron(tmp_path / "theirs.onnx")
    taken = import_qonnx(path, tmp_path / "out", "theirs", "digits", None)
    assert tried == [4e8, 3e8, 1e5] and taken.target_fps == 1e5
    assert load_flow(tmp_path / "out" / "theirs.yaml").build.target_fps == 1e5
    monkeypatch.setattr(importing, "RATES", (4e8, 3e8))
    none = import_qonnx(path, tmp_path / "none", "theirs", "digits", None)
    assert none.flow is None and none.survey.estimate is None and not (tmp_path / "none" / "theirs.yaml").exists()


def test_what_no_hardware_can_be_made_of_is_said_and_has_no_flow(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = public_graphs.soft_attention(tmp_path / "soft.onnx")
    assert main(["import", str(path), "--dataset", "digits", "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "(Softmax) has no RTL" in said and "no hardware can be made of it as it is" in said
    assert not (tmp_path / "out" / "soft.yaml").exists()
