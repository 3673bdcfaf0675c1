# SPDX-License-Identifier: Apache-2.0
"""Weights at a fixed scale: integers as numpy rounds and cuts them, the same function as floats of these values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bitward.datasets import load_dataset
from bitward.errors import ModelError
from bitward.qonnx_ops.execute import execute_images
from bitward.rewrites import FixedScale, InsertMsbVoter, find_layers, load_model, read_weights
from bitward.rewrites.harden import prepare

MODEL = Path(__file__).resolve().parents[2] / "onnx_models" / "digits_cnn.onnx"


@pytest.mark.parametrize("scale", [2.0**-6, 2.0**-3, 0.5])
def test_weights_are_the_nearest_words_at_that_scale(scale: float) -> None:
    model = prepare(load_model(MODEL))
    floats = {
        name: model.get_initializer(read_weights(model, layer).tensor) for name, layer in find_layers(model).items()
    }
    fixed = model.transform(FixedScale(scale))
    for name, layer in find_layers(fixed).items():
        found = read_weights(fixed, layer)
        wanted = np.clip(np.rint(floats[name].astype(np.float64) / scale), -8, 7)
        assert np.array_equal(found.integers, wanted) and found.scale.shape == () and float(found.scale) == scale
    assert any(np.abs(read_weights(fixed, layer).integers).max() < 7 for layer in find_layers(fixed).values()) == (
        scale > 0.1
    )


def test_a_coarser_scale_costs_accuracy_and_a_fine_one_none() -> None:
    """The control: at 2^-3 four bits hold the weights of this network, at 1 most of them are 0."""
    data = load_dataset("digits")
    rights = []
    for scale in (None, 2.0**-4, 1.0):
        model = prepare(load_model(MODEL))
        model = model if scale is None else model.transform(FixedScale(scale))
        found = execute_images(model, data.test_images)
        rights.append(float((found.argmax(axis=1) == data.test_labels).mean()))
    assert rights[1] > rights[0] - 0.1 and rights[2] < 0.5


def test_no_scale_and_voted_weights_are_refused() -> None:
    with pytest.raises(ModelError, match=r"^scale must be above 0, got 0: "):
        FixedScale(0.0)
    voted = prepare(load_model(MODEL)).transform(InsertMsbVoter(None, 1))
    with pytest.raises(ModelError, match=r"must have weights behind a Quant node, got a voter"):
        voted.transform(FixedScale(0.5))
