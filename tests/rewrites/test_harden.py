# SPDX-License-Identifier: Apache-2.0
"""The shipped models, hardened: signs folded, same answers on every test image, upsets masked or predicted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from mac_graphs import mac_graph, random_images, random_integers
from onnx import helper
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.util.cleanup import cleanup_model

from bitward.cli import main
from bitward.datasets import load_dataset
from bitward.errors import ModelError, OutputError
from bitward.qonnx_ops.execute import execute_images
from bitward.rewrites import (
    FoldNegativeScales,
    LiftVoters,
    find_layers,
    harden_model,
    load_model,
    negative_scales,
    protection,
    read_weights,
    save_model,
)
from bitward.schemes import Tmr

LAYERS = {"digits_cnn": ["conv1", "conv2", "fc"], "digits_mlp": ["fc1", "fc2", "fc3"]}


@dataclass(frozen=True)
class Pair:
    """A shipped model and its hardened twin; `answers` are the shipped one's on every test image."""

    plain: ModelWrapper
    hard: ModelWrapper
    images: np.ndarray
    answers: np.ndarray


@pytest.fixture(scope="module", params=list(LAYERS))
def pair(request, repository, tmp_path_factory):
    source = repository / "onnx_models" / f"{request.param}.onnx"
    target = tmp_path_factory.mktemp("hardened") / "hard.onnx"
    done = harden_model(source, target)
    plain, images = load_model(source), load_dataset("digits").test_images
    assert done.schemes == dict.fromkeys(LAYERS[request.param], Tmr(4, 1))
    assert done.folded_signs == negative_scales(plain) and done.saturated_weights == {}
    return Pair(plain, load_model(target), images, execute_images(plain, images))


def test_no_negative_scale_is_left_and_no_answer_changes(pair):
    assert sum(negative_scales(pair.plain).values()) > 0 and negative_scales(pair.hard) == {}
    assert len(pair.answers) == 360
    assert np.array_equal(execute_images(pair.hard, pair.images), pair.answers)


def test_no_answer_changes_by_folding_cleaning_and_lifting(pair):
    lifted = cleanup_model(pair.hard).transform(LiftVoters())
    assert protection(lifted) == dict.fromkeys(find_layers(pair.plain), Tmr(4, 1))
    assert np.array_equal(execute_images(lifted, pair.images), pair.answers)
    folded = pair.plain.transform(FoldNegativeScales())
    for name, layer in find_layers(folded).items():
        found = read_weights(lifted, find_layers(lifted)[name]).integers
        assert np.array_equal(found, read_weights(folded, layer).integers)


def flipped(pair, bit):
    """The hardened model with that bit of every stored word flipped."""
    model = ModelWrapper(pair.hard.model, make_deepcopy=True)
    for name in find_layers(model):
        stored = f"{name}.weight.stored"
        model.set_initializer(stored, (model.get_initializer(stored).astype(int) ^ (1 << bit)).astype(np.float32))
    return model


@pytest.mark.parametrize("bit", [3, 4, 5])
def test_an_upset_of_one_copy_of_every_weight_changes_no_answer(pair, bit):
    assert np.array_equal(execute_images(flipped(pair, bit), pair.images), pair.answers)


def test_an_upset_of_an_unvoted_bit_changes_the_weights_as_predicted(pair):
    folded = pair.plain.transform(FoldNegativeScales())
    for layer in find_layers(folded).values():
        weights = read_weights(folded, layer)
        predicted = ((weights.integers % 16 ^ 0b0100) + 8) % 16 - 8
        folded.set_initializer(weights.tensor, predicted.astype(np.float32) * weights.scale)
    images = pair.images[:40]
    answers = execute_images(flipped(pair, 2), images)
    assert np.array_equal(answers, execute_images(folded, images))
    assert not np.array_equal(answers, pair.answers[:40])


def test_only_the_chosen_layers_are_hardened(repository, tmp_path):
    source = repository / "onnx_models" / "digits_mlp.onnx"
    done = harden_model(source, tmp_path / "new" / "hard.onnx", voted=2, layers=["fc2"])
    assert done.schemes == {"fc2": Tmr(4, 2)}


def test_transposed_weights_of_a_raw_export_are_understood(tmp_path):
    """Brevitas exports Quant -> Transpose -> MatMul; hardening does not ask for a cleanup first."""
    model = mac_graph(integers=random_integers((5, 6)).T)
    model.graph.node.insert(1, helper.make_node("Transpose", ["quantized"], ["turned"], perm=[1, 0]))
    model.graph.node[2].input[1] = "turned"
    expected = mac_graph()
    save_model(model, tmp_path / "raw.onnx")
    assert list(harden_model(tmp_path / "raw.onnx", tmp_path / "hard.onnx").schemes) == ["fc"]
    images = random_images(expected)
    assert np.array_equal(execute_images(load_model(tmp_path / "hard.onnx"), images), execute_images(expected, images))


def test_saturation_is_reported_when_allowed_and_refused_otherwise(tmp_path, capsys):
    save_model(mac_graph(integers=np.full((5, 6), -8)), tmp_path / "plain.onnx")
    with pytest.raises(ModelError, match=r"^layer 'fc' must have no weight of -8 where .* is negative, got 15: 8 does"):
        harden_model(tmp_path / "plain.onnx", tmp_path / "hard.onnx")
    assert not (tmp_path / "hard.onnx").exists()
    done = harden_model(tmp_path / "plain.onnx", tmp_path / "hard.onnx", saturate=True)
    assert done.saturated_weights == {"fc": 15} and done.folded_signs == {"norm": 3}
    assert main(["harden", str(tmp_path / "plain.onnx"), str(tmp_path / "hard.onnx"), "--saturate"]) == 0
    said = capsys.readouterr().out
    assert "  norm: 3 negative scales folded into weights\n" in said
    assert "  fc: 15 weights changed by one step to have a negative\n" in said


def test_a_folder_that_cannot_be_made_is_said(repository, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"^.*file must be "):
        harden_model(repository / "onnx_models" / "digits_mlp.onnx", tmp_path / "file" / "hard.onnx")
