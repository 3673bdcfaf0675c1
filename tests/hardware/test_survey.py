# SPDX-License-Identifier: Apache-2.0
"""`bitward check`: all that stands between a model and hardware, by the user's own layer names."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import onnx
import public_graphs
import pytest
import torch
from onnx import TensorProto
from torch import nn

from bitward.cli import main
from bitward.errors import ModelError
from bitward.hardware.declare import BuildOptions
from bitward.hardware.survey import survey

MODELS = Path(__file__).resolve().parents[2] / "onnx_models"
SLOW = BuildOptions(target_fps=1000, board="kv260")


class Floats(nn.Module):
    """No weight is quantized, one activation has no hardware, one has no quantizer behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 8, 3)
        self.head = nn.Linear(32, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        hidden = nn.functional.max_pool2d(torch.relu(self.first(image)), 2)
        scores: torch.Tensor = self.head(nn.functional.gelu(self.second(hidden)).flatten(1))
        return scores


@pytest.fixture(scope="module")
def floats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("survey") / "floats.onnx"
    with pytest.warns(DeprecationWarning):
        torch.onnx.export(Floats().eval(), (torch.zeros(1, 1, 10, 10),), path, dynamo=False, opset_version=20)
    return path


def test_all_problems_of_a_float_network_are_found_at_once_by_layer(floats: Path) -> None:
    found = survey(floats, SLOW)
    assert [layer.name for layer in found.layers] == ["first.Conv", "second.Conv", "head.Gemm"]
    assert [layer.weights for layer in found.layers] == [36, 288, 320]
    assert all(re.match(r"^layer '.*' must have weights behind a Quant node, got none; quantize it with Brevitas",
                        layer.problems[0]) for layer in found.layers)  # fmt: skip
    assert re.match(r"^node /second/Conv \(Conv\) must take integers times a scale, got .* \(Relu\) before it: put a "
                    r"quantizer between the two\.$", found.layers[1].problems[1])  # fmt: skip
    assert sum("(Gelu) has no RTL" in problem for problem in found.problems) == 1
    assert any(problem.startswith("input ") and "annotate it (UINT8" in problem for problem in found.problems)
    assert found.estimate is None


@pytest.mark.parametrize("write", public_graphs.BUILT, ids=lambda write: write.__name__)
def test_what_builds_has_no_problem(write, tmp_path: Path) -> None:
    found = survey(write(tmp_path / "model.onnx"), SLOW)
    assert found.all_problems == []
    assert found.estimate is not None and found.estimate.cycles <= 200_000
    assert all(layer.bits and any(name.startswith("MVAU") for name in layer.becomes) for layer in found.layers)


@pytest.mark.parametrize("write", public_graphs.REFUSED, ids=lambda write: write.__name__)
def test_what_a_build_refuses_is_found_in_the_same_words(write, tmp_path: Path) -> None:
    problems = survey(write(tmp_path / "model.onnx"), SLOW).all_problems
    assert len(problems) == 1
    assert re.match(public_graphs.REFUSED[write], problems[0])


def test_a_build_agrees_with_the_survey_of_a_shipped_model() -> None:
    found = survey(MODELS / "resnet8_cifar.onnx", SLOW)
    assert found.all_problems == []
    assert {layer.name for layer in found.layers} >= {"block1.conv1", "block2.shortcut.conv", "fc"}
    assert {layer.bits for layer in found.layers} == {4}
    assert found.estimate is not None
    assert found.estimate.cycles == pytest.approx(148_592, rel=0.05)  # as benchmarks/RESULTS.md has of its slow fold


def test_a_rate_that_does_not_fit_is_a_problem_that_names_the_one_that_does() -> None:
    found = survey(MODELS / "vgg_cifar.onnx", BuildOptions(target_fps=100_000, board="kv260"))
    assert re.match(r"^the design must fit the board, got .* bram36 .*--target-fps ", found.all_problems[0])


@pytest.mark.parametrize("scale", [0.3, 0.0371])
def test_where_two_tensors_meet_a_refusal_before_is_not_blamed_twice(scale: float, tmp_path: Path) -> None:
    """A residual addition behind a refused layer: the layer is named, the addition of its stand-in is not.

    Also where the scale of the other summand has no common factor with the stand-in's, which is 1.
    """
    graph = public_graphs.Graph("skip", (1, 8), seed=3)
    graph.weights("w1", (8, 8), 4, 0.1)
    graph.node("MatMul", ["image", "w1"], "y1")
    graph.quant("y1", "x1", scale, 4, True)
    graph.node("MatMul", ["x1", graph.constant("w2", np.ones((8, 8)))], "y2")
    graph.node("Add", ["y2", "x1"], "sum")
    graph.quant("sum", "x2", 0.3, 4, True)
    graph.weights("w3", (8, 3), 4, 0.1)
    graph.node("MatMul", ["x2", "w3"], "logits")
    problems = survey(graph.save(tmp_path / "skip.onnx", "logits", (1, 3), "UINT4"), SLOW).all_problems
    assert len(problems) == 1
    assert re.match(r"^layer 'MatMul_y2' must have weights behind a Quant node", problems[0])


def _float_layer(graph: public_graphs.Graph) -> str:
    return graph.node("Conv", ["unknown", graph.constant("w2", np.ones((4, 4, 1, 1)))], "c2", kernel_shape=[1, 1])


def _pool_join_and_slice(graph: public_graphs.Graph) -> str:
    graph.node("Relu", [graph.node("MaxPool", ["unknown"], "p", kernel_shape=[2, 2])], "r")
    graph.node("Concat", [graph.quant("r", "q", 0.5, 4, False), "unknown"], "j", axis=1)
    graph.node("Mul", ["j", graph.constant("m", np.ones((1, 8, 1, 1)))], "mm")
    graph.constants |= {key: np.array([value], np.int64) for key, value in (("start", 0), ("stop", 2), ("axis", 1))}
    return graph.node("Slice", [graph.quant("mm", "q2", 0.5, 4, False), "start", "stop", "axis"], "s")


def _resize_and_flatten(graph: public_graphs.Graph) -> str:
    names = [graph.constant("roi", []), graph.constant("factors", [1, 1, 2, 2])]
    return graph.node("Flatten", [graph.node("Resize", ["unknown", *names], "up")], "f")


def _split_and_add(graph: public_graphs.Graph) -> str:
    graph.nodes.append(onnx.helper.make_node("Split", ["unknown"], ["a", "b"], name="cut", axis=1))
    return graph.node("Add", ["a", "b"], "s")


@pytest.mark.parametrize(
    ("behind", "problems"),
    [(_float_layer, ["Conv_c2"]), (_pool_join_and_slice, []), (_resize_and_flatten, []), (_split_and_add, [])],
)
def test_nothing_is_blamed_behind_a_shape_that_depends_on_data(behind, problems: list[str], tmp_path: Path) -> None:
    """Only what is wrong whatever the shape is: weights that are floats."""
    graph = public_graphs.Graph("unknown", (1, 4, 6, 6), seed=3)
    graph.node("Conv", ["image", graph.weights("w", (4, 4, 1, 1), 4, 0.1)], "c", kernel_shape=[1, 1])
    graph.constants["all"] = np.array([-1], np.int64)
    graph.node("Reshape", [graph.node("NonZero", ["c"], "places"), "all"], "shape")
    graph.node("Reshape", ["c", "shape"], "unknown")
    found = survey(graph.save(tmp_path / "unknown.onnx", behind(graph), (1, 4, 6, 6), "UINT4"), SLOW)
    named = ["node NonZero_places (NonZero) has no RTL", "node Reshape_shape (Reshape) must flatten"]
    assert [problem.split(":")[0].split(" an image")[0] for problem in found.problems] == named
    assert [layer.name for layer in found.layers if layer.problems] == problems


def test_graphs_of_the_old_brevitas_domain_are_taken(tmp_path: Path) -> None:
    path = public_graphs.sigmoid_perceptron(tmp_path / "old.onnx")
    model = onnx.load(str(path))
    for node in model.graph.node:
        if node.domain:
            node.domain = "onnx.brevitas"
    model.opset_import.append(onnx.helper.make_opsetid("onnx.brevitas", 1))
    onnx.save(model, str(path))
    found = survey(path, SLOW)
    assert found.all_problems == [] and [layer.bits for layer in found.layers] == [4, 4]


def test_several_outputs_are_a_problem_and_files_that_are_no_model_an_error(tmp_path: Path) -> None:
    path = public_graphs.sigmoid_perceptron(tmp_path / "two.onnx")
    model = onnx.load(str(path))
    model.graph.output.append(onnx.helper.make_tensor_value_info("x1", TensorProto.FLOAT, (1, 12)))
    onnx.save(model, str(path))
    assert re.match(r"^the model must have one input and one output, got 1 and 2: ", survey(path, SLOW).problems[0])
    with pytest.raises(ModelError, match=r"must be a readable ONNX file"):
        survey(tmp_path / "none.onnx", SLOW)


def test_the_command_lists_layers_and_problems_and_fails_where_there_are_some(
    floats: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = public_graphs.sigmoid_perceptron(tmp_path / "good.onnx")
    assert main(["check", str(good), "--json", str(tmp_path / "found.json")]) == 0
    said = capsys.readouterr().out
    assert "MatMul_y1" in said and "every layer can be hardened and built" in said
    assert [layer["bits"] for layer in json.loads((tmp_path / "found.json").read_text())["layers"]] == [4, 4]
    assert main(["check", str(floats)]) == 1
    said = capsys.readouterr()
    assert "- layer 'first.Conv' must have weights" in said.out and "none: see below" in said.out
    assert said.err.startswith(f"bitward: {floats} must become hardware as a whole, got problems: ")
