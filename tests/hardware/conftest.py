# SPDX-License-Identifier: Apache-2.0
"""What tests of hardware share; this folder's modules (rtl_bench, node_bench, ...) can be imported below it."""

from __future__ import annotations

from pathlib import Path

import pytest
from rtl_bench import compile_runtime


@pytest.fixture(scope="session")
def verilated_runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Verilator's run-time library as one object file, compiled once."""
    return compile_runtime(tmp_path_factory.mktemp("verilated"))
