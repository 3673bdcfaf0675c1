# SPDX-License-Identifier: Apache-2.0
"""bitward-board: a small wheel that is installed with numpy, grpcio and protobuf alone, and serves there."""

from __future__ import annotations

import ast
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_board_python
import tomllib
from archives import build, built, copy_checkout, members
from bitward_runtime import serve
from shared_runs import ROOT
from small_design import ELEMENTS, make_small_build

import bitward
from bitward.errors import ConfigError

HERE = Path(__file__).parent
LIMIT_KB = 300
NEEDS = ("numpy", "grpcio", "protobuf")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout, with an overlay that is to go along."""
    folder = copy_checkout(tmp_path_factory.mktemp("checkout"))
    for path in (make_small_build(folder / "build") / "overlay").iterdir():
        shutil.copy2(path, folder / "board" / "overlays" / f"mine{path.suffix}")
    return folder


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    before = {path for path in source.rglob("*") if "build" not in path.relative_to(source).parts}
    found = built(source / "board", tmp_path_factory.mktemp("wheel"))
    after = {path for path in source.rglob("*") if "build" not in path.relative_to(source).parts}
    assert after == before, "the build leaves nothing beside what it builds"
    return found


@pytest.fixture(scope="module")
def board(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment's Python: numpy, grpcio and protobuf are there, and what pip installed of the wheel; no more."""
    folder = tmp_path_factory.mktemp("board") / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    site = folder / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    for name in NEEDS:
        found = metadata.distribution(name)
        tops = {path.parts[0] for path in found.files or () if path.parts[0] not in ("..", "__pycache__")}
        for top in tops:
            if not (site / top).exists():
                (site / top).symlink_to(found.locate_file(top))
    python = folder / "bin" / "python"
    # Dependencies are looked at, and an index is not: pip fails where the wheel asks for more than these three.
    command = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-index", wheel]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return python


