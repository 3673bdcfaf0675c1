# SPDX-License-Identifier: Apache-2.0
"""The floors of the house: imports go down only, inside functions too; the lowest floors need numpy alone."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomllib

PACKAGE = Path(__file__).resolve().parents[1] / "python" / "bitward"

PROJECT = tomllib.loads((PACKAGE.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["bitward"]
FLOORS: list[list[str]] = PROJECT["floors"]  # lowest first; drawn there, once for all
HEIGHT = {name: height for height, floor in enumerate(FLOORS) for name in floor}
ON_THE_BOARD = {name for floor in FLOORS[: PROJECT["floors-on-the-board"]] for name in floor}
LIGHT_BASE = {"numpy", "click", "pydantic", "pydantic_core", "yaml", "rich"}
FILES = sorted(PACKAGE.rglob("*.py"))


def _top(path: Path) -> str:
    """The child of bitward that a file belongs to."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def _imported(path: Path) -> Iterator[tuple[str, bool]]:
    """Every absolute module name that a file imports, at any depth, and whether it is imported when the file is."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test).endswith("TYPE_CHECKING")
        for node in ast.walk(block)
    }
    at_once = set(_outside_functions(tree)) - typing_only
    package = path.relative_to(PACKAGE.parent).with_suffix("").parts[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node in at_once
        elif isinstance(node, ast.ImportFrom):
            stem = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*stem, *([node.module] if node.module else [])))
            names = [f"{module}.{alias.name}" for alias in node.names] if module == "bitward" else [module]
            for name in names:
                yield name, node in at_once


def _outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        yield child
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield from _outside_functions(child)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_only(path):
    here = _top(path)
    assert here in HEIGHT, f"draw the floor of {here} in pyproject.toml"
    for name, _ in _imported(path):
        parts = name.split(".")
        if parts[0] == "bitward" and len(parts) > 1:
            there = parts[1]
            if there in HEIGHT:  # else a name of bitward/__init__.py itself, such as __version__
                assert HEIGHT[there] <= HEIGHT[here], f"{path} ({here}) imports {name}, from a floor above"


@pytest.mark.parametrize(
    "path", [path for path in FILES if _top(path) in ON_THE_BOARD], ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_the_lowest_floors_need_numpy_alone(path):
    tops = {name.split(".")[0] for name, _ in _imported(path)}
    assert tops - sys.stdlib_module_names <= {"numpy", "bitward"}


@pytest.mark.parametrize(
    "path", [path for path in FILES if _top(path) == "engine"], ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_the_engine_shares_nothing_with_finn_or_the_simulator(path):
    tops = {name.split(".")[0] for name, _ in _imported(path)}
    assert not tops & {"finn", "qonnx", "onnxruntime", "bitward_virtual"}


@pytest.mark.parametrize(
    "path", [path for path in FILES if _top(path) in ("cli", "doctor")], ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_the_command_line_starts_light(path):
    tops = {name.split(".")[0] for name, at_once in _imported(path) if at_once}
    assert tops - sys.stdlib_module_names <= LIGHT_BASE | {"bitward"}


def _asks_the_machine(path: Path) -> Iterator[str]:
    """Places that start a process or read the environment."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    banned = {"environ", "environb", "getenv", "putenv", "unsetenv", "system", "popen", "fork", "posix_spawn"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            used = f"{node.value.id}.{node.attr}"
            if node.value.id == "os" and (node.attr in banned or node.attr.startswith(("exec", "spawn"))):
                yield used
            if used == "shutil.which":
                yield used
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("subprocess."):
            yield ast.unparse(node.func)  # its types and exceptions may be named
        if isinstance(node, ast.ImportFrom) and node.module in ("os", "shutil", "subprocess"):
            yield from (f"{node.module}.{a.name}" for a in node.names if a.name in banned | {"which", "run", "Popen"})


@pytest.mark.parametrize(
    "path", [path for path in FILES if _top(path) != "tools"], ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_only_tools_starts_processes_and_reads_the_environment(path):
    assert list(_asks_the_machine(path)) == []


def test_this_test_sees_what_it_looks_for():
    """Negative control: tools itself does all that is forbidden elsewhere."""
    assert {"subprocess.Popen", "os.environ", "shutil.which"} <= set(_asks_the_machine(PACKAGE / "tools.py"))


def test_every_source_file_names_its_licence(repository):
    roots = ("python", "board", "tests", "hls", "flows")
    files = [p for root in roots for p in (repository / root).rglob("*") if p.suffix in (".py", ".sv", ".cpp", ".h")]
    generated = ("_pb2.py", "_pb2_grpc.py")
    missing = [
        str(p.relative_to(repository))
        for p in files
        if not p.name.endswith(generated)
        and "SPDX-License-Identifier: Apache-2.0" not in p.read_text().partition("\n")[0]
    ]
    assert missing == []
