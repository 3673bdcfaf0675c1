# SPDX-License-Identifier: Apache-2.0
"""What every test may use: the repository's root, fake tools on PATH, golden files, and one shared run of each flow."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from shared_runs import ROOT, SharedRun, shared_run


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write golden files anew instead of comparing")


def pytest_configure(config: pytest.Config) -> None:
    """Processes that tests start see a plain shell: not `make test` above them, and not a shell that ignores ctrl-C."""
    for name in ("MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS"):
        os.environ.pop(name, None)
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return ROOT


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Whether golden files are to be written anew."""
    return bool(request.config.getoption("--update-golden"))


@pytest.fixture
def fake_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """`fake_tool(name, body)` puts a shell script first on PATH; it logs its command lines to NAME.calls beside it."""
    folder = tmp_path / "fake-tools"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=":")

    def make(name: str, body: str = "exit 0") -> Path:
        tool = folder / name
        tool.write_text(f'#!/bin/sh\necho "$*" >> "{folder}/{name}.calls"\n{body}\n')
        tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
        return tool

    return make


@pytest.fixture(scope="session")
def digits_run() -> SharedRun:
    """flows/digits.yaml: the convolutional network, one of its memories of DEPTH = 1."""
    return shared_run("digits")


@pytest.fixture(scope="session")
def mlp_run() -> SharedRun:
    """flows/digits-mlp.yaml: the multilayer perceptron, the quicker of the two."""
    return shared_run("digits-mlp")


@pytest.fixture(scope="module")
def one_thread():
    """Networks this small are computed quickest so, the more when other processes run."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
