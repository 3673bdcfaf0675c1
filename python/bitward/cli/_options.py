# SPDX-License-Identifier: Apache-2.0
"""How options look in a command's help: under titles where they are many, with short names for their values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

TITLE = "bitward_title"  # of an option: what it stands under in the help


class Titled(click.Command):
    """A command whose help has its options under the titles that `titled` gave them; the others come first."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The options, title by title in the order of their first options."""
        groups: dict[str, list[tuple[str, str]]] = {"Options": []}
        for option in self.get_params(ctx):
            row = option.get_help_record(ctx) if isinstance(option, click.Option) else None
            if row is not None:
                groups.setdefault(getattr(option, TITLE, "Options"), []).append(row)
        for title, rows in groups.items():
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


def titled(title: str, *options: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a command, in their order, under a title of its help (the command's class is `Titled`)."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
            setattr(function.__click_params__[-1], TITLE, title)  # type: ignore[attr-defined]
        return function

    return decorate


def with_metavars(command: click.Command) -> click.Command:
    """The command, with N for whole numbers and X for others in its help, where an option names its value no better."""
    for option in command.params:
        if isinstance(option, click.Option) and option.metavar is None and not option.is_flag:
            if isinstance(option.type, click.types.IntParamType):
                option.metavar = "N"
            elif isinstance(option.type, click.types.FloatParamType):
                option.metavar = "X"
    return command
