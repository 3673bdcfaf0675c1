# SPDX-License-Identifier: Apache-2.0
"""The options that name a board, alike in every command that uses one."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

FILE = click.Path(path_type=Path, dir_okay=False)
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

        for option in reversed(_options(many)):
            command = option(command)
        return command

    return decorate


def _options(many: bool) -> tuple[Callable[..., Any], ...]:
    return (
        click.option("--host", metavar="HOST[:PORT]", multiple=many, help=MANY if many else ONE),
        click.option("--port", type=click.IntRange(1, 65535), help="Port of the board's server (default: 7967)."),
        click.option("--tls-ca", type=FILE, help="Certificate (PEM) of a server with TLS, or of its authority."),
        click.option("--token-file", type=FILE, help="Holds the token that such a server demands."),
    )
