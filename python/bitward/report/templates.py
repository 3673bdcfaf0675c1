# SPDX-License-Identifier: Apache-2.0
"""The files that pages are made of: templates, style and script, beside this one."""

from __future__ import annotations

from pathlib import Path

import jinja2

from bitward.report import figures
from bitward.report.load import Missing

FOLDER = Path(__file__).parent


def template(name: str) -> jinja2.Template:
    """A template with the filters of pages; what it is given is text, never HTML, and must be there."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    for filter_ in (figures.breakable, figures.capitalised, figures.number, figures.percent):
        environment.filters[filter_.__name__] = filter_
    environment.tests["missing"] = lambda value: isinstance(value, Missing)
    return environment.get_template(name)


def text_of(name: str) -> str:
    """A style or a script, as it is."""
    return (FOLDER / name).read_text(encoding="utf-8")
