# SPDX-License-Identifier: Apache-2.0
"""The documentation: it builds without a warning, its Python runs, and its commands are spelled as the program does."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from shared_runs import ROOT

from bitward.cli import main
from bitward.cli._main import root

DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if path.name != "commands.md")


def _blocks(path: Path, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}[^\n]*\n(.*?)^```", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def _commands() -> list[str]:
    """Every bitward command of the pages, in sh and console blocks and between backticks."""
    found = []
    for page in PAGES:
        lines = [line for kind in ("sh", "console") for block in _blocks(page, kind) for line in block.splitlines()]
        lines += re.findall(r"`(bitward [a-z-]+ [^`]+)`", page.read_text(encoding="utf-8"))
        found += [line.removeprefix("$ ").removeprefix(".venv/bin/") for line in lines]
    return sorted({line.split("  #")[0].strip() for line in found if line.startswith("bitward ")})


@pytest.mark.parametrize("page", [page for page in PAGES if _blocks(page, "python")], ids=lambda path: path.stem)
def test_python_in_the_pages_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    script = "\n".join(_blocks(page, "python"))
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("line", _commands())
def test_commands_in_the_pages_are_spelled_right(line: str) -> None:
    words = shlex.split(line)
    if words[1].isupper():
        return  # bitward COMMAND --help
    command = root.get_command(click.Context(root), words[1])
    assert command is not None, f"there is no bitward {words[1]}"
    known = {option for each in command.params for option in (*each.opts, *each.secondary_opts)} | {"--help", "-h"}
    used = {word.split("=")[0] for word in words[2:] if word.startswith("-")}
    assert used <= known


def test_the_pages_have_commands() -> None:
    assert len(_commands()) > 5


def test_the_tutorial_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """Its network, its import and its check; the flow that is left is run whole by tests of imported networks."""
    monkeypatch.chdir(tmp_path)
    tutorial = DOCS / "tutorial.md"
    (tmp_path / "mine.py").write_text(_blocks(tutorial, "python")[0])
    steps = [line for block in _blocks(tutorial, "sh") for line in block.splitlines()]
    assert [shlex.split(step)[1] for step in steps] == ["import", "check"]
    for step in steps:
        assert main(shlex.split(step)[1:]) == 0
    said = capsys.readouterr().out
    right = re.search(r"(\d+\.\d+)% right on the test images", said)
    assert right is not None and float(right[1]) > 90
    assert (tmp_path / "mine" / "mine.yaml").is_file() and "every layer can be hardened and built" in said


def test_every_option_says_what_it_is() -> None:
    context = click.Context(root)
    for name in root.list_commands(context):
        command = root.get_command(context, name)
        assert command is not None
        for option in command.params:
            if isinstance(option, click.Option) and not option.hidden:
                assert option.help, f"bitward {name} {option.opts[0]} has no help"


def test_the_documentation_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("sphinx")
    script = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-b",
        "html",
        str(DOCS),
        str(tmp_path / "html"),
    ]
    done = subprocess.run([*script, "-d", str(tmp_path / "trees")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    page = (tmp_path / "html" / "commands.html").read_text(encoding="utf-8")
    assert all(f"bitward {name}" in page for name in root.list_commands(click.Context(root)))
    assert "Fault" in (tmp_path / "html" / "reference.html").read_text(encoding="utf-8")
