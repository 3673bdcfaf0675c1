# SPDX-License-Identifier: Apache-2.0
"""`make lint` is green: style, format and types."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "arguments", [("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",)], ids=lambda a: " ".join(a)
)
def test_lint_is_green(repository, arguments):
    done = subprocess.run([sys.executable, "-m", *arguments], cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def test_make_lint_runs_the_same(repository):
    recipe = (repository / "Makefile").read_text()
    for command in ("ruff check .", "ruff format --check .", "mypy"):
        assert command in recipe
