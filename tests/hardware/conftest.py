# SPDX-License-Identifier: Apache-2.0
"""What tests of hardware share; this folder's modules (rtl_bench, node_bench, ...) can be imported below it."""

from __future__ import annotations

from pathlib import Path

import pytest
import small_networks
from rtl_bench import compile_runtime

from bitward.hardware.declare import BuildOptions, declare
from bitward.hardware.finn_session import finn_session
from bitward.hardware.lowering import Lowered, lower


@pytest.fixture(scope="session")
def verilated_runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Verilator's run-time library as one object file, compiled once."""
    return compile_runtime(tmp_path_factory.mktemp("verilated"))


@pytest.fixture(scope="module")
def lowered(tmp_path_factory: pytest.TempPathFactory) -> Lowered:
    """Two convolutions, unprotected, as FINN's graph before folding."""
    folder = tmp_path_factory.mktemp("lowered")
    network = small_networks.export(small_networks.two_convolutions(), folder / "model.onnx", seed=1)
    with finn_session(folder / "finn"):
        model, _ = declare(network.path, BuildOptions("none"))
        return lower(model)
