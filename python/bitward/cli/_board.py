# SPDX-License-Identifier: Apache-2.0
"""The options that name a board, alike in every command that uses one."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from bitward.cli._options import titled

FILE = click.Path(path_type=Path, dir_okay=False)


class BoardKind(click.ParamType):
    """A kind of board: its own name, FINN's word for it or its part; the value is its own name."""

    name = "board"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The kind of board. Raises ConfigError for one that is not known."""
        from bitward.hardware.boards import board_kind

        return board_kind(str(value))

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list:
        """The names of boards."""
        from click.shell_completion import CompletionItem

        from bitward.hardware.boards import board_names

        return [CompletionItem(name) for name in board_names() if name.startswith(incomplete)]


ONE = "Board to use; without it a virtual board is started."
MANY = "Board to use; several share the trials. Without it a virtual board is started."


def board_options(many: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """--host, --port, --tls-ca and --token-file; the command is given them as one `Connection`, `connection`.

    With `many`, --host may be given several times, and the command is given `connections`, a tuple of at least one;
    port and credentials are those of all. ConfigError where the options do not fit each other.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def command(*args: Any, **given: Any) -> Any:
            from bitward_runtime.connection import connection_of

            hosts, rest = given.pop("host"), [given.pop(name) for name in ("port", "tls_ca", "token_file")]
            if many:
                named = [each for host in hosts for each in host.split(",")]
                given["connections"] = tuple(connection_of(host, *rest) for host in named or (None,))
            else:
                given["connection"] = connection_of(hosts, *rest)
            return function(*args, **given)

        decorated: Callable[..., Any] = titled("Board", *_options(many))(command)
        return decorated

    return decorate


def _options(many: bool) -> tuple[Callable[..., Any], ...]:
    return (
        click.option("--host", metavar="HOST[:PORT]", multiple=many, help=MANY if many else ONE),
        click.option("--port", type=click.IntRange(1, 65535), help="Port of the board's server (default: 7967)."),
        click.option("--tls-ca", type=FILE, help="Certificate (PEM) of a server with TLS, or of its authority."),
        click.option("--token-file", type=FILE, help="Holds the token that such a server demands."),
    )
