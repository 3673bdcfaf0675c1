# SPDX-License-Identifier: Apache-2.0
"""A network that was quantized without retraining is hardened and built, and bit-exact in RTL and on a board."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from bitward.datasets import load_dataset
from bitward.flow import load_flow
from bitward.qonnx_ops.execute import execute_images
from bitward.rewrites import load_model

BOARD_IMAGES = 100


@pytest.mark.slow
def test_a_network_quantized_after_training_is_bit_exact_on_the_virtual_board(repository, tmp_path):
    """As typed, from flows/digits-ptq.yaml, with one seed: every test image in RTL, the first hundred on the board."""
    flow = yaml.safe_load((repository / "flows" / "digits-ptq.yaml").read_text())
    assert load_flow(repository / "flows" / "digits-ptq.yaml").network == "digits_cnn_ptq"
    path = tmp_path / "ptq.yaml"
    path.write_text(yaml.safe_dump({**flow, "train": {"seeds": [0]}}))
    bitward("run", path, "--runs", tmp_path, "--to", "verify")
    stages = json.loads((tmp_path / "ptq" / "stages.json").read_text())
    accuracy = stages["export"]["result"]["accuracy"]
    assert accuracy >= 0.95
    for side in ("plain", "hardened"):
        found = stages["verify"]["result"][side]
        assert (found["equal"], found["equal_with_stalls"], found["accuracy"]) == (360, 360, accuracy)
    bit = Path(bitward("bitstream", path, "--board", "virtual", "--runs", tmp_path).splitlines()[-1])
    images = load_dataset("digits").test_images[:BOARD_IMAGES]
    np.save(tmp_path / "in.npy", images)
    bitward("infer", bit.parent.parent, tmp_path / "in.npy", tmp_path / "out.npy", "--on", "board")
    (model,) = (tmp_path / "ptq" / "models").glob("*hardened*.onnx")
    assert np.array_equal(np.load(tmp_path / "out.npy"), execute_images(load_model(model), images))


def bitward(*words):
    """What the command prints."""
    command = [sys.executable, "-m", "bitward", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