def on(board: Path, *words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([board, *words], cwd=cwd, env=clean(), capture_output=True, text=True)


def clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def test_it_is_small_and_has_what_a_board_needs(wheel):
    found = members(wheel)
    assert wheel.stat().st_size < LIMIT_KB * 1000
    lowest = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["bitward"]["floors"][:3]
    tops = {Path(name).parts[1].removesuffix(".py") for name in found if name.startswith("bitward/")}
    assert {name for floor in lowest for name in floor} <= tops
    assert {test_board_python.name_of(path) for path in test_board_python.ON_THE_BOARD} <= modules(found)
    assert {f"bitward_runtime/notebooks/{path.name}" for path in (ROOT / "board/notebooks").glob("*.ipynb")} <= set(
        found
    )
    assert {"bitward_runtime/overlays/mine.bit", "bitward_runtime/overlays/mine.hwh"} <= set(found)
    assert "bitward/_files/board/kv260/board.yaml" in found and "bitward_runtime/LICENSE" in found


def test_it_has_none_of_what_a_board_cannot_run(wheel):
    """Negative control of the closure: neither commands, nor training, nor the simulator come along."""
    found = modules(members(wheel))
    assert not {"bitward.cli", "bitward.train", "bitward.flow", "bitward.hardware.build", "bitward.doctor"} & found


def modules(found: dict[str, bytes]) -> set[str]:
    names = (name.removesuffix(".py").replace("/", ".") for name in found if name.endswith(".py"))
    return {name.removesuffix(".__init__") for name in names}


def test_its_metadata(wheel):
    found = members(wheel)
    (text,) = (data.decode() for name, data in found.items() if name.endswith("dist-info/METADATA"))
    lines = text.partition("\n\n")[0].splitlines()
    needs = sorted(line for line in lines if line.startswith("Requires-Dist"))
    assert [line.split()[1].split("=")[0].split(">")[0].split("<")[0] for line in needs] == sorted(NEEDS)
    assert "Requires-Python: >=3.10" in lines and f"Version: {bitward.__version__}" in lines
    assert "Name: bitward-board" in lines


def test_every_module_of_it_is_python_3_10(wheel):
    for name, data in members(wheel).items():
        if name.endswith(".py") and "_pb2" not in name:
            assert test_board_python.too_new(data.decode()) == [], name


def test_every_module_imports_with_numpy_grpcio_and_protobuf_alone(board, wheel, tmp_path):
    names = sorted(modules(members(wheel)) - {"bitward_runtime.client", "bitward_runtime.agent"})  # they need pynq 4
    script = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)\nprint(len(sys.argv) - 1)"
    done = on(board, "-c", script, *names, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 80
    listed = on(board, "-c", "import bitward, bitward_runtime; print(bitward.__file__)", cwd=tmp_path).stdout
    assert str(board.parents[1]) in listed


def test_the_server_says_what_it_takes_and_what_is_missing(board, tmp_path):
    script = board.with_name("bitward-serve")
    done = subprocess.run([script, "--help"], cwd=tmp_path, env=clean(), capture_output=True, text=True)
    assert done.returncode == 0 and "--overlays DIR" in done.stdout
    done = on(board, "-m", "bitward_runtime.serve", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("pynq must be there to serve this board, got No module named 'pynq'; ")


SERVES = """
import sys
from pathlib import Path
sys.path.append(sys.argv[1])
import fake_pynq
from small_design import Broken, SmallDesign
machine = fake_pynq.Machine(lambda: SmallDesign(Path(sys.argv[2]), Broken()))
sys.modules["pynq"] = fake_pynq.make(machine)
from bitward_runtime import kria, serve
kria.local_files = lambda: machine.read_file
sys.exit(serve.main(["--port", "0"]))
"""
ASKS = """
import sys
import numpy as np
from bitward_runtime.notebook import connect
with connect(sys.argv[1], "127.0.0.1", int(sys.argv[2])) as board:
    print(board.name, board.infer(np.array([[1, 2, 3, 4]])).tolist(), board.is_simulated)
"""


def test_a_notebook_on_the_board_reaches_the_server_beside_it(board, tmp_path):
    """Both processes run in the board's environment; pynq is the stand-in."""
    build = make_small_build(tmp_path / "build")
    with subprocess.Popen(
        [board, "-c", SERVES, HERE, build], cwd=tmp_path, env=clean(), stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            said = server.stdout.readline()  # type: ignore[union-attr]
            assert "its programmable logic on 127.0.0.1:" in said
            done = on(board, "-c", ASKS, build, said.split(",")[0].rpartition(":")[2], cwd=tmp_path)
            assert done.returncode == 0, done.stderr
        finally:
            server.send_signal(signal.SIGINT)
    assert server.returncode == 0
    assert done.stdout.split(" [[")[0] == "ZynqMP SMK-K26 Rev1/B/A" and done.stdout.split()[-1] == "False"
    outputs = np.array(ast.literal_eval(done.stdout.partition(" ")[2].partition("Rev1/B/A ")[2].rpartition(" ")[0]))
    assert (np.diff(outputs) % 256 == 1).all() and outputs.shape == (1, ELEMENTS)  # the design adds one sum to all


ENTRIES = """
import pynqutils.setup_utils as setup
for group in ("pynq.notebooks", "pynq.overlays"):
    for path in setup.ExtensionsManager(group).paths: print(group, path)
"""


def test_pynq_finds_its_notebooks_and_overlays(board, tmp_path):
    """By pynq's own code, from the client's environment."""
    from bitward import tools

    python = tools.board_python()
    if python is None:
        pytest.skip("needs the PYNQ client's environment, .venv-board (make setup)")
    (site,) = board.parents[1].glob("lib/python*/site-packages")
    only = tmp_path / "only"  # without the symlinks: that numpy is not this Python's
    only.mkdir()
    for path in site.iterdir():
        if path.name.startswith("bitward"):
            (only / path.name).symlink_to(path)
    done = subprocess.run(
        [python, "-W", "ignore", "-c", ENTRIES], cwd=tmp_path, env={**clean(), "PYTHONPATH": str(only)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = dict(line.split(" ", 1) for line in done.stdout.splitlines() if "bitward" in line)
    assert len(list(Path(found["pynq.notebooks"]).glob("*.ipynb"))) == 5
    assert (Path(found["pynq.overlays"]) / "mine.hwh").is_file()


def test_both_wheels_have_the_same_files_where_both_have_them(source, wheel, tmp_path):
    """So either order of installing gives the same, and the small one adds notebooks, overlays and a licence alone."""
    big, small = members(built(source, tmp_path)), members(wheel)
    shared = big.keys() & small.keys()
    assert len(shared) > 80 and all(big[name] == small[name] for name in shared)
    own = {name for name in small.keys() - shared if ".dist-info/" not in name}
    assert all(
        name.startswith(("bitward_runtime/notebooks/", "bitward_runtime/overlays/", "bitward_runtime/LICENSE"))
        for name in own
    )


def test_two_versions_beside_each_other_are_refused(monkeypatch: pytest.MonkeyPatch):
    found = {"bitward": "0.1.0", "bitward-board": "0.1.0"}

    def version(name: str) -> str:
        if name not in found:
            raise metadata.PackageNotFoundError(name)
        return found[name]

    monkeypatch.setattr(serve, "version", version)
    serve.check_versions()
    del found["bitward"]
    serve.check_versions()
    found["bitward"] = "0.2.0"
    with pytest.raises(
        ConfigError, match=r"^bitward and bitward-board must be of one version where both are installed, as they share "
        r"modules, got 0\.2\.0 and 0\.1\.0: uninstall both, then install one\.$"
    ):  # fmt: skip
        serve.check_versions()


def test_overlays_that_came_along_are_served(tmp_path, monkeypatch: pytest.MonkeyPatch):
    assert serve.travelled_overlays() == []
    (tmp_path / "overlays").mkdir()
    monkeypatch.setattr(serve, "__file__", str(tmp_path / "serve.py"))
    assert serve.travelled_overlays() == [tmp_path / "overlays"]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("sdist", "bitward-board must be built as a wheel, got sdist: run make board-wheel in a checkout."),
        ("editable", "bitward-board must be built as a wheel, got an editable install: install the checkout itself."),
    ],
)
def test_other_archives_are_refused(source: Path, tmp_path: Path, kind: str, message: str):
    done = build(source / "board", tmp_path, kind)
    assert done.returncode != 0 and message in done.stderr


def test_half_a_checkout_is_refused(source: Path, tmp_path: Path):
    for name in ("board", "python", "pyproject.toml"):
        copy: Any = shutil.copytree if (source / name).is_dir() else shutil.copy2
        copy(source / name, tmp_path / name)
    (tmp_path / "python" / "bitward" / "words.py").unlink()
    done = build(tmp_path / "board", tmp_path, "wheel")
    assert "bitward.words must be a module of this checkout, got no such file: build from a" in done.stderr


def test_make_builds_it_without_an_index():
    done = subprocess.run(["make", "board-wheel", "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-2:] == [
        ".venv/bin/python -m pip wheel -q --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir build "
        "./board",
        "ls build/bitward_board-*.whl",
    ]
