# SPDX-License-Identifier: Apache-2.0
"""What runs on the board keeps to its Python and numpy: Kria-PYNQ has Python 3.10 and numpy 1, the host numpy 2."""

from __future__ import annotations

import ast
import re
import shutil
import sys
from pathlib import Path

import pytest

from bitward import tools
from bitward.errors import ToolError

ROOT = tools.REPOSITORY
PACKAGES = {"bitward": ROOT / "python" / "bitward", "bitward_runtime": ROOT / "board" / "runtime"}
RUNTIME = sorted(
    path for path in PACKAGES["bitward_runtime"].rglob("*.py") if path.name != "generate.py" and "_pb2" not in path.name
)
FLOORS = (  # the lowest three (tests/test_floors.py), which need numpy alone
    "errors", "words", "records", "registry", "formats", "schemes", "layout", "tools", "manifest", "memory", "indexmap",
    "streams", "faults", "metrics",
)  # fmt: skip
# Names of the standard library that Python 3.10 lacks (What's New in 3.11, 3.12, 3.13), as modules or module.name.
NEWER = {
    "tomllib", "asyncio.TaskGroup", "asyncio.timeout", "contextlib.chdir", "copy.replace", "datetime.UTC",
    "enum.StrEnum", "enum.verify", "hashlib.file_digest", "inspect.getmembers_static", "itertools.batched", "math.cbrt",
    "math.exp2", "operator.call", "typing.LiteralString", "typing.Never", "typing.NotRequired", "typing.Required",
    "typing.Self", "typing.TypeVarTuple", "typing.Unpack", "typing.assert_never", "typing.assert_type",
    "typing.dataclass_transform", "typing.override", "typing.reveal_type",
}  # fmt: skip
NEWER_BUILTINS = {"ExceptionGroup", "BaseExceptionGroup", "PythonFinalizationError"}


def source_of(module: str) -> Path | None:
    """The file of a module of ours; None for any other."""
    top, *rest = module.split(".")
    if top not in PACKAGES:
        return None
    path = PACKAGES[top].joinpath(*rest)
    return next((each for each in (path.with_suffix(".py"), path / "__init__.py") if each.is_file()), None)


def name_of(path: Path) -> str:
    top = next(name for name, folder in PACKAGES.items() if path.is_relative_to(folder))
    parts = path.relative_to(PACKAGES[top]).with_suffix("").parts
    return ".".join((top, *(part for part in parts if part != "__init__")))


