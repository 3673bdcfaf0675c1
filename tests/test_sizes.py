# SPDX-License-Identifier: Apache-2.0
"""A module is read in a sitting, about 400 lines, and a function on a screen, about 40: what is longer is cut."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from shared_runs import ROOT

LINES, FUNCTION_LINES = 420, 45
FOLDERS = ("python", "board", "benchmarks", "docs")


def modules() -> list[str]:
    found = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py") if not path.stem.endswith("_pb2")]
    return sorted(str(path.relative_to(ROOT)) for path in found)


def own_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring, which for a command is its help."""
    assert function.end_lineno is not None
    docstring = function.body[0] if ast.get_docstring(function) is not None else None
    told = 0 if docstring is None or docstring.end_lineno is None else docstring.end_lineno - docstring.lineno + 1
    return function.end_lineno - function.lineno + 1 - told


@pytest.mark.parametrize("name", modules())
def test_a_module_and_its_functions_are_short(name: str) -> None:
    text = Path(ROOT / name).read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LINES
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert {each.name: own_lines(each) for each in functions if own_lines(each) > FUNCTION_LINES} == {}
