# SPDX-License-Identifier: Apache-2.0
"""Flows by name: what comes with bitward is found from anywhere, a file of one's own goes before it."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete

from bitward.cli import main
from bitward.cli._flow import FlowFile
from bitward.cli._main import root


def _path(given: str) -> Path:
    return FlowFile().convert(given, None, None)


def test_names_are_of_shipped_flows(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert _path("digits") == repository / "flows" / "digits.yaml"
    assert _path("fortune/vgg11-p3") == repository / "flows" / "fortune" / "vgg11-p3.yaml"


def test_a_file_goes_before_a_name_and_what_is_neither_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").write_text("network: digits_mlp\n")
    assert _path("digits") == Path("digits")
    assert _path("flows/digits.yaml") == Path("flows/digits.yaml")
    assert _path("frobnicate") == Path("frobnicate")


def test_an_unknown_name_is_told_as_a_missing_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "frobnicate", "--runs", str(tmp_path)]) == 1
    assert "the flow frobnicate must be a readable YAML file" in capsys.readouterr().err


def test_shells_complete_names_and_commands() -> None:
    completion = ShellComplete(root, {}, "bitward", "_BITWARD_COMPLETE")
    assert [item.value for item in completion.get_completions(["run"], "dig")] == ["digits", "digits-mlp", "digits-ptq",
                                                                                   "dig"]  # fmt: skip
    assert "inject" in [item.value for item in completion.get_completions([], "inj")]
    assert isinstance(root, click.Group)
