# SPDX-License-Identifier: Apache-2.0
"""What is installed from a wheel works outside the checkout: RTL, boards, flows and models travel with it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from shared_runs import ROOT

PARTS = ("pyproject.toml", "setup.py", "MANIFEST.in", "LICENSE", "README.md", "python", "board", "hls", "flows",
         "onnx_models", "docs")  # fmt: skip


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout: builders leave folders beside what they build."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in PARTS:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(path, folder / name)
    return folder


def _built(source: Path, kind: str, out: Path) -> Path:
    script = f"from setuptools.build_meta import build_{kind}; print(build_{kind}({str(out)!r}))"
    done = subprocess.run([sys.executable, "-c", script], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return out / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def installed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, unpacked as pip would; its dependencies are this environment's."""
    out = tmp_path_factory.mktemp("wheel")
    with zipfile.ZipFile(_built(source, "wheel", out)) as wheel:
        wheel.extractall(out / "site")
    return out / "site"


def _bitward(installed: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"}
    words = [sys.executable, "-m", "bitward", *arguments]
    return subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True)


def test_the_installed_package_is_the_one_that_runs(installed: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"}
    script = "import bitward.tools as t; print(t.__file__); print(t.resource('hls/rtl')); print(t.resource('flows'))"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert all(line.startswith(str(installed)) for line in done.stdout.splitlines()) and done.stdout.count("\n") == 3


def test_a_model_is_built_into_rtl_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    model = installed / "bitward" / "_files" / "onnx_models" / "digits_mlp.onnx"
    done = _bitward(installed, tmp_path, "build", str(model), "--out", "out", "--protect", "msb", "--no-simulate")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "rtl" / "bitward_voter.sv").is_file()
    assert str(ROOT) not in (tmp_path / "out" / "build.json").read_text()


def test_boards_and_their_tcl_come_along(installed: Path) -> None:
    files = installed / "bitward" / "_files"
    for name in ("board/kv260/build.tcl", "board/kv260/board.yaml", "board/virtual/board.yaml", "flows/digits.yaml",
                 "board/notebooks/1_load_and_run.ipynb", "hls/src/harness.cpp"):  # fmt: skip
        assert (files / name).read_bytes() == (ROOT / name).read_bytes()


def test_an_sdist_has_all_that_a_wheel_is_built_from(source: Path, tmp_path: Path) -> None:
    with tarfile.open(_built(source, "sdist", tmp_path)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"hls/rtl/bitward_voter.sv", "board/kv260/build.tcl", "flows/digits.yaml", "setup.py",
            "python/bitward/report/page.html", "onnx_models/digits_cnn.onnx"} <= names  # fmt: skip
