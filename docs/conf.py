# SPDX-License-Identifier: Apache-2.0
"""Sphinx, with MyST for Markdown. `make docs` builds build/docs; warnings are errors."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from bitward import __version__
from bitward.cli._main import root

sys.path.insert(0, str(Path(__file__).parent))
import draw  # noqa: E402  the architecture page, from the code

project = "bitward"
author = "the bitward authors"
copyright = "the bitward authors, Apache-2.0"  # noqa: A001  Sphinx' own name
release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_class_signature = "separated"
suppress_warnings = ["myst.header", "myst.xref_missing"]  # results.md is written for the repository, not for here

html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_theme = "furo"
html_title = f"bitward {release}"


def help_of(name: str, command: click.Command) -> str:
    """A command's help as Markdown: what it does, how it is called, and every option."""
    context = click.Context(command, info_name=f"bitward {name}")
    lines = [f"## bitward {name}", "", "```text", command.get_help(context), "```", ""]
    return "\n".join(lines)


def write_commands(folder: Path) -> None:
    """commands.md is the help of every command, as the program prints it."""
    context = click.Context(root, info_name="bitward")
    pages = [help_of(name, root.get_command(context, name)) for name in root.list_commands(context)]
    text = "# Commands\n\nAs `bitward COMMAND --help` prints them.\n\n" + "\n".join(pages)
    path = folder / "commands.md"
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


write_commands(Path(__file__).parent)
draw.main()


def as_text(app: object, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Docstrings are plain sentences and indented code: a star or a bar in a sentence is itself, no markup."""
    made: list[str] = []
    for before, line in zip(["", *lines], lines, strict=False):
        if line.startswith("    "):
            if not before and not (made and made[-1].startswith("    ")):
                made += ["::", ""]
            made.append(line)
        else:
            is_code = line.lstrip().startswith((">>>", "..."))
            made.append(line if is_code else line.replace("*", "\\*").replace("|", "\\|"))
    lines[:] = made


def setup(app: object) -> None:
    """Sphinx calls this."""
    app.connect("autodoc-process-docstring", as_text)  # type: ignore[attr-defined]
