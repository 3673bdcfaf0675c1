# SPDX-License-Identifier: Apache-2.0
"""What is installed from a wheel works outside the checkout: RTL, boards, flows and models travel with it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from archives import built, copy_checkout, members
from shared_runs import ROOT

import bitward


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout."""
    return copy_checkout(tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="module")
def installed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, unpacked as pip would; its dependencies are this environment's."""
    out = tmp_path_factory.mktemp("wheel")
    with zipfile.ZipFile(built(source, out)) as wheel:
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


def test_it_says_its_version_from_one_place(installed: Path, tmp_path: Path) -> None:
    assert _bitward(installed, tmp_path, "--version").stdout == f"bitward {bitward.__version__}\n"
    (found,) = installed.glob("bitward-*.dist-info")
    assert found.name == f"bitward-{bitward.__version__}.dist-info"
    text = "".join((ROOT / name).read_text() for name in ("pyproject.toml", "setup.py", "board/pyproject.toml"))
    assert f'"{bitward.__version__}"' not in text


def test_the_doctor_finds_nothing_missing_where_no_checkout_is(installed: Path, tmp_path: Path) -> None:
    done = _bitward(installed, tmp_path, "doctor", "--json")
    assert done.returncode == 0, done.stdout
    assert "make setup" not in done.stdout


def test_without_its_extras_the_doctor_says_how_to_get_them(installed: Path, tmp_path: Path) -> None:
    script = "import bitward.doctor as doctor; print(doctor.SETUP)"
    environment = {**os.environ, "PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"}
    said = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    pins = re.findall(r"^(?:FINN|HLS) *:= (\S+)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert len(pins) == 2 and all(pin in said.stdout for pin in pins), said


def test_shipped_models_go_by_name(installed: Path, tmp_path: Path) -> None:
    done = _bitward(installed, tmp_path, "check", "digits_mlp")
    assert done.returncode == 0 and "every layer can be hardened and built" in done.stdout, done.stderr


def test_a_flow_runs_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    """From a shipped model, as far as what needs no minutes; the whole flow is the shared runs'."""
    model = installed / "bitward" / "_files" / "onnx_models" / "digits_mlp.onnx"
    (tmp_path / "mine.yaml").write_text(f"network: digits_mlp\nmodel: {model}\ndataset: digits\n")
    done = _bitward(installed, tmp_path, "run", "mine.yaml", "--to", "harden")
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "runs" / "mine" / "models").glob("*-hardened.onnx"))) == 1


def test_an_sdist_is_a_checkout_and_gives_the_same_wheel(source: Path, installed: Path, tmp_path: Path) -> None:
    with tarfile.open(built(source, tmp_path, "sdist")) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = (path for path in tmp_path.iterdir() if path.is_dir())
    for path in source.rglob("*"):
        name = path.relative_to(source)
        if path.is_file() and name.parts[0] not in ("build", "bitward.egg-info"):
            assert (unpacked / name).is_file() or name == Path("docs/commands.md"), name
    (tmp_path / "wheel").mkdir()
    again = members(built(unpacked, tmp_path / "wheel"))
    first = {str(path.relative_to(installed)): path.read_bytes() for path in installed.rglob("*") if path.is_file()}
    assert again.keys() == {name for name in first if not name.endswith(".pyc")}
    assert all(first[name] == data for name, data in again.items())


def test_modules_that_are_no_more_are_not_carried_along(source: Path, tmp_path: Path) -> None:
    (source / "build" / "lib" / "bitward").mkdir(parents=True, exist_ok=True)
    (source / "build" / "lib" / "bitward" / "gone.py").write_text("")
    names = members(built(source, tmp_path))
    assert "bitward/gone.py" not in names and "bitward/words.py" in names