def imported(path: Path) -> set[Path]:
    """The files of ours that a file imports, relative imports included."""
    found: set[Path | None] = set()
    package = name_of(path).split(".")[: None if path.name == "__init__.py" else -1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {source_of(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            stem = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join((*stem, *([node.module] if node.module else [])))
            found |= {source_of(module), *(source_of(f"{module}.{alias.name}") for alias in node.names)}
    return {path for path in found if path is not None}


def closure(paths: list[Path]) -> list[Path]:
    """The files, and all of ours that they import, directly or not."""
    known: set[Path] = set()
    todo = set(paths)
    while todo:
        known |= todo
        todo = set().union(*(imported(path) for path in todo)) - known
    return sorted(known)


def too_new(text: str) -> list[str]:
    """What of a source Python 3.10 does not have; SyntaxError for syntax that it does not know."""
    tree = ast.parse(text, feature_version=(3, 10))
    used: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            used |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            used |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            used.add(f"{node.value.id}.{node.attr}")
        elif isinstance(node, ast.Name) and node.id in NEWER_BUILTINS:
            used.add(node.id)
    return sorted(used & (NEWER | NEWER_BUILTINS))


LOWEST = [path for name in FLOORS for path in (PACKAGES["bitward"] / name).rglob("*.py")]
LOWEST += [path for name in FLOORS if (path := PACKAGES["bitward"] / f"{name}.py").is_file()]
ON_THE_BOARD = closure([*RUNTIME, *LOWEST])


@pytest.mark.parametrize("path", ON_THE_BOARD, ids=name_of)
def test_a_file_is_python_3_10(path):
    assert too_new(path.read_text(encoding="utf-8")) == []


def test_what_the_runtime_imports_of_bitward_is_found():
    names = {name_of(path) for path in ON_THE_BOARD}
    assert {"bitward_runtime.server", "bitward_runtime.files"} <= names
    assert {name.split(".")[1] for name in names if name.startswith("bitward.")} >= set(FLOORS)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import tomllib", ["tomllib"]),
        ("from typing import Self", ["typing.Self"]),
        ("import enum\nclass A(enum.StrEnum): pass", ["enum.StrEnum"]),
        ("raise ExceptionGroup('', [])", ["ExceptionGroup"]),
        ("match 1:\n  case _: pass", []),
    ],
)
def test_newer_names_are_seen(text, found):
    """Negative control."""
    assert too_new(text) == found


@pytest.mark.parametrize("text", ["try: pass\nexcept* OSError: pass", "type A = int", "def f[T](a: T): pass"])
def test_newer_syntax_is_seen(text):
    """Negative control."""
    with pytest.raises(SyntaxError):
        too_new(text)


SCRIPT = """
import importlib, sys, numpy
for name in sys.argv[1:]: importlib.import_module(name)
print(numpy.__version__.split('.')[0])
"""


@pytest.mark.parametrize("numpy", ["1", "2"])
def test_every_module_imports_with_numpy(numpy):
    """numpy 1 in the PYNQ client's environment, numpy 2 here; the client itself needs pynq, which is in the first."""
    python = Path(sys.executable) if numpy == "2" else tools.board_python()
    if python is None:
        pytest.skip("needs the PYNQ client's environment, .venv-board (make setup)")
    names = [name_of(path) for path in ON_THE_BOARD]
    wanted = [name for name in names if numpy == "1" or name not in ("bitward_runtime.client", "bitward_runtime.agent")]
    assert tools.run([python, "-c", SCRIPT, *wanted]).stdout.split()[-1] == numpy


# ---- the board's own stack: Python 3.10, numpy 1.21 to 2, grpcio and protobuf ----------------------------------------

PYTHON = "python3.10"
COMMON = ("grpcio==1.64.0", "protobuf>=5.26,<6")  # protoc 26.1's output runs with these
SCAFFOLD = ("pytest>=9,<10", "hypothesis", "pydantic>=2,<3", "pyyaml")  # of the tests: fixtures, the overlay's writer
STACKS = {"numpy 1.21": "numpy==1.21.6", "numpy 1.26": "numpy==1.26.4", "numpy 2": "numpy>=2,<3"}
UNIT_TESTS = (
    "board/test_server.py", "board/test_extension.py", "board/test_kria.py", "board/test_lease.py",
    "board/test_power.py", "test_words.py", "test_formats.py", "test_schemes.py", "test_layout.py", "test_manifest.py",
    "test_memory.py", "test_indexmap.py", "test_faults.py", "test_streams.py", "test_records.py",
)  # fmt: skip


def interpreter() -> Path:
    """Python 3.10, on PATH or among pyenv's; skips where there is none that runs."""
    on_path = shutil.which(PYTHON)
    found = [Path(on_path)] if on_path else []
    found += sorted(Path.home().glob(f".pyenv/versions/3.10.*/bin/{PYTHON}"), reverse=True)
    for each in found:
        try:
            if tools.run([each, "--version"]).stdout.startswith("Python 3.10"):
                return each
        except ToolError:  # pyenv's own python3.10 fails where no version is chosen
            continue
    pytest.skip(f"needs {PYTHON}, which the board has, got none that runs on PATH or under ~/.pyenv")


def board_stack(name: str) -> Path:
    """The interpreter of an environment with that numpy, made once; skips where it cannot be made."""
    folder = ROOT / "build" / "tests" / name.replace(" ", "-")
    python = folder / "bin" / "python"
    if not (folder / "ready").is_file():
        tools.run([interpreter(), "-m", "venv", "--clear", folder])
        try:
            tools.run([python, "-m", "pip", "install", "--quiet", STACKS[name], *COMMON, *SCAFFOLD])
        except ToolError as error:
            pytest.skip(f"needs {name} for {PYTHON}, got none from the package index: {error}")
        (folder / "packages").mkdir()
        for top, where in {**PACKAGES, "bitward_virtual": ROOT / "board" / "virtual"}.items():
            (folder / "packages" / top).symlink_to(where)
        (folder / "ready").touch()
    return python


@pytest.mark.slow
@pytest.mark.parametrize("stack", STACKS)
def test_the_runtime_and_the_lowest_floors_pass_their_tests_on_the_boards_python(stack, tmp_path):
    python = board_stack(stack)
    environment = {"PYTHONPATH": str(python.parents[1] / "packages"), "PYTHONDONTWRITEBYTECODE": "1"}
    said = tools.run([python, "-c", SCRIPT, "bitward_runtime.serve"], env=environment).stdout
    assert said.split()[-1] == stack.split()[1].split(".")[0]
    tests = [Path("tests") / name for name in UNIT_TESTS]
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--basetemp", tmp_path / "tests", *tests]
    out = tools.run(command, cwd=ROOT, env=environment, log=tmp_path / "log").stdout
    assert re.search(r"^\d{4} passed", out, re.MULTILINE), out[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize("stack", STACKS)
def test_nothing_of_the_runtime_needs_more_than_numpy_and_grpcio(stack):
    """Not even what the tests need: everything else is out of reach while the modules are imported."""
    python = board_stack(stack)
    names = [name_of(path) for path in ON_THE_BOARD]
    wanted = [name for name in names if name not in ("bitward_runtime.client", "bitward_runtime.agent")]
    hidden = "import sys\nfor name in ('pydantic', 'yaml', 'pytest', 'hypothesis', 'click'): sys.modules[name] = None\n"
    environment = {"PYTHONPATH": str(python.parents[1] / "packages"), "PYTHONDONTWRITEBYTECODE": "1"}
    tools.run([python, "-c", hidden + SCRIPT, *wanted], env=environment)


@pytest.mark.slow
def test_the_boards_wheel_serves_on_the_boards_python(tmp_path):
    """As docs/guide/boards.md has it: make board-wheel here, pip install there; pip finds nothing missing."""
    python = board_stack("numpy 1.26")
    tools.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir",
               tmp_path, ROOT / "board"])  # fmt: skip
    (wheel,) = tmp_path.glob("bitward_board-*.whl")
    folder = tmp_path / "env"
    tools.run([python, "-m", "venv", "--system-site-packages", folder])
    own = folder / "bin" / "python"
    (site,) = python.parents[1].glob("lib/python3.10/site-packages")
    environment = {"PYTHONPATH": str(site)}  # of the stack
    tools.run([own, "-m", "pip", "install", "--quiet", "--no-index", wheel], env=environment)
    said = tools.run([own, "-m", "bitward_runtime.serve", "--help"], env=environment).stdout
    assert "--overlays DIR" in said
    with pytest.raises(ToolError, match=r"pynq must be there to serve this board, got No module named 'pynq'; as roo"):
        tools.run([folder / "bin" / "bitward-serve"], env=environment)


def test_the_guide_starts_the_server_as_it_is_started():
    text = (ROOT / "docs" / "guide" / "boards.md").read_text()
    written = re.search(r"^kria#   bitward-serve (--\S+) \.$", text, re.MULTILINE)
    assert written is not None and f'"{written[1]}"' in (PACKAGES["bitward_runtime"] / "serve.py").read_text()
