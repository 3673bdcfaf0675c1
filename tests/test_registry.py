# SPDX-License-Identifier: Apache-2.0
"""Registries find their entries by file name, without importing them."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from bitward.errors import ConfigError
from bitward.registry import Registry


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """A package with entries red and green, and a private module that must not count."""
    package = tmp_path / "paints"
    package.mkdir()
    entries = {"__init__": "", "_mix": "", "red": "VALUE = 1", "green": "raise RuntimeError('imported')"}
    for name, text in entries.items():
        Path(package, f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield Registry("paints", "paint")
    for name in [name for name in sys.modules if name.split(".")[0] == "paints"]:
        del sys.modules[name]


def test_names_are_file_names_and_nothing_is_imported(registry):
    assert registry.names() == ("green", "red")
    assert "paints.green" not in sys.modules


def test_an_entry_is_its_module(registry):
    assert registry.module("red").VALUE == 1


def test_an_unknown_entry_names_the_nearest(registry):
    message = "paint must be a known name, got 'reed'; did you mean 'red'?"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        registry.module("reed")
